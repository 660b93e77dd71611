"""Pictures that viewers show differently: each way that could show something of its own is judged."""

from __future__ import annotations

import struct

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from tests.media.drawing import counted, decoded, details, encoded, font, page, prepare
from tests.media.test_budget import display_p3
from tests.media.test_pictures import chunk, with_chunk
from turnguard.core.exchange import Picture
from turnguard.media import Prepared
from turnguard.media.pictures.compare import bands

SRGB_RED, SRGB_GREEN, SRGB_BLUE = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)


def profile(curve: list[int] | None, *, grey: bool = False, swapped: bool = False) -> bytes:
    """A matrix or grey profile with a curve of 16-bit samples, or with that of sRGB's gamma."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def point(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    samples = [round(2.2 * 256)] if curve is None else curve
    shape = b"curv\0\0\0\0" + struct.pack(">I", len(samples)) + struct.pack(f">{len(samples)}H", *samples)
    red, green = (SRGB_GREEN, SRGB_RED) if swapped else (SRGB_RED, SRGB_GREEN)
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2x\0" + bytes(78), b"wtpt": point((0.9642, 1, 0.8249))}
    if grey:
        tags |= {b"kTRC": shape}
    else:
        tags |= {b"rXYZ": point(red), b"gXYZ": point(green), b"bXYZ": point(SRGB_BLUE)}
        tags |= {b"rTRC": shape, b"gTRC": shape, b"bTRC": shape}
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4sI", at + len(body), b"appl", 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    return head + bytes(28) + number(0.9642) + number(1) + number(0.8249) + bytes(48) + table + body


def step_of(levels: int) -> list[int]:
    """A curve along 2.2 that leaps by `levels` of 255 between 127 and 128."""
    out = []
    for at in range(256):
        shown = at + (levels / 2 if at > 127 else -levels / 2)
        out.append(round(65535 * (min(255, max(0, shown)) / 255) ** 2.2))
    return out


def hidden(mode: str) -> Pillow.Image:
    """Print of level 127 on a ground of level 128: nobody sees it before a curve parts them."""
    picture = Pillow.new("L", (400, 120), 128)
    ImageDraw.Draw(picture).text((20, 40), "kill the witness", font=font(24), fill=127)
    return picture.convert(mode)


def contrast(picture: Picture) -> int:
    ((low, high),) = bands(decoded(picture).convert("L"))
    return high - low


def most(prepared: Prepared) -> int:
    return max(contrast(view.picture) for view in prepared.views)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("levels", [80, 200])
async def test_a_curve_that_parts_neighbouring_levels_is_applied(mode: str, form: str, levels: int) -> None:
    curve = profile(step_of(levels), grey=mode == "L")
    options = {"quality": 100} if form == "JPEG" else {}
    prepared = await prepare(encoded(hidden(mode), form, icc_profile=curve, **options))
    assert details(prepared) == ["", "with its colour profile"]
    assert contrast(prepared.views[0].picture) < 8
    assert most(prepared) > levels * 0.6


async def test_smooth_profiles_cost_nothing() -> None:
    for smooth in (profile(None), profile(None, grey=True), display_p3()):
        picture = page((300, 200)).convert("L" if smooth[16:20] == b"GRAY" else "RGB")
        assert details(await prepare(encoded(picture, icc_profile=smooth))) == [""]


async def test_exchanged_primaries_are_shown_both_ways() -> None:
    picture = Pillow.new("RGB", (90, 90), (200, 0, 0))
    picture.paste((240, 240, 240), (20, 20, 60, 60))
    data = encoded(picture, icc_profile=profile(None, swapped=True))
    assert details(await prepare(data)) == ["", "with its colour profile"]


async def test_where_the_profile_is_broken_the_gamma_counts() -> None:
    dark = Pillow.new("L", (100, 100), 3)
    dark.paste(0, (20, 20, 80, 80))
    png = with_chunk(encoded(dark), b"gAMA", struct.pack(">I", 1_000_000))
    broken = png[:33] + chunk(b"iCCP", b"x\0\0not a profile at all") + png[33:]
    assert "with its gamma" in details(await prepare(broken))


async def test_inks_are_shown_with_and_without_their_profile() -> None:
    picture = page((200, 150)).convert("CMYK")
    plain = await prepare(encoded(picture, "JPEG"))
    assert details(plain) == [""]


async def test_a_transparent_level_of_sixteen_bits_is_shown_both_ways() -> None:
    picture = Pillow.new("I;16", (200, 100), 40_000)
    for across in range(60, 140):
        for down in range(30, 70):
            picture.putpixel((across, down), 40_050)  # a fifth of a level: seen only where one of them is transparent
    data = with_chunk(encoded(picture), b"tRNS", struct.pack(">H", 40_050))
    prepared = await prepare(data)
    assert any("transparent level" in detail for detail in details(prepared))
    assert contrast(prepared.views[0].picture) <= 1
    assert most(prepared) > 60


async def test_a_transparent_colour_of_sixteen_bits_is_shown_both_ways() -> None:
    # Pillow writes no RGB of 16 bits: 4 x 4 pixels by hand
    import zlib

    rows = b"".join(b"\0" + b"".join(struct.pack(">HHH", 40_000, 40_000 if x < 32 else 40_257, 9) for x in range(64))
                    for _ in range(64))  # fmt: skip
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
    png += chunk(b"tRNS", struct.pack(">HHH", 40_000, 40_257, 9)) + chunk(b"IDAT", zlib.compress(rows))
    prepared = await prepare(png + chunk(b"IEND", b""))
    assert most(prepared) > 60
    assert not counted(prepared)


@pytest.mark.parametrize("mode", ["F", "I"])
async def test_one_outlier_cannot_blank_deep_samples(mode: str) -> None:
    picture = Pillow.new(mode, (400, 200), 0)
    ImageDraw.Draw(picture).text((9, 70), "kill the witness", font=font(24), fill=255)
    picture.putpixel((0, 0), 10**9)
    prepared = await prepare(encoded(picture, "TIFF"))
    shown = [decoded(view.picture).convert("L").crop((9, 60, 390, 120)).getextrema() for view in prepared.views]
    assert (0, 255) in shown


async def test_samples_between_nought_and_one_are_shown() -> None:
    picture = page((200, 120)).convert("L").convert("F").point(lambda level: level / 255 + 0)
    assert most(await prepare(encoded(picture, "TIFF"))) > 200


async def test_samples_that_only_stretching_shows_are_stretched() -> None:
    picture = Pillow.new("I;16", (400, 120), 30_000)
    ImageDraw.Draw(picture).text((20, 40), "kill the witness", font=font(24), fill=30_200)
    prepared = await prepare(encoded(picture))
    assert most(prepared) > 200
