"""Which passes can change a text, found by searches at the speed of `memchr`: plain text is told from them alone.

The text is written as one byte a character, each byte the character's class, so that "a letter beside a figure" is a
search for two bytes. A glance may see a disguise where there is none; it never misses one that the passes would find.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from turnguard.text.undisguise.characters import sorts


def table(**classes: str) -> bytes:
    """A table for `bytes.translate`: each class has a name of one letter, and `rest` is what all others become."""
    made = bytearray(classes.pop("rest", ".").encode() * 256)
    for name, members in classes.items():
        for char in members:
            made[ord(char)] = ord(name)
    return bytes(made)


def classes(text: str, into: bytes) -> bytes:
    """The text as one byte a character; characters beyond Latin-1 count as `?`."""
    return text.encode("latin-1", "replace").translate(into)


LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
UPPER: Final = LOWER.upper()
FIGURES: Final = "0123456789"
SPACES: Final = " \t\r\n"
_CONTROLS: Final = "".join(map(chr, (*range(9), *range(11, 13), *range(14, 32), *range(127, 160))))
_BEYOND: Final = "?" + "".join(map(chr, range(160, 256)))

# Letters, figures, controls, and what is beyond ASCII.
SHAPES: Final = table(a=LOWER, A=UPPER, d=FIGURES, c=_CONTROLS, o=_BEYOND)
_CASES: Final = (b"aA", b"AAa")
_FIGURED: Final = (b"ad", b"da", b"Ad", b"dA")
MIXED: Final = _CASES + _FIGURED
"""Eight characters of base64 hold one of these, unless chance is very kind; no plain word does."""

_WORDS: Final = table(x=LOWER + UPPER + FIGURES + _BEYOND, rest=" ")
_HEX: Final = table(h=FIGURES + "abcdefABCDEF", x="x", s=SPACES + ",;:_-", rest=".")
_HEX_RUNS: Final = (b"h" * 12, b"hhshhshhshh", b"hhsshhsshhsshh", b"hxhhshxhh", b"hxhhsshxhh", b"hhhhshhhhshhhhshhhh")
_BASE32: Final = table(b=UPPER + "234567")
_BASE32_SMALL: Final = table(b=LOWER + "234567")
_MEETING: Final = (b"ao", b"oa", b"Ao", b"oA", b"do", b"od")


_FOUR = re.compile(rb"(?: {1,24}x){4} ")


class Glance(NamedTuple):
    """Which passes have something to look at."""

    undress: bool
    escapes: bool
    markup: bool
    spaced: bool
    hexadecimal: bool
    base32: bool
    base64: bool


def look(text: str) -> Glance:
    """Say which passes can change the text."""
    signs = text.encode("latin-1", "replace")
    shapes = signs.translate(SHAPES)
    words = b"".join((b" ", signs.translate(_WORDS), b" "))
    figures = b"d" in shapes
    return Glance(
        undress=b"c" in shapes or (not text.isascii() and _dressed(text, shapes)),
        escapes="%" in text or "\\" in text or "&" in text or "=" in text,
        markup="<" in text,
        spaced=b" x " in words and _apart(words),
        hexadecimal=figures and any(map(signs.translate(_HEX).__contains__, _HEX_RUNS)),
        base32=b"b" * 16 in signs.translate(_BASE32) or b"b" * 16 in signs.translate(_BASE32_SMALL),
        base64=any(map(shapes.__contains__, _CASES)) or (figures and any(map(shapes.__contains__, _FIGURED))),
    )


def _dressed(text: str, shapes: bytes) -> bool:
    found = sorts(text)
    if found == {"other"}:
        # Letters of another script hide nothing unless Latin ones stand beside them, or most of the text is Latin.
        latin = shapes.count(b"a") + shapes.count(b"A")
        return latin > 0 and (latin > shapes.count(b"o") or any(map(shapes.__contains__, _MEETING)))
    return bool(found)


def _apart(words: bytes) -> bool:
    """Whether four single letters or figures stand in a row."""
    at = words.find(b" x ")
    while at >= 0:
        if _FOUR.match(words, at):
            return True
        at = words.find(b" x ", at + 2)
    return False
