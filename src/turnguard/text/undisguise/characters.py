"""What each character is to a reader: itself, nothing, a mark, or another letter in disguise."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from turnguard.text.undisguise import tables

_IGNORABLE = re.compile(f"[{tables.IGNORABLE}]")
_NAMED: Final = dict(zip(tables.NAMED, tables.NAMED_PLAIN, strict=True))
OTHERS: Final = dict(zip(tables.OTHERS, tables.OTHERS_PLAIN, strict=True))
LATIN: Final = dict(zip(tables.LATIN, tables.LATIN_PLAIN, strict=True))

# The generic marks: any script may bear them. Marks of one script, such as the vowels of Thai, are its letters.
MARK: Final = "[\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARK = re.compile(MARK)
# Blank, or shown as a box: Braille's blank, the object and the replacement character.
_BLANK = "\u2800\ufffc\ufffd"
_LAYOUT = "\t\n\r"
_WAYS_OF_JOINING = frozenset(("<initial", "<medial", "<final", "<isolated", "<narrow", "<wide"))
_TELLING = "%\\&=<"


class Kind(NamedTuple):
    """`becomes` is what to read instead; `sort` says why, and empty means that the character is itself."""

    sort: str
    becomes: str = ""


ITSELF: Final = Kind("")
IGNORED: Final = Kind("ignored")


@lru_cache(maxsize=16_384)
def kind(char: str) -> Kind:
    """Say what a character is.

    `ignored`: it shows nothing (Default_Ignorable_Code_Point, controls, unassigned and private ones). `space`: a space
    of another width. `mark`: a generic combining mark. `named` and `form`: a letter, figure or sign in another form, by
    its name or by NFKC. `sign`: punctuation of another
    width. `joined`: the forms of Arabic, kana and Hangul that depend on their neighbours or on the width.
    `other` and `latin`: a letter that looks like an ASCII letter.
    """
    if char.isascii():
        return ITSELF if char.isprintable() or char in _LAYOUT else IGNORED
    category = unicodedata.category(char)
    if char in _BLANK or _IGNORABLE.match(char):
        return IGNORED
    if category[0] == "C":
        # Cf that is not ignorable is visible: the signs that Arabic and Kaithi set around numbers.
        return ITSELF if category == "Cf" and "\u0600" <= char <= "\U000110ff" else IGNORED
    if category == "Zs":
        return Kind("space", " ")
    if _MARK.match(char):
        return Kind("mark")
    if char in _NAMED:
        return Kind("named", _NAMED[char])
    if char in OTHERS:
        return Kind("other", OTHERS[char])
    if char in LATIN:
        return Kind("latin", LATIN[char])
    return _form(char)


_plain: set[str] = set()
_MOST_PLAIN = 20_000


def sorts(text: str) -> set[str]:
    """Return the sorts of the characters in a text, without those of plain writing."""
    unknown = set(text) - _plain
    found = {char: kind(char).sort for char in unknown}
    if len(_plain) < _MOST_PLAIN:
        _plain.update(char for char, sort in found.items() if not sort)
    return set(found.values()) - {"", "sign"}


def _form(char: str) -> Kind:
    plain = unicodedata.normalize("NFKC", char)
    if plain == char or len(plain) > 4:
        return ITSELF
    way = unicodedata.decomposition(char).partition(">")[0]
    ascii_letter = any(sign.isascii() and sign.isalpha() for sign in plain)
    if not way.startswith("<"):  # canonical, such as the sign of Kelvin: NFC does the rest
        return Kind("form", plain) if ascii_letter else ITSELF
    if way == "<compat" and not ascii_letter:
        return ITSELF  # the vowels of Thai and the letters of Korean are written so
    if not any(sign.isalnum() or sign in _TELLING for sign in plain):
        return Kind("sign", plain)  # the punctuation of Chinese and Japanese
    if plain.isascii():
        return Kind("form", plain)
    return Kind("joined" if way in _WAYS_OF_JOINING else "sign", plain)
