"""A small picture that a file carries beside its own: what a file manager shows, and an attacker may have replaced."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from turnguard.media.pictures.compare import bands
from turnguard.media.pictures.metadata.blocks import thumbnails
from turnguard.media.pictures.renditions import Rendition, opaque

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_ALIKE = 40
"""Levels of 255 by which a block of 8 x 8 may differ: cameras sharpen thumbnails, and compress them coarsely."""
_BLOCK = 8


def other_thumbnails(data: bytes, stored: PillowImage, check: Callable[[tuple[int, int]], None]) -> list[Rendition]:
    """Ways to show the thumbnails in a file's metadata that do not look like its picture, as it is `stored`.

    `check` raises for a size that is not decoded. A thumbnail that no reader could decode shows nothing.
    """
    from PIL import Image

    found = []
    for thumbnail in thumbnails(data):
        try:
            # a second end: what breaks off is shown as far as it goes, as browsers do
            file = Image.open(io.BytesIO(thumbnail + b"\xff\xd9"), formats=["JPEG"])
            check(file.size)
            small = file.convert("RGB")
        except Exception:  # noqa: BLE001, S112 - decoders raise anything on malformed files
            continue
        if not _alike(small, stored):
            found.append(Rendition("its thumbnail", opaque, whole_only=True, base=small))
    return found


def _alike(small: PillowImage, stored: PillowImage) -> bool:
    """Whether a thumbnail shows what the picture shows, up to bars at its sides."""
    from PIL import Image, ImageChops

    scale = min(small.width / stored.width, small.height / stored.height)
    size = (max(1, round(stored.width * scale)), max(1, round(stored.height * scale)))
    left, upper = (small.width - size[0]) // 2, (small.height - size[1]) // 2
    shown = stored.convert("RGB") if stored.mode != "RGB" else stored
    shrunk = Image.new("RGB", small.size)
    shrunk.paste(shown.resize(size, Image.Resampling.BOX, reducing_gap=2.0), (left, upper))
    return all(high <= _ALIKE for _, high in bands(ImageChops.difference(small, shrunk).reduce(_BLOCK)))
