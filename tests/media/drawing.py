"""Pictures for the tests, drawn on the spot: nothing binary is stored."""

from __future__ import annotations

import io
import random
from typing import Any

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont, features

from turnguard.config.settings import MediaSettings
from turnguard.core.exchange import Picture
from turnguard.core.step import Document, Image
from turnguard.media import Media, Prepared

AVIF = "avif" in features.modules and features.check("avif")  # Pillow before 11.3 does not know the word
RGB = tuple[int, int, int]


def encoded(picture: Pillow.Image, form: str = "PNG", **options: Any) -> bytes:
    """`picture` as a file."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font: the same on every machine."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def page(size: tuple[int, int] = (400, 300), text: str = "hello there", ground: RGB = (250, 250, 250)) -> Pillow.Image:
    """Dark or light text on a plain ground."""
    picture = Pillow.new("RGB", size, ground)
    ink = (20, 20, 20) if sum(ground) > 380 else (235, 235, 235)
    ImageDraw.Draw(picture).text((20, 20), text, font=font(16), fill=ink)
    return picture


def noise(size: tuple[int, int] = (64, 64)) -> Pillow.Image:
    """Grain of three bands, as a photograph has it; the same each time."""
    grain = random.Random(5).randbytes(size[0] * size[1] * 3)  # noqa: S311 - reproducible, not secret
    return Pillow.frombytes("RGB", size, grain)


def decoded(picture: Picture) -> Pillow.Image:
    """A view as the model gets it."""
    with Pillow.open(io.BytesIO(picture.data)) as opened:
        opened.load()
        return opened.copy()


async def prepare(part: Image | Document | bytes, limit: int | None = None, **settings: Any) -> Prepared:
    """`part` prepared by a fresh `Media`."""
    media = Media(MediaSettings(**settings))
    try:
        return await media.prepare(Image(part) if isinstance(part, bytes) else part, limit=limit)
    finally:
        await media.aclose()


def counted(prepared: Prepared) -> list[tuple[str, str]]:
    """(detail, cause) of what was left out and matters."""
    return [(entry.detail, entry.cause) for entry in prepared.skipped if entry.counts]


def details(prepared: Prepared) -> list[str]:
    """The details of the views, riskiest first."""
    return [view.detail for view in prepared.views]
