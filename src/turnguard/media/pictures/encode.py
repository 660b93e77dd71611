"""A view becomes the bytes on the wire: the smallest faithful form, no metadata, the same bytes for the same pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from turnguard.core.exchange import Picture
from turnguard.media.pictures.tiles import layout

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_ROWS = 64
_EQUAL = 0.85  # of neighbouring pixels: above it PNG is smaller, below it JPEG is (and nine times faster to make)
_JPEG_QUALITY = 92
_PNG_LEVEL = 3  # within some per cent of 9 for screens, at a fifth of the time


def squeezed(view: PillowImage, size: tuple[int, int] | None = None) -> PillowImage:
    """An RGB view as it is sent: at most 896 pixels on a side (what the model would keep), padded if it is a strip.

    `size` is the size of the region that is shown, where `view` is that region already reduced.
    """
    from PIL import Image

    scaled, canvas = layout(*(size or view.size))
    ground = view.getpixel((0, 0))
    if scaled != view.size:
        view = view.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if canvas == scaled:
        return view
    padded = Image.new("RGB", canvas, ground)
    padded.paste(view, (0, 0))
    return padded


def encode(view: PillowImage) -> Picture:
    """PNG for what is drawn (screens, text, line art), where it is smaller and exact; JPEG 4:4:4 for photographs."""
    from PIL import Image

    out = io.BytesIO()
    bare = Image.new("RGB", view.size)  # Pillow writes what it finds in `info`: profiles, comments, times
    bare.paste(view)
    if _is_drawn(bare):
        bare.save(out, "PNG", compress_level=_PNG_LEVEL)
        return Picture.of(out.getvalue(), "image/png")
    bare.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return Picture.of(out.getvalue(), "image/jpeg")


def _is_drawn(view: PillowImage) -> bool:
    """Whether neighbours are mostly equal: flat grounds and edges; a photograph has grain. Sampled in whole rows."""
    from PIL import Image, ImageChops

    if view.width < 2:
        return True
    rows = view.resize((view.width, min(_ROWS, view.height)), Image.Resampling.NEAREST)
    right = (1, 0, rows.width, rows.height)
    steps = ImageChops.difference(rows.crop(right), rows.crop((0, 0, rows.width - 1, rows.height))).convert("L")
    return steps.histogram()[0] >= _EQUAL * steps.width * steps.height
