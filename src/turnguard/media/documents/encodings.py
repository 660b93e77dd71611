"""Bytes become text: in the declared encoding and in every plausible one, piece by piece where a file mixes them."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
_NAMED_INSIDE = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_ESCAPED = (  # encodings whose bytes are all ASCII: (what gives them away, encoding)
    (b"\x1b$", "iso2022_jp_2"),
    (b"\x1b$", "iso2022_jp_ext"),
    (b"\x1b$)C", "iso2022_kr"),
    (b"~{", "hz"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_MOST_READINGS = 3
_MOST_PIECES = 32
_LONG_ASCII = re.compile(rb"[\x20-\x7e]{40,}")
_LOOKED_AT = 20_000
_WORD = re.compile(r"[^\W\d_]+")
UNKNOWN = "bytes that are text in no known encoding"
NEEDS_EXTRA = "telling its encoding needs the extra: pip install 'turnguard[documents]'"


def is_utf8(data: bytes) -> bool:
    """Whether it is plainly UTF-8: no other reading is plausible."""
    if b"\0" in data or any(_escaped(data)):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decodings(data: bytes, declared: str = "") -> tuple[list[str], list[str]]:
    """Every plausible reading of `data` as text, the most plausible first, and the causes of what has none."""
    causes: list[str] = []
    found = [_by_mark(data) or "".join(_first(data, causes))]
    for name in (declared, *(match.decode("ascii") for match in _NAMED_INSIDE.findall(data[:2048]))):
        found += _decoded(data, name, errors="replace")
    for name in _escaped(data):
        found += _decoded(data, name)
    if not found[0].isascii() or b"\0" in data:
        found += _others(data, found[0], causes)
    return list(dict.fromkeys(found)), list(dict.fromkeys(causes))


def _escaped(data: bytes) -> Iterator[str]:
    """The encodings in ASCII that `data` may be in. Looking for one byte first is much faster."""
    return (name for sign, name in _ESCAPED if sign[:1] in data and sign in data)


def _by_mark(data: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    return None


def _first(data: bytes, causes: list[str]) -> Iterator[str]:
    """The likeliest reading: UTF-8 where a piece is that, else the likeliest of the piece."""
    for piece in _pieces(data):
        yield _utf8(piece) or next(iter(_legacy(piece, causes)), "") or piece.decode("cp1252", "replace")


def _others(data: bytes, first: str, causes: list[str]) -> Iterator[str]:
    """What pieces say in encodings that are plausible too."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return
    if b"\0" in data:
        yield from _wide(data, causes)
    for piece in _pieces(data):
        if _utf8(piece) is None:
            yield from (text for text in _legacy(piece, causes)[1:] if text not in first)


def _utf8(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _pieces(data: bytes) -> list[bytes]:
    """Stretches of lines that are UTF-8, and of lines that are not, in turn."""
    if _utf8(data) is not None:
        return [data]
    pieces: list[tuple[bool, list[bytes]]] = []
    for line in data.splitlines(keepends=True):
        good = _utf8(line) is not None
        if pieces and (pieces[-1][0] is good or len(pieces) >= _MOST_PIECES):
            pieces[-1][1].append(line)
        else:
            pieces.append((good, [line]))
    return [b"".join(lines) for _, lines in pieces]


def _legacy(piece: bytes, causes: list[str]) -> list[str]:
    """The readings of a piece that is not UTF-8, likeliest first."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        causes.append(NEEDS_EXTRA)
        return []
    # the detector samples: what is plain ASCII would take the place of what it must tell
    matches = from_bytes(_LONG_ASCII.sub(b" ", piece)[:_LOOKED_AT])
    texts: list[str] = []
    for match in matches:
        for text in _decoded(piece, match.encoding):
            if len(texts) < _MOST_READINGS and _is_plausible(text) and text not in texts:
                texts.append(text)
    if not texts and sum(byte > 127 for byte in piece) * 4 > len(piece):
        causes.append(UNKNOWN)
    return texts


def _wide(data: bytes, causes: list[str]) -> Iterator[str]:
    """Text in two or four bytes a character, without a mark or after a beginning in ASCII."""
    first, last = data.index(0), data.rindex(0)
    found = False
    for start in sorted({0, max(0, first - 1), first}):
        for encoding in _WIDE:
            unit = 4 if "32" in encoding else 2
            end = len(data) if start == 0 else min(len(data), last + unit)
            region = data[start : end - (end - start) % unit]
            for text in _decoded(region, encoding):
                if _is_plausible(text) and "\0" not in text:
                    found = True
                    yield text
    if not found:
        causes.append(UNKNOWN)


def _decoded(data: bytes, name: str, errors: str = "strict") -> list[str]:
    """In the encoding of that name; nothing where there is none, or it is no encoding of text."""
    try:
        if not name or not codecs.lookup(name)._is_text_encoding:
            return []
        return [data.decode(name, errors)]
    except (LookupError, ValueError):
        return []


def _is_plausible(text: str) -> bool:
    """Whether letters of different scripts stand in different words, and nearly all of it is assigned characters."""
    sample = text if len(text) < _LOOKED_AT else text[-_LOOKED_AT:]
    odd = sum(
        unicodedata.category(letter) in ("Cc", "Cn", "Co", "Cs") and letter not in "\t\r\n\f\x1b" for letter in sample
    )
    if odd * 20 > len(sample):
        return False
    mixed = words = 0
    for word in _WORD.findall(sample):
        if not word.isascii():
            words += 1
            mixed += len({_script(letter) for letter in word}) > 1
    return mixed * 3 <= words


def _script(letter: str) -> str:
    if letter < "\u0250":
        return "latin"
    name = unicodedata.name(letter, "?").split(" ", 1)[0]
    return {"CJK": "east", "HIRAGANA": "east", "KATAKANA": "east", "HANGUL": "east", "BOPOMOFO": "east"}.get(name, name)
