"""The objects of a PDF, every one that stands in the bytes: whether or not a cross-reference table knows it.

Readers disagree about broken and doctored files: one follows the table, another looks for objects itself. Reading every
object there is, earlier versions too, covers them all. ISO 32000-1, 7.2 to 7.5. No recursion: nesting costs no stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_OBJECT = re.compile(rb"(?<![0-9])(\d{1,10})[\s\0]+(\d{1,5})[\s\0]+obj(?![a-z])")
_TOKEN = re.compile(
    rb"(?P<space>[\s\0]+)|%(?P<comment>[^\r\n]*)|(?P<open><<|\[)|(?P<close>>>|\])|/(?P<name>[^\s\0()<>\[\]{}/%]*)"
    rb"|<(?P<hex>[0-9A-Fa-f\s\0]*)>|\((?P<plain>[^()\\]*)\)|(?P<string>\()|(?P<word>[^\s\0()<>\[\]{}/%]+)|(?P<other>.)",
    re.DOTALL,
)
_IN_STRING = re.compile(rb"[()]|\\(?:\r\n|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(\r\n|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r": b"", b"\r\n": b""}
_NAME_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")
_STREAM = re.compile(rb"[\s\0]*stream(\r\n|\n|\r)?")
_DEEPEST = 200
_MOST = 400_000


class Name(str):
    """`/Name`, without its slash and its escapes."""

    __slots__ = ()


class Word(bytes):
    """A number, `true`, `false`, `null` or an operator, as it is written."""

    __slots__ = ()


class Ref(NamedTuple):
    """A reference to an object."""

    number: int


class Malformed(Exception):
    """It cannot be parsed here."""


@dataclass(slots=True)
class Item:
    """An object: its number, its value, and the encoded bytes of its stream if it has one."""

    number: int
    value: Any
    stream: bytes | None = None

    @property
    def entries(self) -> dict[str, Any]:
        """Its dictionary; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}


@dataclass(slots=True)
class Objects:
    """Everything in a file. `latest` is what a reader that looks for objects itself takes; `all` are all versions."""

    latest: dict[int, Item] = field(default_factory=dict)
    all: list[Item] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    """Where bytes stand between objects."""
    comments: list[bytes] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """The last one with a number counts."""
        self.latest[item.number] = item
        self.all.append(item)

    def get(self, value: Any) -> Any:
        """What a value stands for: the object's value where it is a reference."""
        for _ in range(10):
            if not isinstance(value, Ref):
                return value
            found = self.latest.get(value.number)
            value = found.value if found else None
        return None

    def entries(self, value: Any) -> dict[str, Any]:
        """The same as a dictionary; empty for anything else."""
        value = self.get(value)
        return value if isinstance(value, dict) else {}


def scan(data: bytes, check: Callable[[], None]) -> Objects:
    """Find and parse every object in `data`; those in object streams are the caller's to unpack."""
    objects = Objects()
    at = 0
    while match := _OBJECT.search(data, at):
        objects.outside.append((at, match.start()))
        if len(objects.all) % 500 == 0:
            check()
        if len(objects.all) >= _MOST:
            objects.unread.append(f"more than {_MOST:,} objects")
            return objects
        number = int(match[1])
        try:
            value, at = parse(data, match.end(), objects.comments)
        except Malformed:
            objects.unread.append(f"object {number}")
            at = match.end()
            continue
        item = Item(number, value)
        if isinstance(value, dict) and (stream := _STREAM.match(data, at)):
            item.stream, at = _stream(data, stream.end(), value)
        objects.add(item)
        if data.startswith(b"endobj", _skip(data, at)):
            at = _skip(data, at) + 6
    objects.outside.append((at, len(data)))
    return objects


def _skip(data: bytes, at: int) -> int:
    while data[at : at + 1] in (b" ", b"\r", b"\n", b"\t", b"\0", b"\f"):
        at += 1
    return at


def _stream(data: bytes, start: int, value: dict[str, Any]) -> tuple[bytes, int]:
    """The bytes of a stream: to the first `endstream` behind the length that it claims."""
    length = value.get("Length")
    claimed = int(length) if isinstance(length, Word) and length.isdigit() and len(length) < 11 else 0
    end = data.find(b"endstream", start + claimed if start + claimed <= len(data) else start)
    if claimed and end - start - claimed > 4:  # a length that is too short, or runs into another object
        end = data.find(b"endstream", start)
    if end < 0:
        return data[start:], len(data)
    return data[start:end], end + 9


