"""What a picture file becomes: views, and an entry for each that was not made."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageDraw

from tests.media.drawing import AVIF, counted, decoded, details, encoded, font, noise, page, prepare
from turnguard.core.step import Document, Image
from turnguard.media.pictures.compare import bands

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO", *(["AVIF"] if AVIF else [])]


def lines(size: tuple[int, int], ground: tuple[int, int, int] = (250, 250, 250)) -> Pillow.Image:
    """A screen full of small print."""
    picture = Pillow.new("RGB", size, ground)
    draw = ImageDraw.Draw(picture)
    for upper in range(4, size[1], 24):
        draw.text((4, upper), "many small words stand here " * max(1, size[0] // 150), font=font(12), fill=(30, 30, 30))
    return picture


def close(one: Pillow.Image, other: Pillow.Image, within: int = 40) -> bool:
    """Whether two pictures are about the same, compression apart."""
    first, second = (picture.convert("RGB").resize((32, 32)).tobytes() for picture in (one, other))
    return all(abs(a - b) <= within for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("form", FORMATS)
async def test_every_format_gives_the_picture(form: str) -> None:
    picture = page((256, 256))
    prepared = await prepare(encoded(picture, form, **({"sizes": [(256, 256)]} if form == "ICO" else {})))
    assert details(prepared) == [""]
    assert close(decoded(prepared.views[0].picture), picture)
    assert not prepared.skipped


@pytest.mark.parametrize("form", ["BMP", "TIFF", "WEBP", "GIF"])
async def test_the_same_pixels_in_another_container_are_the_same_picture(form: str) -> None:
    picture = Pillow.new("RGB", (1500, 700), (10, 200, 30))
    ImageDraw.Draw(picture).text((600, 300), "the same words", font=font(16), fill=(0, 0, 0))
    if form == "GIF":
        picture = picture.quantize(16).convert("RGB")
    one = await prepare(encoded(picture))
    other = await prepare(encoded(picture, form, **({"lossless": True} if form == "WEBP" else {})))
    assert [view.picture for view in one.views] == [view.picture for view in other.views]
    assert len(one.views) > 1


@pytest.mark.parametrize(
    "source",
    ["eps", "pdf-ish", "ppm", "psd", "gzip", "empty", "words", "html"],
)
async def test_formats_that_no_one_should_decode_here_are_refused(source: str) -> None:
    data = {
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "pdf-ish": b"%PDF-1.7 broken",
        "ppm": encoded(page(), "PPM"),
        "psd": b"8BPS" + bytes(100),
        "gzip": b"\x1f\x8b" + bytes(100),
        "empty": b"",
        "words": b"\x00\x01\x02\x03" * 10,
        "html": b"\x00",
    }[source]
    prepared = await prepare(data)
    assert not prepared.views
    assert not prepared.texts
    ((detail, cause),) = counted(prepared)
    assert detail == ""
    assert cause


MODES: list[tuple[str, str]] = [
    ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "GIF"),
    ("CMYK", "JPEG"), ("L", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("RGBA", "WEBP"),
    ("F", "TIFF"), ("I", "TIFF"), ("I;16", "TIFF"), ("I;16", "PNG"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "form"), MODES)
async def test_every_mode_is_read(mode: str, form: str) -> None:
    source = page((120, 90))
    if mode == "I;16":
        picture = source.convert("L").convert("I").point(lambda sample: sample * 257).convert("I;16")
    elif mode == "LAB":
        profile = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(source, ImageCms.createProfile("sRGB"), profile, outputMode="LAB")
        assert converted is not None
        picture = converted
    else:
        picture = source.convert(mode)
    prepared = await prepare(encoded(picture, form))
    assert not counted(prepared)
    assert any(close(decoded(view.picture), source, 70) for view in prepared.views)


async def test_sixteen_bits_are_scaled_and_what_clipping_would_show_is_judged_too() -> None:
    ramp = Pillow.linear_gradient("L").convert("I").point(lambda sample: sample * 257).convert("I;16")
    prepared = await prepare(encoded(ramp))
    shown = decoded(prepared.views[0].picture).convert("L")
    assert shown.getextrema() == (0, 255)
    assert abs(shown.getpixel((128, 128)) - 128) < 8  # type: ignore[operator]
    hidden = page((200, 100)).convert("L").convert("I").convert("I;16")  # values up to 255 of 65535: black when scaled
    prepared = await prepare(encoded(hidden))
    assert details(prepared) == ["", "clipped to 8 bits"]
    assert close(decoded(prepared.views[1].picture), page((200, 100)))


# ---------------------------------------------------------------- transparency


def on_nothing(ink: tuple[int, int, int, int], ground: tuple[int, int, int, int]) -> Pillow.Image:
    picture = Pillow.new("RGBA", (300, 120), ground)
    ImageDraw.Draw(picture).rectangle((50, 30, 250, 90), fill=ink)
    return picture


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
async def test_what_is_hidden_by_a_white_ground_is_seen_on_a_dark_one(form: str) -> None:
    picture = on_nothing((255, 255, 255, 255), (255, 255, 255, 0))
    prepared = await prepare(encoded(picture, form, **({"lossless": True} if form == "WEBP" else {})))
    assert details(prepared) == ["", "on dark ground"]
    light, dark = (decoded(view.picture) for view in prepared.views)
    assert light.getextrema() == ((255, 255),) * 3
    assert dark.getpixel((10, 10)) == (0, 0, 0)
    assert dark.getpixel((150, 60)) == (255, 255, 255)


async def test_what_dropping_the_transparency_would_show_is_seen() -> None:
    picture = on_nothing((200, 0, 0, 0), (0, 0, 200, 0))  # fully transparent, and yet two colours
    prepared = await prepare(encoded(picture))
    assert details(prepared) == ["", "without its transparency"]
    assert decoded(prepared.views[1].picture).getpixel((150, 60)) == (200, 0, 0)
    assert [(entry.detail, entry.cause) for entry in prepared.skipped] == [("on dark ground", "a single colour")]


async def test_a_transparent_colour_of_a_palette_counts() -> None:
    picture = Pillow.new("P", (60, 60), 0)
    picture.putpalette([255, 255, 255, 254, 254, 254] + [0] * 750)
    picture.paste(1, (10, 10, 50, 50))
    assert details(await prepare(encoded(picture, transparency=0))) == ["", "on dark ground"]


async def test_an_opaque_alpha_channel_costs_nothing() -> None:
    assert details(await prepare(encoded(page().convert("RGBA")))) == [""]


async def test_tiles_that_look_the_same_on_both_grounds_are_judged_once() -> None:
    picture = lines((2000, 900)).convert("RGBA")
    picture.paste((0, 0, 0, 0), (1900, 800, 2000, 900))
    prepared = await prepare(encoded(picture))
    assert sorted(details(prepared)) == [
        "",
        "on dark ground",
        "on dark ground, tile 2 of 2",
        "tile 1 of 2",
        "tile 2 of 2",
    ]
    assert not counted(prepared)


# ---------------------------------------------------------------- orientation, profiles, gamma


@pytest.mark.parametrize("orientation", range(2, 9))
async def test_orientation_is_applied_and_the_stored_way_is_judged_too(orientation: int) -> None:
    upright = Pillow.new("RGB", (200, 100), (255, 255, 255))
    upright.paste((255, 0, 0), (0, 0, 100, 50))
    back = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT, 3: Pillow.Transpose.ROTATE_180, 4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE, 6: Pillow.Transpose.ROTATE_90, 7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright.transpose(back)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    prepared = await prepare(encoded(stored, exif=exif))
    assert details(prepared) == ["", "as stored, not turned upright"]
    assert decoded(prepared.views[0].picture).tobytes() == upright.tobytes()
    assert decoded(prepared.views[1].picture).tobytes() == stored.tobytes()


async def test_an_ordinary_profile_changes_nothing_and_metadata_is_gone() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pillow.Exif()
    exif[0x010E] = "a description with secrets"
    for form in ("PNG", "JPEG"):
        prepared = await prepare(encoded(page(), form, icc_profile=profile, exif=exif))
        assert details(prepared) == [""]
        assert b"secrets" not in prepared.views[0].picture.data
        assert b"ICC" not in prepared.views[0].picture.data
        assert b"iCCP" not in prepared.views[0].picture.data


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    return png[:33] + chunk(name, body) + png[33:]


async def test_a_gamma_that_would_show_something_else_is_judged() -> None:
    dark = Pillow.new("L", (100, 100), 3)
    dark.paste(0, (20, 20, 80, 80))
    plain = encoded(dark)
    assert details(await prepare(plain)) == [""]
    assert details(await prepare(with_chunk(plain, b"gAMA", struct.pack(">I", 45455)))) == [""]
    prepared = await prepare(with_chunk(plain, b"gAMA", struct.pack(">I", 1_000_000)))
    assert details(prepared) == ["", "with its gamma"]
    assert decoded(prepared.views[1].picture).convert("L").getpixel((5, 5)) > 100  # type: ignore[operator]


async def test_a_profile_that_would_show_something_else_is_judged() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")  # entries of the tag table: name, offset, size
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    picture = Pillow.new("RGB", (100, 100), (200, 0, 0))
    picture.paste((190, 0, 0), (20, 20, 80, 80))
    prepared = await prepare(encoded(picture, icc_profile=bytes(profile)))
    assert details(prepared) == ["", "with its colour profile"]
    red_level, green_level, _ = decoded(prepared.views[1].picture).getpixel((5, 5))  # type: ignore[misc]
    assert green_level > red_level


async def test_a_broken_profile_is_ignored_as_viewers_do() -> None:
    prepared = await prepare(encoded(page(), icc_profile=b"no profile at all" * 20))
    assert details(prepared) == [""]


# ---------------------------------------------------------------- frames and pages


def frames(count: int, size: tuple[int, int] = (120, 90)) -> list[Pillow.Image]:
    return [page(size, f"frame {at}") for at in range(count)]


SAVES: dict[str, dict[str, Any]] = {
    "GIF": {"duration": 100, "loop": 0},
    "PNG": {"duration": 100},
    "WEBP": {"duration": 100, "lossless": True},
    "TIFF": {},
}


@pytest.mark.parametrize("form", SAVES)
async def test_every_visibly_distinct_frame_is_judged_once(form: str) -> None:
    one, two, three = frames(3)
    still = [one, two, one, two, three]
    data = encoded(still[0], form, save_all=True, append_images=still[1:], **SAVES[form])
    prepared = await prepare(data)
    shown = [view for view in sorted(details(prepared)) if view.startswith("frame")]
    assert len(shown) == 3
    assert not counted(prepared)
    assert all(not entry.counts for entry in prepared.skipped)


async def test_faint_print_in_one_frame_makes_it_distinct() -> None:
    blank = Pillow.new("RGB", (400, 300), (200, 200, 200))
    blank.paste((100, 100, 100), (0, 280, 400, 300))
    faint = blank.copy()
    ImageDraw.Draw(faint).text((100, 100), "kill the witness", font=font(12), fill=(184, 184, 184))
    prepared = await prepare(encoded(blank, "TIFF", save_all=True, append_images=[faint]))
    assert details(prepared) == ["frame 1", "frame 2"]


def moving(count: int, size: tuple[int, int]) -> bytes:
    """A GIF whose square moves; every third frame says something else too."""
    stills = []
    for at in range(count):
        still = Pillow.new("RGB", size, (240, 240, 240))
        left = at * (size[0] - 40) // count
        still.paste((30, 60, 200), (left, 20, left + 40, 60))
        if at % 3 == 0:
            ImageDraw.Draw(still).text((20, size[1] - 40), f"scene {at}", font=font(18), fill=(20, 20, 20))
        stills.append(still)
    return encoded(stills[0], "GIF", save_all=True, append_images=stills[1:], duration=100)


async def test_frames_beyond_the_bound_share_contact_sheets() -> None:
    prepared = await prepare(moving(9, (120, 90)), max_frames=4)
    alone = [detail for detail in details(prepared) if "sheet" not in detail]
    assert len(alone) == 4
    assert len(prepared.views) == 5
    assert not counted(prepared)
    assert not prepared.reduced


async def test_a_hundred_frames_are_judged_in_full_within_the_default_budget() -> None:
    prepared = await prepare(moving(100, (480, 270)))
    assert len(prepared.views) <= 64
    assert not counted(prepared)
    assert not prepared.reduced
    shown = " ".join(details(prepared))
    assert shown.count("contact sheet") == len(prepared.views) - 32


async def test_frames_on_a_sheet_stand_in_their_order_and_are_not_cut() -> None:
    prepared = await prepare(moving(9, (480, 270)), limit=2)
    sheet = decoded(next(view.picture for view in prepared.views if "sheet" in view.detail)).convert("RGB")
    assert sheet.size == (896, 896)
    assert not counted(prepared)
    with_the_square = [
        (across, down)
        for down in range(4)
        for across in range(2)
        if bands(sheet.crop((across * 448, down * 224, across * 448 + 448, down * 224 + 224)))[0][0] < 60
    ]
    assert len(with_the_square) == 8


async def test_a_coarse_sheet_is_said_to_be_coarse_and_what_fits_none_is_sampled() -> None:
    data = moving(60, (480, 270))
    prepared = await prepare(data, limit=4)
    assert not counted(prepared)
    assert prepared.reduced
    assert all(0.41 <= entry.scale < 0.81 for entry in prepared.reduced)
    assert prepared.wanted > 4
    prepared = await prepare(data, limit=1)
    causes = {cause for _, cause in counted(prepared)}
    assert causes == {"sampled: more than fit on contact sheets"}
    kept = 60 - len(counted(prepared))
    assert kept == 32  # 4 x 8 cells at a scale of 0.41
    assert ("frame 1", "sampled: more than fit on contact sheets") not in counted(prepared)


async def test_thousands_of_frames_are_refused_before_anyone_counts_them() -> None:
    one = encoded(Pillow.new("L", (1, 1)), "GIF")
    start = one.index(b",")
    frame = one[start:-1]
    gif = one[:start] + frame * 300_000 + b";"
    tiff = bytearray(b"II*\0" + struct.pack("<I", 8))
    for at in range(300_000):
        tiff += struct.pack("<HI", 0, 8 + 6 * (at + 1))
    for data in (gif, bytes(tiff)):
        begun = time.process_time()
        assert counted(await prepare(data)) == [("", "more than 1,000 frames")]
        assert time.process_time() - begun < 3


async def test_a_truncated_animation_is_not_half_allowed() -> None:
    many = frames(6)
    data = encoded(many[0], "GIF", save_all=True, append_images=many[1:], duration=100)
    prepared = await prepare(data[: len(data) * 2 // 3])
    assert counted(prepared)


async def test_a_second_picture_in_a_phone_photo_is_judged() -> None:
    out = io.BytesIO()
    page().save(out, "MPO", save_all=True, append_images=[page(text="something else")])
    assert sorted(details(await prepare(out.getvalue()))) == ["", "behind its end"]


async def test_every_picture_of_an_icon_is_judged() -> None:
    small, large = page((32, 32)), page((64, 64), "x")
    data = encoded(large, "ICO", sizes=[(32, 32), (64, 64)], append_images=[small])
    assert len((await prepare(data)).views) == 2


# ---------------------------------------------------------------- limits


def png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = encoded(Pillow.new("1", (12_000, 9_000)))  # 108 megapixels in a few kilobytes
    assert len(bomb) < 400_000
    for data in (bomb, png_header(2**31 - 1, 2**31 - 1), png_header(100_000, 100_000)):
        assert counted(await prepare(data)) == [("", "more than 50,000,000 pixels")]


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG", "WEBP", "TIFF"])
async def test_the_pixel_limit_is_the_settings_own(form: str) -> None:
    data = encoded(noise((300, 200)), form)
    assert counted(await prepare(data, max_pixels=59_999)) == [("", "more than 59,999 pixels")]
    assert (await prepare(data, max_pixels=60_000)).views


async def test_too_many_bytes() -> None:
    data = encoded(noise((100, 100)))
    assert counted(await prepare(data, max_bytes=1000)) == [("", "more than 1,000 bytes")]


async def test_a_frame_of_an_animation_cannot_enlarge_the_screen_beyond_the_limit() -> None:
    one = encoded(page((50, 50)), "GIF")
    start = one.index(b",", 13 + (3 << ((one[10] & 7) + 1)))  # behind the colour table
    frame = bytearray(one[start:-1])
    frame[5:9] = b"\xff\xff\xff\xff"
    data = one[:-1] + bytes(frame) + b";"
    assert counted(await prepare(data, max_pixels=10_000)) == [("", "more than 10,000 pixels")]


async def test_a_later_frame_may_not_be_larger_than_allowed() -> None:
    data = encoded(page((50, 50)), "TIFF", save_all=True, append_images=[page((500, 500))])
    prepared = await prepare(data, max_pixels=10_000)
    assert details(prepared) == ["frame 1"]
    assert counted(prepared) == [("frame 2", "more than 10,000 pixels")]


@pytest.mark.parametrize("form", FORMATS)
async def test_truncated_files_are_uncheckable(form: str) -> None:
    data = encoded(noise((200, 200)), form)
    prepared = await prepare(data[: len(data) // 2])
    assert not prepared.views
    assert counted(prepared)


# ---------------------------------------------------------------- tiles


async def test_a_large_screen_is_judged_whole_and_in_tiles() -> None:
    prepared = await prepare(encoded(lines((1920, 1080))))
    assert sorted(details(prepared)) == ["", "tile 1 of 2", "tile 2 of 2"]
    assert details(prepared)[0] == ""
    assert [view.risk for view in prepared.views] == sorted((view.risk for view in prepared.views), reverse=True)
    assert not prepared.skipped
    assert all(max(decoded(view.picture).size) <= 896 for view in prepared.views)


async def test_tiles_of_a_single_colour_and_tiles_that_show_nothing_new_are_named_and_do_not_count() -> None:
    picture = Pillow.new("RGB", (3840, 2160), (250, 250, 250))
    ImageDraw.Draw(picture).text((300, 300), "kill the witness", font=font(12), fill=(20, 20, 20))
    prepared = await prepare(encoded(picture))
    assert details(prepared) == ["", "tile 1 of 8"]
    assert [(entry.cause, entry.counts) for entry in prepared.skipped] == [("a single colour", False)] * 7
    smooth = Pillow.linear_gradient("L").resize((1400, 1400), Pillow.Resampling.BICUBIC).convert("RGB")
    prepared = await prepare(encoded(smooth))
    assert details(prepared) == [""]
    assert {entry.cause for entry in prepared.skipped} == {"the whole view shows all of it"}
    assert not counted(prepared)


@pytest.mark.parametrize("size", [(1300, 1000), (1920, 1080), (3840, 2160)])
async def test_faint_print_still_calls_for_its_tile(size: tuple[int, int]) -> None:
    picture = Pillow.new("RGB", size, (200, 200, 200))
    where = (size[0] - 150, size[1] - 40)
    ImageDraw.Draw(picture).text(where, "kill the witness", font=font(12), fill=(188, 188, 188))
    assert len((await prepare(encoded(picture))).views) == 2


async def test_colours_of_equal_brightness_are_told_apart() -> None:
    picture = Pillow.new("RGB", (2000, 1000), (0, 120, 0))
    ImageDraw.Draw(picture).text((300, 300), "kill the witness", font=font(12), fill=(236, 0, 0))  # the same L
    assert len((await prepare(encoded(picture))).views) == 2


async def test_the_riskiest_tiles_come_first_where_the_budget_binds() -> None:
    picture = lines((3840, 2160), (120, 120, 120))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((2900, 1200, 3839, 2159), fill=(250, 250, 250))
    for upper in range(1250, 2100, 20):
        draw.text((2950, upper), "stark small print in the corner of it " * 2, font=font(12), fill=(0, 0, 0))
    prepared = await prepare(encoded(picture), limit=2)  # even the coarsest tiles are two
    assert details(prepared) == ["", "tile 2 of 2"]
    assert counted(prepared) == [("tile 1 of 2", "beyond 2 requests")]


async def test_tiles_are_as_fine_as_the_budget_allows_and_the_scale_is_said() -> None:
    data = encoded(lines((3840, 2160)))
    found = {}
    for limit in (3, 7, 9, 64):
        prepared = await prepare(data, limit=limit)
        assert not counted(prepared)
        assert len(prepared.views) <= limit
        assert prepared.wanted == 9
        found[limit] = prepared.reduced[0].scale if prepared.reduced else None
    assert found[3] is not None
    assert found[7] is not None
    assert 0.41 <= found[3] < found[7] < 0.81
    assert found[9] is found[64] is None


async def test_a_picture_that_no_tile_would_improve_is_never_called_coarse() -> None:
    smooth = Pillow.linear_gradient("L").resize((3000, 3000), Pillow.Resampling.BICUBIC).convert("RGB")
    prepared = await prepare(encoded(smooth), limit=1)
    assert not prepared.reduced
    assert not counted(prepared)


async def test_tiles_can_be_switched_off_and_that_is_said() -> None:
    prepared = await prepare(encoded(lines((1920, 1080))), tiles="never")
    assert details(prepared) == [""]
    assert [(entry.detail, entry.counts) for entry in prepared.skipped] == [("fine detail", False)]


@pytest.mark.parametrize("size", [(6000, 40), (40, 6000), (3000, 500)])
async def test_extreme_shapes_are_cut_and_not_squashed(size: tuple[int, int]) -> None:
    prepared = await prepare(encoded(lines(size)))
    assert len(prepared.views) == {(6000, 40): 8, (40, 6000): 7, (3000, 500): 5}[size]
    for view in prepared.views:
        shown = decoded(view.picture)
        assert 0.4 < shown.width / shown.height < 2.5
    assert not counted(prepared)


async def test_no_room_at_all_is_said() -> None:
    prepared = await prepare(encoded(page()), limit=0)
    assert not prepared.views
    assert counted(prepared) == [("", "beyond 0 requests")]


# ---------------------------------------------------------------- pinning


async def test_bytes_and_data_uris_stay_as_they_came() -> None:
    import base64

    data = encoded(page())
    for part in (Image(data), Document(data), Image(f"data:image/png;base64,{base64.b64encode(data).decode()}")):
        assert (await prepare(part)).pinned is part


async def test_a_path_becomes_the_bytes_that_were_judged(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(page()))
    prepared = await prepare(Image(file))
    assert prepared.pinned.source == file.read_bytes()
    assert prepared.views
    for missing in (tmp_path / "none.png", tmp_path):
        assert counted(await prepare(Image(missing))) == [("", "no such file")]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "L", "1", "F", "HSV"])
async def test_a_pillow_image_becomes_a_snapshot(mode: str) -> None:
    picture = page().convert(mode)
    prepared = await prepare(Image(picture))
    assert isinstance(prepared.pinned.source, bytes)
    with Pillow.open(io.BytesIO(prepared.pinned.source)) as pinned:
        assert close(pinned, page(), 60)
    again = await prepare(Image(prepared.pinned.source))
    assert [view.picture for view in again.views] == [view.picture for view in prepared.views]


async def test_the_callers_picture_is_left_as_it_was() -> None:
    picture = page()
    before = dict(vars(picture))
    await prepare(Image(picture))
    assert {name: value for name, value in vars(picture).items() if name != "_im"} == {
        name: value for name, value in before.items() if name != "_im"
    }


async def test_what_it_is_called_does_not_matter() -> None:
    data = encoded(page())
    assert (await prepare(Document(data, "application/pdf"))).views
    assert (await prepare(Image(data, "image/jpeg"))).views


async def test_photographs_go_as_jpeg_and_screens_as_png() -> None:
    photo, screen = await prepare(encoded(noise((500, 400)))), await prepare(encoded(page((500, 400))))
    assert photo.views[0].picture.media_type == "image/jpeg"
    assert screen.views[0].picture.media_type == "image/png"
    assert photo.views[0].picture.data[:3] == b"\xff\xd8\xff"
