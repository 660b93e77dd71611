"""The demo's pictures and its document, drawn here: nothing is read from disk or network."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WINDOW = (236, 239, 244)
PAPER = (255, 255, 255)
INK = (20, 20, 20)


def screenshot(text: str, size: tuple[int, int] = (1280, 720), letters: int = 30) -> bytes:
    """A window with one line of text in its middle, as PNG."""
    picture, draw = _canvas(size)
    draw.text((size[0] // 10, size[1] // 2), text, fill=INK, font=_font(letters))
    return _png(picture)


def small_print(text: str, size: tuple[int, int] = (3840, 2160), letters: int = 16) -> bytes:
    """A large, quiet screenshot with one line of small text in its lower right corner, as PNG."""
    picture, draw = _canvas(size)
    draw.text((size[0] // 12, size[1] // 12), "Quarterly report", fill=INK, font=_font(96))
    font = _font(letters)
    width = int(draw.textlength(text, font=font))
    draw.text((size[0] - width - 40, size[1] - letters - 40), text, fill=INK, font=font)
    return _png(picture)


def see_through(text: str) -> bytes:
    """White letters on nothing: on a white page one sees an empty picture. PNG with alpha."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGBA", (900, 240), (255, 255, 255, 0))
    ImageDraw.Draw(picture).text((40, 90), text, fill=(255, 255, 255, 255), font=_font(34))
    return _png(picture)


def pdf(visible: str, hidden: str) -> bytes:
    """One page that shows `visible` and carries `hidden` as a text layer that is not painted (PDF text render mode 3).

    Both are plain ASCII. Written by hand: PDF 1.4, one built-in font.
    """
    content = (
        f"BT /F1 18 Tf 72 720 Td ({_escaped(visible)}) Tj ET\nBT /F1 12 Tf 3 Tr 72 680 Td ({_escaped(hidden)}) Tj ET"
    )
    fonts = "<< /Font << /F1 5 0 R >> >>"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources {fonts} >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("ascii")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode("ascii")
    for place in places:
        out += f"{place:010d} 00000 n \n".encode("ascii")
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode("ascii")
    return bytes(out)


def _canvas(size: tuple[int, int]) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, size[0], size[1] // 18), fill=WINDOW)
    for index, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        draw.ellipse((14 + 26 * index, 10, 30 + 26 * index, 26), fill=colour)
    return picture, draw


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _png(picture: Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
