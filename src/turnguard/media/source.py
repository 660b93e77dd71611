"""A part's source becomes bytes, and the pinned part that may be passed on. Blocking: runs in a worker thread."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from turnguard.core.step import Document, Image
from turnguard.media.data_uris import read_data_uri
from turnguard.media.types import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def read(part: Image | Document, max_bytes: int, max_pixels: int) -> tuple[bytes, Image | Document]:
    """The bytes of `part` (never an http(s) URL: that is fetched) and what pins them; `Unreadable` with the cause."""
    source = part.source
    if isinstance(source, str):
        if len(source) > max_bytes * 4:  # cheaper than decoding: even percent-encoding triples at most
            raise Unreadable(f"more than {max_bytes:,} bytes")
        return _bounded(read_data_uri(source)[1], max_bytes), part
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _bounded(bytes(source), max_bytes), part
    data = _file(Path(source), max_bytes) if isinstance(source, os.PathLike) else _encoded(source, max_pixels)
    return _bounded(data, max_bytes), replace(part, source=data)


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if not data:
        raise Unreadable("empty")
    if len(data) > max_bytes:
        raise Unreadable(f"more than {max_bytes:,} bytes")
    return data


def _file(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device could block for ever
            raise Unreadable("no such file")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({type(error).__name__})") from None


def _encoded(picture: PillowImage, max_pixels: int) -> bytes:
    """A Pillow image as PNG: a snapshot that the caller's later changes cannot reach. Its current frame only."""
    width, height = picture.size
    if width * height > max_pixels:
        raise Unreadable(f"more than {max_pixels:,} pixels")
    if not width or not height:
        raise Unreadable("empty")
    try:
        if picture.mode in _PNG_MODES:
            picture = picture.copy()  # saving leaves marks on the object, and it is the caller's
        else:
            picture = picture.convert("RGBA" if picture.mode in ("RGBa", "La", "PA") else "RGB")
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=1)
    except Exception as error:  # noqa: BLE001 - a lazy Pillow image decodes here, and decoders raise anything
        raise Unreadable(f"the picture cannot be read ({type(error).__name__})") from None
    return out.getvalue()
