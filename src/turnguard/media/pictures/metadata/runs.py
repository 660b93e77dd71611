"""Words among bytes: decode what is text, find the runs of text in what is not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

LEAST = 6
"""Characters of a run: shorter ones stand in any binary data by chance."""

_CHARACTER = rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
_RUN = re.compile(_CHARACTER + rb"{%d,}" % LEAST)
_WIDE = {
    "utf-16-le": re.compile(rb"(?:[\t\n\r\x20-\x7e]\x00){%d,}" % LEAST),
    "utf-16-be": re.compile(rb"(?:\x00[\t\n\r\x20-\x7e]){%d,}" % LEAST),
}
_WORD = re.compile(r"[^\W\d_]{3}")


def readable(data: bytes) -> str:
    """Bytes that are meant as text: as UTF-8, else byte by byte; and as UTF-16 too where they look like it."""
    try:
        said = data.decode("utf-8")
    except UnicodeDecodeError:
        said = data.decode("latin-1")
    said = said.replace("\0", "")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace") + "\n" + said
    even, odd = data[::2].count(0), data[1::2].count(0)
    if len(data) >= 4 and max(even, odd) * 4 > len(data):
        return data.decode("utf-16-le" if odd > even else "utf-16-be", "replace") + "\n" + said
    return said


def runs(data: bytes) -> Iterator[str]:
    """Runs of text in UTF-8 and in UTF-16 that hold at least three letters in a row."""
    for match in _RUN.finditer(data):
        said = match[0].decode("utf-8", "replace")
        if _WORD.search(said):
            yield from said.splitlines()
    for encoding, pattern in _WIDE.items():
        for match in pattern.finditer(data):
            said = match[0].decode(encoding)
            if _WORD.search(said):
                yield from said.splitlines()
