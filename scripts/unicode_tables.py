"""Write `src/turnguard/text/undisguise/tables.py` from Unicode's data, as ICU ships it.

`python scripts/unicode_tables.py > src/turnguard/text/undisguise/tables.py`

Needs PyICU (Debian's `python3-icu`, or `pip install PyICU` where ICU's headers are installed). ICU brings Unicode's
confusables (UTS #39), `Default_Ignorable_Code_Point` and the emoji sequences of UTS #51. Its data is under the Unicode
License v3.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import icu

HEAD = '''"""Tables of Unicode {version}, written by `scripts/unicode_tables.py` from ICU {icu}. Not edited by hand.

Unicode data files: Copyright 1991-present Unicode, Inc., Unicode License v3 (https://www.unicode.org/license.txt).
"""

# fmt: off
# ruff: noqa: E501

from typing import Final

UNICODE_VERSION: Final = "{version}"
'''

# The name tells the letter where no decomposition does.
NAMED = re.compile(
    r"(?:(?:NEGATIVE |CROSSED NEGATIVE )(?:SQUARED|CIRCLED) LATIN CAPITAL LETTER|REGIONAL INDICATOR SYMBOL LETTER"
    r"|PARENTHESIZED LATIN (?:CAPITAL|SMALL) LETTER) ([A-Z])"
)
SMALL_CAPITAL = re.compile(r"LATIN LETTER SMALL CAPITAL ([A-Z])")
SPOOF = icu.SpoofChecker()


def characters() -> Iterator[str]:
    """Every assigned character that is not ASCII."""
    for point in range(0x80, 0x110000):
        char = chr(point)
        if unicodedata.category(char) not in ("Cn", "Co", "Cs"):
            yield char


def alike(char: str) -> str | None:
    """Return the ASCII letter that the character is confusable with, by itself or as its capital."""
    skeleton = SPOOF.getSkeleton(0, char)
    plain = "".join(mark for mark in unicodedata.normalize("NFD", skeleton) if not unicodedata.combining(mark))
    if re.fullmatch("[A-Za-z]", plain):
        # The skeleton of a capital I is a small l.
        return "I" if plain == "l" and char.isupper() else plain
    found = SMALL_CAPITAL.fullmatch(unicodedata.name(skeleton, "") if len(skeleton) == 1 else "")
    if found:
        return found[1].lower()
    capital = char.upper()
    if capital != char and len(capital) == 1:
        above = alike(capital)
        return above.lower() if above else None
    return None


def lookalikes() -> tuple[dict[str, str], dict[str, str]]:
    """Letters that pass for an ASCII letter: of other scripts, and of the Latin script itself."""
    others: dict[str, str] = {}
    latin: dict[str, str] = {}
    for char in characters():
        if not char.isalpha() or unicodedata.normalize("NFKC", char) != char:
            continue
        if len(unicodedata.normalize("NFD", char)) > 1:
            continue
        small = SMALL_CAPITAL.fullmatch(unicodedata.name(char, ""))
        if icu.Script.getScript(char).getShortName() != "Latn":
            if plain := alike(char):
                others[char] = plain
        elif small:
            latin[char] = small[1].lower()
        elif re.fullmatch("[A-Za-z]", SPOOF.getSkeleton(0, char)) and not char.upper().isascii():
            # A letter with a stroke is a letter of its own, and so is the dotless i of Turkish.
            latin[char] = SPOOF.getSkeleton(0, char)
    return others, latin


def named() -> dict[str, str]:
    """Symbols whose name says which letter they show."""
    found = ((char, NAMED.fullmatch(unicodedata.name(char, ""))) for char in characters())
    return {char: match[1] for char, match in found if match}


def with_property(name: int) -> Iterator[int]:
    """Code points that have a binary property."""
    return (point for point in range(0x110000) if icu.Char.hasBinaryProperty(point, name))


def ranges(points: Iterable[int]) -> str:
    """The points as the inside of a character class."""
    spans: list[list[int]] = []
    for point in points:
        if spans and spans[-1][1] == point - 1:
            spans[-1][1] = point
        else:
            spans.append([point, point])
    return "".join(escaped(chr(a)) + ("-" + escaped(chr(b)) if b > a else "") for a, b in spans)


def flags() -> tuple[str, str]:
    """Regions that have a flag, as pairs of letters, and the subdivisions that have one."""
    pairs = [
        "".join(chr(ord(sign) - 0x1F1E6 + 65) for sign in flag)
        for flag in icu.UnicodeSet(r"[:RGI_Emoji_Flag_Sequence:]")
    ]
    tags = [
        "".join(chr(ord(sign) - 0xE0000) for sign in flag[1:-1])
        for flag in icu.UnicodeSet(r"[:RGI_Emoji_Tag_Sequence:]")
    ]
    return " ".join(sorted(pairs)), " ".join(sorted(tags))


def escaped(text: str) -> str:
    """The text as the inside of a Python string of ASCII alone."""
    return text.encode("unicode_escape").decode("ascii")


def literal(name: str, text: str, doc: str) -> str:
    """An assignment of a long string, wrapped."""
    lines, line = [], ""
    for char in text:
        piece = escaped(char) if not char.isascii() else char
        if len(line) + len(piece) > 108:
            lines.append(line)
            line = ""
        line += piece
    lines.append(line)
    body = "\n".join(f'    "{part}"' for part in lines)
    return f'\n{name}: Final = (\n{body}\n)\n"""{doc}"""\n'


def main() -> None:
    """Print the module."""
    print(HEAD.format(version=icu.UNICODE_VERSION, icu=icu.ICU_VERSION), end="")
    others, latin = lookalikes()
    clothed = named()
    regions, subdivisions = flags()
    ignorable = ranges(with_property(icu.UProperty.DEFAULT_IGNORABLE_CODE_POINT))
    print(
        f'\nIGNORABLE: Final = "{ignorable}"\n"""Default_Ignorable_Code_Point, as the inside of a character class."""'
    )
    for name, table, doc in (
        ("OTHERS", others, "Letters of other scripts that are confusable with an ASCII letter"),
        ("LATIN", latin, "Latin letters that are confusable with an ASCII letter, small capitals among them"),
        ("NAMED", clothed, "Symbols that show a letter by their name and have no decomposition"),
    ):
        print(literal(name, "".join(table), doc + "."), end="")
        print(literal(f"{name}_PLAIN", "".join(table.values()), f"What `{name}` stand for, in the same order."), end="")
    print(literal("REGIONS", regions, "Regions that have an emoji flag."), end="")
    print(f'\nSUBDIVISIONS: Final = "{subdivisions}"\n"""Subdivisions that have an emoji flag of tag characters."""')


if __name__ == "__main__":
    main()
