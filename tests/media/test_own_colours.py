"""Pictures that other viewers show in other colours: code points, primaries and gain maps."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image as Pillow
from PIL import ImageStat

from tests.media.drawing import counted, decoded, details, encoded, noise, page, prepare
from tests.media.planted.drawn import HEIC

P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
EXCHANGED = (31270, 32900, 15000, 6000, 30000, 60000, 64000, 33000)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks: bytes) -> bytes:
    data = encoded(noise((64, 48)))
    return data[:33] + b"".join(chunks) + data[33:]


def primaries(values: tuple[int, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *values))


@pytest.mark.parametrize("codes", [b"\1\x0d\0\1", b"\x0c\x0d\0\1", b"\2\2\0\1", b"\1\1\0\1"])
async def test_code_points_of_ordinary_colours_cost_nothing(codes: bytes) -> None:
    prepared = await prepare(png(chunk(b"cICP", codes)))
    assert details(prepared) == [""]
    assert counted(prepared) == []


@pytest.mark.parametrize("codes", [b"\x09\x10\0\1", b"\x09\x12\0\1", b"\1\x08\0\1"], ids=["PQ", "HLG", "linear"])
async def test_code_points_that_change_what_is_seen_are_shown_both_ways(codes: bytes) -> None:
    assert details(await prepare(png(chunk(b"cICP", codes)))) == ["", "with its own colours"]


@pytest.mark.parametrize("codes", [b"\x08\x0d\0\1", b"\1\x0b\0\1", b"\1\x0d\0\0", b"\1\x0d\1\1", b"\1"])
async def test_code_points_that_are_not_applied_are_listed(codes: bytes) -> None:
    assert counted(await prepare(png(chunk(b"cICP", codes)))) == [
        ("colours", "code points of colours that are not applied here")
    ]


async def test_code_points_inside_another_chunk_are_none() -> None:
    decoy = chunk(b"tEXt", b"Comment\0cICP\1\x0d\0\1")
    assert "with its own colours" in details(await prepare(png(decoy, chunk(b"cICP", b"\x09\x10\0\1"))))


async def test_pq_brings_out_what_the_samples_hide() -> None:
    """Two levels of 16 part by 60 on the screen of a viewer that applies PQ."""
    dark = Pillow.new("RGB", (400, 200), (100, 100, 100))
    dark.paste((116, 116, 116), (100, 50, 300, 150))
    data = encoded(dark)
    prepared = await prepare(data[:33] + chunk(b"cICP", b"\x09\x10\0\1") + data[33:])
    view = decoded(prepared.views[details(prepared).index("with its own colours")].picture).convert("L")
    darkest, lightest = view.getextrema()
    assert float(str(lightest)) - float(str(darkest)) > 20


@pytest.mark.parametrize(("values", "ways"), [(SRGB, 1), (P3, 1), (EXCHANGED, 2)])
async def test_primaries_are_applied_where_they_matter(values: tuple[int, ...], ways: int) -> None:
    assert len(details(await prepare(png(primaries(values))))) == ways


@pytest.mark.parametrize("values", [(0,) * 8, (31270, 32900) * 4, (100000, 1, 3, 100000, 1, 1, 5, 5)])
async def test_impossible_primaries_do_no_harm(values: tuple[int, ...]) -> None:
    prepared = await prepare(png(primaries(values)))
    assert prepared.views


# ---------------------------------------------------------------- gain maps, and pictures behind the end

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/'/>"


def with_gain_map(picture: Pillow.Image, gains: Pillow.Image, between: bytes = b"") -> bytes:
    """A photo as Android phones write it: the map is a second JPEG behind the first."""
    data = encoded(picture, "JPEG", quality=92)
    segment = b"\xff\xe1" + struct.pack(">H", len(XMP) + 2) + XMP
    return data[:2] + segment + data[2:] + between + encoded(gains, "JPEG", quality=92)


def halves(size: tuple[int, int] = (512, 256)) -> tuple[Pillow.Image, Pillow.Image]:
    """Two pictures of noise whose product shows a bright box that neither of them shows."""
    chance = noise((size[0] // 8, size[1] // 8)).convert("L").point(lambda level: 255 if level > 127 else 0)
    flipped = chance.copy()
    box = (16, 8, 48, 24)
    flipped.paste(chance.crop(box).point(lambda level: 255 - level), box)
    first = chance.point(lambda level: 90 if level else 168).resize(size, Pillow.Resampling.NEAREST)
    return first.convert("RGB"), flipped.resize(size, Pillow.Resampling.NEAREST)


@pytest.mark.parametrize("between", [b"", bytes(40)])
async def test_a_gain_map_is_a_view_and_so_is_the_picture_under_it(between: bytes) -> None:
    gains = page((400, 300), "UNSAFE").convert("L")
    prepared = await prepare(with_gain_map(noise((1000, 750)), gains, between))
    assert sorted(details(prepared))[:3] == ["", "behind its end", "with its gain map"]
    assert counted(prepared) == []


async def test_what_only_the_product_of_a_picture_and_its_map_shows_is_shown() -> None:
    def contrast(view: Pillow.Image) -> float:
        grey = view.convert("L").resize((32, 16), Pillow.Resampling.BOX)
        inside, outside = (ImageStat.Stat(grey.crop(box)).mean[0] for box in ((9, 5, 23, 11), (0, 0, 6, 16)))
        return abs(inside - outside)

    prepared = await prepare(with_gain_map(*halves()))
    shown = {view.detail: contrast(decoded(view.picture)) for view in prepared.views}
    assert shown[""] < 12
    assert shown["with its gain map"] > 2 * shown[""] + 5


async def test_a_phone_photo_with_a_gain_map_of_twelve_megapixels_passes() -> None:
    photo = noise((63, 47)).resize((4032, 3024), Pillow.Resampling.BICUBIC)
    prepared = await prepare(with_gain_map(photo, photo.convert("L").resize((1008, 756))), limit=32)
    assert counted(prepared) == []
    assert prepared.reduced == ()


async def test_a_picture_of_another_format_behind_the_end_is_judged() -> None:
    prepared = await prepare(encoded(noise((90, 70)), "JPEG") + encoded(page((300, 200))))
    assert sorted(details(prepared)) == ["", "behind its end"]


async def test_heic_behind_a_photo_is_read_in_a_child() -> None:
    pytest.importorskip("pi_heif")
    from turnguard.media.read import needs_child

    data = encoded(noise((90, 70)), "JPEG") + HEIC
    assert needs_child(data, ("image",))
    assert sorted(details(await prepare(data))) == ["", "behind its end"]
