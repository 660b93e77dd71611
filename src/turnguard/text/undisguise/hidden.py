"""Text that is carried by characters which do not show: tag characters and variation selectors."""

from __future__ import annotations

import re

from turnguard.text.undisguise import tables
from turnguard.text.undisguise.readable import texts
from turnguard.text.undisguise.reading import Reading

_TAGS = re.compile("(\U0001f3f4?)([\U000e0020-\U000e007e]+)\U000e007f?")
_SUBDIVISIONS = frozenset(tables.SUBDIVISIONS.split())
_REGIONS = frozenset(tables.REGIONS.split())
_INDICATORS = re.compile("[\U0001f1e6-\U0001f1ff]{2,}")
_FIRST_INDICATOR = 0x1F1E6
# One selector after an emoji or an ideograph chooses its shape. More, or one of the supplement elsewhere, are bytes.
_SELECTORS = re.compile(
    "[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}|(?<![\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]"
)


def reveal(text: str, reading: Reading) -> str:
    """Write out what tag characters and variation selectors say."""
    rows: list[str] = []

    def tagged(match: re.Match[str]) -> str:
        said = "".join(chr(ord(char) - 0xE0000) for char in match[2])
        if match[1] and said in _SUBDIVISIONS:
            return match[1]
        reading.told |= any(map(str.isalpha, said))
        rows.append(said)
        return f"{match[1]} {said} "

    text = _TAGS.sub(tagged, text)
    if len(rows) > 2:
        reading.aside.append("".join(rows))  # one letter here and one there
    data = bytes(map(_byte, "".join(_SELECTORS.findall(text))))
    for found in texts(data, bonus=4.0) if len(data) > 3 else ():
        reading.told = True
        reading.aside.append(found.text)
    return text


def _byte(selector: str) -> int:
    point = ord(selector)
    return point - 0xFE00 if point < 0xFE10 else point - 0xE0100 + 16


def without_flags(text: str) -> str:
    """Take out rows of flags. Indicators that are no flags, or that stand alone, are read as letters."""
    return _INDICATORS.sub(_flags, text)


def _flags(match: re.Match[str]) -> str:
    letters = "".join(chr(ord(sign) - _FIRST_INDICATOR + 65) for sign in match[0])
    pairs = {letters[at : at + 2] for at in range(0, len(letters), 2)}
    return " " if pairs <= _REGIONS else match[0]
