"""A value → lines of text that a model can read, the files inside it, and what of it could not be shown.

A tool reads the fields of an object, not its `repr`, which may hide or invent anything. So an object is shown by its
fields, and an object whose state cannot be read from Python is listed, never skipped.
"""

from __future__ import annotations

import io
import json
import os
import re
from array import array
from collections.abc import Callable, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from mmap import mmap
from typing import Any, NamedTuple
from uuid import UUID

from turnguard.core.step import Document, Image, Kind, ToolCall

DEPTH = 64
"""Levels of nesting that are shown."""
MOST = 100_000
"""Values that are shown: far more than fit into the windows of one step."""
FEW = 64
"""Numbers of an array that are written out. More are named by their shape: numbers hold no words."""
SMALLEST_PICTURE = 16
"""Pixels of each side from which an array of bytes may be a picture."""


class Missed(NamedTuple):
    """Something inside a value that cannot be shown: its kind, and why. `cause` holds no content."""

    kind: Kind
    cause: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as text, with "[image 1]" or "[document 2]" where `files` stood, and what was `missed`."""

    text: str
    files: tuple[Image | Document, ...] = ()
    missed: tuple[Missed, ...] = ()


def shown_call(proposed: ToolCall) -> Shown:
    """A tool call: its name, then its arguments as lines, decoded: what is judged is what will run."""
    arguments: Any = proposed.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            return Shown(f"{proposed.name}\n{arguments}")
    found = shown(arguments)
    return Shown("\n".join(filter(None, (proposed.name, found.text))), found.files, found.missed)


def shown(value: Any) -> Shown:
    """Any value. Mappings, sequences, sets, dataclasses, pydantic models and other Python objects are shown by what
    they hold, bytes and pictures as files. Never raises.
    """
    reader = _Reader()
    if value is not None:
        reader.add("", value, 0)
    return Shown("\n".join(reader.lines), tuple(reader.files), tuple(dict.fromkeys(reader.missed)))


class _Pairs(list[tuple[Any, Any]]):
    """Key and value pairs. A JSON object may hold one key twice, and which of the values a tool reads is not known."""


class _Reader:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.files: list[Image | Document] = []
        self.missed: list[Missed] = []
        self._left = MOST
        self._above: set[int] = set()

    def add(self, label: str, value: Any, depth: int) -> None:
        """Show `value` after `label` ("key:", "-" or nothing)."""
        self._left -= 1
        if self._left < 0:
            self._miss(label, depth, "text", f"more than {MOST:,} values")
        elif depth > DEPTH:
            self._miss(label, depth, "text", f"nested more than {DEPTH} levels deep")
        elif id(value) in self._above:
            self._line(label, "[as above]", depth)  # it holds itself, and is being shown already
        else:
            self._above.add(id(value))
            try:
                self._show(label, value, depth)
            except Exception as error:  # noqa: BLE001 - an object's own code may raise anything
                told = f"a {_name(value)} that cannot be read ({type(error).__name__})"
                self._miss(label, depth, "other", told)
            finally:
                self._above.discard(id(value))

    def _miss(self, label: str, depth: int, kind: Kind, cause: str) -> None:
        self._line(label, "", depth)  # the label is still read
        self.missed.append(Missed(kind, cause))

    def _show(self, label: str, value: Any, depth: int) -> None:
        plain = _plain(value)
        if plain is not None:
            self._line(label, plain, depth)
        elif isinstance(value, Enum):
            self._nested(label, _Pairs([(value.name or "", value.value)]), depth)
        elif isinstance(value, (Image, Document)):
            self._file(label, value, depth)
        elif isinstance(value, (bytes, bytearray, memoryview, mmap)):
            self._bytes(label, bytes(value), depth)
        elif isinstance(value, (io.BytesIO, io.StringIO)):
            self.add(label, value.getvalue(), depth)
        elif hasattr(value, "getbands"):
            self._file(label, Image(value), depth)
        elif isinstance(value, array) or hasattr(value, "__array_interface__"):
            self._array(label, value, depth)
        elif isinstance(value, (Mapping, Sequence, Set, ValuesView)):
            self._nested(label, value, depth)
            own = getattr(value, "__dict__", None)
            if own:
                self._nested(label, own, depth)
        else:
            fields = _fields(value)
            if fields is None:
                self._miss(label, depth, "other", f"a {_name(value)}, which is none of the kinds that can be read")
            else:
                self._nested(label, fields, depth)
            return
        if type(value).__dictoffset__ and isinstance(value, (str, int, float, date, bytes)) and vars(value):
            self._nested(label, vars(value), depth)

    def _line(self, label: str, text: str, depth: int) -> None:
        self.lines.append("  " * depth + " ".join(filter(None, (label, text))))

    def _nested(self, label: str, value: Any, depth: int) -> None:
        """What a mapping or a sequence holds, one level below its label."""
        if label:
            self.lines.append("  " * depth + label)
            depth += 1
        pairs = value.items() if isinstance(value, Mapping) else value if isinstance(value, _Pairs) else None
        if pairs is not None:
            for key, inner in pairs:
                text = _plain(key)
                if text is None:
                    self.add("-", key, depth)
                    text = "value"
                self.add(f"{text}:", inner, depth)
        elif isinstance(value, Set):
            self._unordered(value, depth)
        else:
            for index, inner in enumerate(value):
                name = _field_of_tuple(value, index)
                self.add(f"{name}:" if name else "-", inner, depth)

    def _unordered(self, value: Set[Any], depth: int) -> None:
        """A set's members in the order of their text: the same set is the same text in every process."""
        start = len(self.lines)
        members: list[list[str]] = []
        for inner in value:
            self.add("-", inner, depth)
            members.append(self.lines[start:])
            del self.lines[start:]
        self.lines += [line for lines in sorted(members) for line in lines]

    def _file(self, label: str, part: Image | Document, depth: int) -> None:
        self.files.append(part)
        self._line(label, f"[{part.kind} {len(self.files)}]", depth)

    def _bytes(self, label: str, data: bytes, depth: int) -> None:
        if data:
            self._file(label, Document(data), depth)  # what it is, text or picture, is told from the bytes
        else:
            self._line(label, "", depth)

    def _array(self, label: str, value: Any, depth: int) -> None:
        """An array of numpy's or the standard library's."""
        if isinstance(value, array):
            kind, width, shape = value.typecode, value.itemsize, (len(value),)
        else:
            kind, width, shape = value.dtype.kind, value.dtype.itemsize, value.shape
        of_numbers = kind in "biufcBhHIlLqQd"
        size = 1
        for length in shape:
            size *= length
        if of_numbers and width == 1 and _is_picture(shape):
            from PIL import Image as Pillow

            self._file(label, Image(Pillow.fromarray(value)), depth)
        elif of_numbers and width == 1 and _is_text(value.tobytes()):
            self._bytes(label, value.tobytes(), depth)
        elif of_numbers and size > FEW:
            self._line(label, f"[{'×'.join(map(str, shape))} numbers]", depth)
        elif size > self._left:
            self._miss(label, depth, "text", f"more than {MOST:,} values")
        else:
            self.add(label, value.tolist(), depth)
            if getattr(getattr(value, "dtype", None), "names", None):
                self.add("fields:", value.dtype.names, depth)


