"""What goes through the pipes: a JSON head, then blobs. Never pickle: a child that was taken over runs nothing here."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from turnguard.core.exchange import Picture
from turnguard.media.types import Coarse, Made, Skipped, View

MOST_HEAD = 64_000_000
"""Bytes of JSON in one frame: twelve times what the texts of one document may take."""
MOST_BLOBS = 512_000_000
"""Bytes of pictures in one frame, all together."""
_LENGTH = struct.Struct(">I")
_PIECE = 1 << 20
_SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class Broken(Exception):
    """The other end is gone, or what came is no frame."""


def send(pipe: BinaryIO, head: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Write one frame. The head's key `blobs` holds the lengths of what follows it."""
    encoded = json.dumps({**head, "blobs": [len(blob) for blob in blobs]}, separators=(",", ":")).encode("ascii")
    for piece in (_LENGTH.pack(len(encoded)), encoded, *blobs):
        view = memoryview(piece)
        while view:
            view = view[pipe.write(view[:_PIECE]) :]


def receive(pipe: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
    """Read one frame; `Broken` at the end of the pipe and for what is malformed or larger than a frame may be."""
    length = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0]
    if length > MOST_HEAD:
        raise Broken("a head that is too long")
    try:
        head = json.loads(_exactly(pipe, length))
        lengths = head["blobs"]
        if not all(type(size) is int and size >= 0 for size in lengths) or sum(lengths) > MOST_BLOBS:
            raise Broken("blobs that are too long")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Broken("not a frame") from None
    return head, [_exactly(pipe, size) for size in lengths]


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        piece = pipe.read(min(_PIECE, size - len(out)))
        if not piece:
            raise Broken("the pipe ended")
        out += piece
    return bytes(out)


def packed(made: Made) -> tuple[dict[str, Any], list[bytes]]:
    """A result as a frame."""
    blobs: list[bytes] = []

    def plain(item: Any) -> Any:
        if isinstance(item, Picture):
            blobs.append(item.data)
            return [item.media_type, len(blobs) - 1]
        if dataclasses.is_dataclass(item):
            return {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)}
        return item

    # halves of surrogate pairs are legal in JSON's escapes, so that any text comes through as it is
    head = {
        name: [plain(item) for item in value] if isinstance(value, tuple) else value
        for name, value in made._asdict().items()
    }
    return head, blobs


def unpacked(head: dict[str, Any], blobs: Sequence[bytes]) -> Made:
    """The result in a frame; `Broken` where it does not hold exactly what a result is made of."""
    try:
        made = {name: tuple(make(item, blobs) for item in head[name]) for name, make in _MAKERS.items()}
        wanted = head["wanted"]
        if type(wanted) is not int:
            raise TypeError
        return Made(**made, wanted=wanted)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise Broken("not a result") from None


def _text(item: Any, _: Sequence[bytes]) -> tuple[str, str]:
    detail, text = item
    return _str(detail), _str(text)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _picture(item: Any, blobs: Sequence[bytes]) -> Picture:
    media_type, at = item
    data = blobs[at]
    if not data.startswith(_SIGNATURES[media_type]):
        raise ValueError
    return Picture.of(data, media_type)


def _fields(kind: type[Any]) -> Callable[[Any, Sequence[bytes]], Any]:
    """A reader for a dataclass of plain values, and pictures."""
    allowed: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "float": (float, int),
        "int": (int,),
        "bool": (bool,),
        "float | None": (float, int, type(None)),
        "str | None": (str, type(None)),
    }

    def make(item: Any, blobs: Sequence[bytes]) -> Any:
        return kind(**dict(values(item, blobs)))

    def values(item: Any, blobs: Sequence[bytes]) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(kind):
            value = item[field.name]
            if field.type == "Picture":
                yield field.name, _picture(value, blobs)
            elif isinstance(value, allowed[str(field.type)]):
                yield field.name, value
            else:
                raise TypeError

    return make


_MAKERS: dict[str, Callable[[Any, Sequence[bytes]], Any]] = {
    "views": _fields(View),
    "texts": _text,
    "skipped": _fields(Skipped),
    "reduced": _fields(Coarse),
}
