"""A thumbnail in a file's metadata is judged where it shows something else than the picture."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import ExifTags
from PIL import Image as Pillow

from tests.media.drawing import counted, decoded, details, encoded, noise, page, prepare

OTHER = page((160, 120), "UNSAFE", (250, 250, 250))


def with_thumbnail(picture: Pillow.Image, thumbnail: bytes, form: str = "JPEG") -> bytes:
    """The picture with an EXIF block as cameras write it: one directory for it, a second one for its thumbnail."""
    first = struct.pack("<H", 1) + struct.pack("<HHI4s", 0x010F, 2, 2, b"x\0") + struct.pack("<I", 26)
    entries = ((0x0103, 3, 6), (0x0201, 4, 26 + 2 + 3 * 12 + 4), (0x0202, 4, len(thumbnail)))
    second = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    tiff = b"II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + thumbnail
    data = encoded(picture, form)
    if form == "PNG":
        return (
            data[:33]
            + struct.pack(">I", len(tiff))
            + b"eXIf"
            + tiff
            + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
            + data[33:]
        )
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def photo(size: tuple[int, int] = (1600, 1200)) -> Pillow.Image:
    return noise((40, 30)).resize(size, Pillow.Resampling.BICUBIC)


def own(picture: Pillow.Image, size: tuple[int, int] = (160, 120)) -> bytes:
    """The thumbnail that a camera would make: shrunk, in the middle of black bars where the shape differs."""
    shrunk = picture.copy()
    shrunk.thumbnail(size)
    made = Pillow.new("RGB", size)
    made.paste(shrunk, ((size[0] - shrunk.width) // 2, (size[1] - shrunk.height) // 2))
    return encoded(made, "JPEG", quality=60)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
async def test_a_thumbnail_that_shows_something_else_is_a_view(form: str) -> None:
    prepared = await prepare(with_thumbnail(photo((400, 300)), encoded(OTHER, "JPEG"), form))
    assert "its thumbnail" in details(prepared)
    at = details(prepared).index("its thumbnail")
    assert decoded(prepared.views[at].picture).size == OTHER.size
    assert counted(prepared) == []


@pytest.mark.parametrize("size", [(1600, 1200), (1620, 1080), (1080, 1620)])
async def test_the_cameras_own_thumbnail_costs_nothing(size: tuple[int, int]) -> None:
    picture = photo(size)
    file = with_thumbnail(picture, own(picture))
    assert Pillow.open(io.BytesIO(file)).getexif().get_ifd(ExifTags.IFD.IFD1)  # readers do see it
    plain = await prepare(encoded(picture, "JPEG"))
    assert details(await prepare(file)) == details(plain)


async def test_a_turned_photo_and_its_thumbnail_are_alike() -> None:
    picture = photo()
    turned = with_thumbnail(picture, own(picture)).replace(
        struct.pack("<HHI4s", 0x010F, 2, 2, b"x\0"), struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), 1
    )
    assert Pillow.open(io.BytesIO(turned)).getexif()[0x0112] == 6
    assert "its thumbnail" not in details(await prepare(turned))


@pytest.mark.parametrize("kind", ["an end in a comment", "cut off"])
async def test_a_thumbnail_that_hides_its_end_is_seen(kind: str) -> None:
    thumbnail = encoded(OTHER, "JPEG")
    if kind == "cut off":
        thumbnail = thumbnail[: len(thumbnail) * 2 // 3]
    else:
        thumbnail = thumbnail[:2] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + thumbnail[2:]
    assert "its thumbnail" in details(await prepare(with_thumbnail(photo((400, 300)), thumbnail)))


async def test_bytes_that_only_look_like_a_thumbnail_are_none() -> None:
    prepared = await prepare(with_thumbnail(photo((400, 300)), b"\xff\xd8\xff" + bytes(300)))
    assert "its thumbnail" not in details(prepared)