# ---------------------------------------------------------------- what kinds of values are


def _stamped(value: datetime | time) -> str:
    zone = value.tzname()
    return " ".join(filter(None, (value.isoformat(), zone)))


_TEXT_OF: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (str, str.__str__),
    (type(None), str),
    (bool, str),
    (int, int.__repr__),
    (float, float.__repr__),
    (complex, complex.__repr__),
    (Decimal, Decimal.__str__),
    (Fraction, Fraction.__str__),
    (datetime, _stamped),
    (time, _stamped),
    (date, date.isoformat),
    (timedelta, timedelta.__str__),
    (UUID, UUID.__str__),
    (range, range.__repr__),
)
"""Values that one line of text says in full."""
_EXACT = {kind: text for kind, text in _TEXT_OF if kind in (str, type(None), bool, int, float)}


def _plain(value: Any) -> str | None:
    """The text of a value that one line says in full, else None. A subclass cannot change what is said."""
    text = _EXACT.get(type(value))
    if text is not None:
        return text(value)
    if isinstance(value, Enum):
        return None
    if isinstance(value, os.PathLike):
        name = os.fspath(value)
        return name if isinstance(name, str) else os.fsdecode(name)
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value.pattern
    for kind, text in _TEXT_OF:
        if isinstance(value, kind):
            return text(value)
    if hasattr(value, "dtype") and hasattr(value, "item") and not getattr(value, "shape", True):
        return _plain(value.item())  # a number of numpy's
    return None


def _field_of_tuple(value: Any, index: int) -> str | None:
    names = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    return names[index] if isinstance(names, tuple) and index < len(names) and isinstance(names[index], str) else None


def _fields(value: Any) -> _Pairs | None:
    """Everything that a Python object holds: what is in its `__dict__` and its slots. None where it may hold more.

    It may hold more where C code keeps state of its own, which shows in the size of an instance: the rule by which
    `pickle` refuses an object (`object.__reduce_ex__`).
    """
    kind = type(value)
    slots = [
        (base, name)
        for base in kind.__mro__
        for name in _slots(vars(base).get("__slots__", ()))
        if name not in ("__dict__", "__weakref__")
    ]
    pointer = tuple.__itemsize__
    size = object.__basicsize__ + pointer * (len(slots) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0))
    if kind.__basicsize__ > size or kind.__itemsize__:
        return None
    found = _Pairs(getattr(value, "__dict__", {}).items())
    for base, name in slots:
        own = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        inner = getattr(value, own, None)
        if inner is not None and own != "__pydantic_fields_set__":
            found.append((own, inner))
    return found


def _slots(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _name(value: Any) -> str:
    name = type(value).__name__
    return name if name.isidentifier() and name.isascii() and len(name) <= 40 else "value"


def _is_picture(shape: tuple[int, ...]) -> bool:
    of_colours = len(shape) == 3 and shape[2] in (3, 4)
    return (len(shape) == 2 or of_colours) and min(shape[:2]) >= SMALLEST_PICTURE


def _is_text(data: bytes) -> bool:
    """Whether bytes that stand in an array may be meant as text: printable, and more than a few."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return len(text) >= 4 and all(character.isprintable() or character.isspace() for character in text)