def parse(data: bytes, at: int, comments: list[bytes] | None = None) -> tuple[Any, int]:
    """One value, and where it ends. Raises `Malformed`."""
    stack: list[tuple[bytes, list[Any]]] = []
    items: list[Any] = []
    opened = b""
    while match := _TOKEN.match(data, at):
        kind, at = match.lastgroup, match.end()
        if kind == "space":
            continue
        if kind == "comment":
            if comments is not None:
                comments.append(match["comment"])
            continue
        if kind == "open":
            if len(stack) >= _DEEPEST:
                raise Malformed
            stack.append((opened, items))
            opened, items = match["open"], []
            continue
        if kind == "close":
            if not stack:
                raise Malformed
            value: Any = items if opened == b"[" else _dictionary(items)
            opened, items = stack.pop()
        elif kind == "string":
            value, at = _string(data, at)
        elif kind == "word":
            word = match["word"]
            if not stack and word in (b"endobj", b"stream", b"xref", b"trailer"):
                at = match.start()
                break
            if word == b"R" and len(items) >= 2 and isinstance(items[-2], Word) and items[-2].isdigit():
                items[-2:] = [Ref(int(items[-2]))] if len(items[-2]) < 12 else [None]
                continue
            value = Word(word)
        else:
            value = _simple(match)
        items.append(value)
        # a number may be the first of a reference
        if not stack and not (isinstance(value, Word) and value.isdigit() and len(items) < 3):
            break
    if stack or not items:
        raise Malformed
    return items[0], at


def _simple(match: re.Match[bytes]) -> Any:
    if match.lastgroup == "name":
        name = _NAME_ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), match["name"])
        return Name(_characters(name))
    if match.lastgroup == "hex":
        digits = b"".join(match["hex"].translate(None, b"\0").split())
        return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))
    if match.lastgroup == "plain":
        return match["plain"]
    return Word(match[0])


def _characters(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _dictionary(items: list[Any]) -> dict[str, Any]:
    """Pairs of names and values. A key twice keeps both: readers differ in which one counts."""
    out: dict[str, Any] = {}
    at = 0
    while at < len(items):
        if not isinstance(items[at], Name):
            at += 1
            continue
        key, value = str(items[at]), items[at + 1] if at + 1 < len(items) else None
        while key in out:
            key += "'"
        out[key] = value
        at += 2
    return out


def _string(data: bytes, start: int) -> tuple[bytes, int]:
    """A literal string from behind its `(`: with escapes and balanced parentheses."""
    depth, at = 1, start
    while match := _IN_STRING.search(data, at):
        at = match.end()
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth -= 1
            if not depth:
                return _ESCAPE.sub(_unescaped, data[start : at - 1]), at
    raise Malformed


def _unescaped(match: re.Match[bytes]) -> bytes:
    body = match[1]
    if body.isdigit():
        return bytes([int(body, 8) & 255])
    return _ESCAPED.get(body, body)


def written(value: Any) -> bytes:
    """A value as PDF syntax."""
    out: list[bytes] = []
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, _Raw):
            out.append(item.text)
        elif isinstance(item, dict):
            todo.append(_Raw(b">>"))
            for key, inner in reversed(item.items()):
                todo += [inner, Name(key)]
            out.append(b"<<")
        elif isinstance(item, list):
            todo += [_Raw(b"]"), *reversed(item)]
            out.append(b"[")
        elif isinstance(item, Name):
            plain = item.isascii() and item.isalnum()
            coded = item.encode("utf-8", "surrogatepass")
            out.append(b"/" + (coded if plain else b"".join(b"#%02x" % byte for byte in coded)))
        elif isinstance(item, Ref):
            out.append(b"%d 0 R" % item.number)
        elif isinstance(item, Word):
            out.append(bytes(item))
        elif isinstance(item, bytes):
            out.append(b"<" + item.hex().encode() + b">")
        else:
            out.append(b"null")
        out.append(b" ")
    return b"".join(out)


class _Raw(NamedTuple):
    text: bytes


def walk(value: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, value, what holds it) of everything inside a value, in order; in an array the key is the array's."""
    todo: list[tuple[str, Any, Any]] = [("", value, None)]
    while todo:
        key, item, holder = todo.pop()
        yield key, item, holder
        if isinstance(item, dict):
            todo += [(name.rstrip("'"), inner, item) for name, inner in reversed(item.items())]
        elif isinstance(item, list):
            todo += [(key, inner, item) for inner in reversed(item)]
