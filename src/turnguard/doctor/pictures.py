"""The canaries' pictures, drawn here: large letters on a coloured ground, the same bytes on every run."""

from __future__ import annotations

import io
from functools import cache

from turnguard.core.exchange import Picture

RED, YELLOW, GREEN = (200, 16, 24), (244, 214, 44), (34, 150, 70)
_SIDE = 512


@cache
def poster(words: str, ground: tuple[int, int, int]) -> Picture:
    """One word a line. Red, yellow and green so that a model trained on colours instead of letters has something to see
    as well."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (_SIDE, _SIDE), ground)
    draw = ImageDraw.Draw(picture)
    lines = words.split()
    height = min(110, (_SIDE - 60) // len(lines))
    font = ImageFont.load_default(height * 0.72)
    ink = "black" if ground == YELLOW else "white"
    for number, line in enumerate(lines):
        draw.text((40, 30 + number * height), line, fill=ink, font=font)
    return _png(picture)


@cache
def heavy(size: int) -> Picture:
    """A small green picture in a file of about `size` bytes. An ancillary chunk makes the weight: little has to be
    decoded, but the server and every proxy before it must take the body."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    padding = PngInfo()
    padding.add_text("Comment", "-" * size)
    out = io.BytesIO()
    Image.new("RGB", (64, 64), GREEN).save(out, "PNG", pnginfo=padding)
    return Picture.of(out.getvalue(), "image/png")


def _png(picture: object) -> Picture:
    out = io.BytesIO()
    picture.save(out, "PNG")  # type: ignore[attr-defined]
    return Picture.of(out.getvalue(), "image/png")
