"""Pictures that the tests draw themselves."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont


def png(*lines: str, size: tuple[int, int] = (896, 896), pixels: int = 12, fmt: str = "PNG") -> bytes:
    """Black text on white, `pixels` high, one line below the other."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(pixels)
    for number, line in enumerate(lines):
        draw.text((8, 8 + number * pixels * 1.6), line, fill="black", font=font)
    return encode(picture, fmt)


def encode(picture: Image.Image, fmt: str = "PNG") -> bytes:
    """The picture as a file."""
    out = BytesIO()
    picture.save(out, fmt)
    return out.getvalue()


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """As it goes on the wire."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_part(data: bytes) -> dict[str, object]:
    """A content part with the picture in it."""
    return {"type": "image_url", "image_url": {"url": data_uri(data)}}
