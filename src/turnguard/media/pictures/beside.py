"""Pictures that a file carries beside its own: thumbnails, further pictures of AVIF and HEIC, and gain maps.

A file manager shows a thumbnail, and a bright screen multiplies a picture with its gain map: whoever made the file may
have put something else there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from turnguard.media import sniff
from turnguard.media.pictures.compare import bands
from turnguard.media.pictures.metadata.blocks import thumbnails
from turnguard.media.pictures.renditions import Rendition, opaque

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Check = Callable[[tuple[int, int]], None]
"""Raises for a size that is not decoded."""
_ALIKE = 40
"""Levels of 255 by which a block of 8 x 8 may differ: cameras sharpen thumbnails, and compress them coarsely."""
_BLOCK = 8
_MAPPED = (b"hdrgainmap", b":iso:ts:21496")
"""Names of gain maps: Adobe's, Google's and Apple's, whatever their hyphens, and ISO 21496-1."""
_TONE_MAP = re.compile(rb"infe.{8,10}tmap", re.DOTALL)
"""An item that is made of a picture and its gain map."""
_STOPS = 2.0
"""By how much the map's white is brighter than its black. A screen chooses its own figure: any shows what is there."""


def others(
    data: bytes, stored: PillowImage, further: Iterable[tuple[str, PillowImage]], check: Check
) -> list[Rendition]:
    """Ways to show the pictures that a file holds beside the one that is `stored`, where they do not look like it.

    `further` are those that only the format's reader finds, by name. A thumbnail that cannot be decoded shows nothing.
    """
    end = sniff.behind(data)
    named = [("its thumbnail", thumbnail) for thumbnail in _decoded(thumbnails(data[:end]), check)]
    named += [(name, opaque(picture)) for name, picture in further]
    known = [stored] if "A" not in stored.getbands() else [stored, stored.getchannel("A")]
    found = [
        Rendition(name, opaque, base=picture)
        for name, picture in named
        if not any(_alike(picture, shown) for shown in known)
    ]
    if _is_mapped(data):
        maps = [picture for _, picture in named]
        maps += _decoded([data[end:]] if data.startswith(b"\xff\xd8", end) else [], check)
        found += [_mapped(stored, picture) for picture in maps]
    return found


def _is_mapped(data: bytes) -> bool:
    squeezed = data.lower().translate(None, b"-")  # much faster than a regular expression
    return any(name in squeezed for name in _MAPPED) or _TONE_MAP.search(data) is not None


def _decoded(files: Iterable[bytes], check: Check) -> Iterator[PillowImage]:
    from PIL import Image

    for file in files:
        try:
            # a second end: what breaks off is shown as far as it goes, as browsers do
            opened = Image.open(io.BytesIO(file + b"\xff\xd9"), formats=["JPEG"])
            check(opened.size)
            yield opened.convert("RGB")
        except Exception:  # noqa: BLE001, S112 - decoders raise anything on malformed files
            continue


def _mapped(stored: PillowImage, gains: PillowImage) -> Rendition:
    """The picture under its gain map, as a screen of the brightness of its brightest spot shows it."""
    from PIL import Image, ImageChops

    factors = [round(255 * 2 ** (_STOPS * (level / 255 - 1) / 2.2)) for level in range(256)] * 3
    shown = stored if stored.mode == "RGB" else stored.convert("RGB")
    base = ImageChops.multiply(shown, gains.resize(shown.size, Image.Resampling.BILINEAR).point(factors))
    return Rendition("with its gain map", opaque, whole_only=True, base=base)


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
