"""Cut a picture into tiles, and paint over some of them. Blocking: runs in a worker thread."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from turnguard.media import sniff
from turnguard.media.pictures.decode import PictureFile
from turnguard.media.pictures.tiles import LEGIBLE, Box, grid
from turnguard.media.types import Unreadable
from turnguard.runtime.quiet import at_work, hush_package

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MOST = 16
"""Tiles at most."""
_ALONG = 3  # tiles along each side of a picture that one view shows
_LEAST = 48  # pixels: smaller tiles would show nothing
_INK = (0, 0, 0)


def cut(data: bytes, max_pixels: int) -> list[tuple[Box, bytes]]:
    """The tiles of a still picture as PNG, with the box of each; none where it is too small, or cannot be painted."""
    picture = _read(data, max_pixels)
    if picture is None:
        return []
    return [(box, _encoded(picture.crop(box))) for box in _boxes(*picture.size)]


def painted(data: bytes, boxes: Iterable[Box], max_pixels: int) -> bytes:
    """The picture as PNG with the boxes painted over, and without its metadata."""
    picture = _read(data, max_pixels)
    if picture is None:
        raise Unreadable("not a still picture")
    for box in boxes:
        picture.paste(_INK, box)
    return _encoded(picture)


def _boxes(width: int, height: int) -> list[Box]:
    longest = LEGIBLE
    while len(boxes := grid(width, height, longest)) > MOST:
        longest = longest * 5 // 4
    if boxes:
        return boxes
    across, down = (max(1, min(_ALONG, side // _LEAST)) for side in (width, height))
    if across * down == 1:
        return []
    return [
        Box(width * x // across, height * y // down, width * (x + 1) // across, height * (y + 1) // down)
        for y in range(down)
        for x in range(across)
    ]


def _read(data: bytes, max_pixels: int) -> PillowImage | None:
    """The picture as it is usually shown; None for animations and for what only a child may decode."""
    from PIL import Image

    if sniff.image_type(data) in (None, "image/heic"):
        return None
    Image.init()
    hush_package("PIL")
    with at_work():
        file = PictureFile(data, max_pixels)
        if file.count != 1:
            return None
        picture, ways = file.load(0)
        shown = ways[0].of(picture)
    return shown.copy() if shown is picture else shown


def _encoded(picture: PillowImage) -> bytes:
    from PIL import Image

    bare = Image.new("RGB", picture.size)  # Pillow writes what it finds in `info`
    bare.paste(picture)
    out = io.BytesIO()
    bare.save(out, "PNG", compress_level=3)
    return out.getvalue()
