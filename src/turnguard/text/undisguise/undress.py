"""Text in plain letters: without what does not show, without marks that hide, and in no other letter forms.

Everything is taken off, and `told` is set only where that changes what is read: a joiner in a Persian word, a flag, a
soft hyphen at the end of a line, a Greek letter in a formula or an accent is plain writing.
"""

from __future__ import annotations

import re
import unicodedata

from turnguard.text.undisguise.characters import LATIN, MARK, OTHERS, kind, sorts
from turnguard.text.undisguise.hidden import reveal, without_flags
from turnguard.text.undisguise.reading import Reading

_TERMINAL = re.compile(
    "\x1b\\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\\\)|(?:\x1b\\[|\x9b)[0-?]{0,40}[ -/]{0,4}[@-~]|\x1b[ -/]{0,4}[0-Z\\\\^-~]"
)
_UNDERLINED = re.compile("(\\w)\x08+_")
_LATE = frozenset("\x08\x1b\x9b\u202c\u202d")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG_MARKS = re.compile(r"[^\w\s\x00-\x7f]{9,}")
_REVERSED = re.compile("\u202e([^\u202a-\u202e\u2029\n]*)\u202c?")
_LATER = re.compile("\u202d([^\u202a-\u202e\u2029\n]*)\u202c")
_GONE = re.compile(r"(?<=[^\W\d_])\0+(?=[^\W\d_])")
# A mark on an ASCII letter that has no composed form, inside a word; a stroke through a letter; three marks on one.
_HIDING = re.compile(
    rf"[A-Za-z]{MARK}+(?=[A-Za-z])|(?<=[A-Za-z])[A-Za-z]{MARK}|\w{MARK}*[\u0334-\u0338\u0488\u0489\u20d0-\u20df\u20e5-\u20f0]"
    rf"|{MARK}{{3}}|(?:[^\W\d_]{MARK}+){{3}}"
)
_ASCII_MARKED = re.compile(rf"(?<![^\x00-\x7f]){MARK}+")
_STACK = re.compile(rf"{MARK}{{2,}}")
_MARKS = re.compile(rf"{MARK}+")
_FORMED = re.compile("(?:\1?[A-Za-z])+")
_MEETING = re.compile(r"[A-Za-z0-9][^\x00-\x7f]|[^\x00-\x7f][A-Za-z0-9]")
_WORD = re.compile(r"\w+")


def undress(reading: Reading) -> None:
    """Take off what hides the letters of the text."""
    text = reading.text
    if not text.isascii() and _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\u202e" in text:
        text = _REVERSED.sub(lambda match: _turned(match, reading), text)
    found = sorts(text)
    if "ignored" in found:
        text = _without(reveal(text, reading), reading, _LATE)
    if not text.isascii():
        text = _unmarked(text, reading)
        if found & {"space", "form", "joined", "named"}:
            text = _formed(without_flags(text), reading)
        if found & {"other", "latin"}:
            text = _latinised(text, found, reading)
    reading.text = text


def show(reading: Reading) -> None:
    """Read the text as a terminal or a page shows it: without escape sequences, overstruck once, turned round.

    This comes when nothing else changes the text any more: what cuts up a sequence, or is turned round with the words,
    must be gone before.
    """
    text = reading.text
    if "\x1b" in text or "\x9b" in text:
        text = _TERMINAL.sub(lambda match: _sequence(match, reading), text)
    if "\x08" in text:
        text = _overstruck(_UNDERLINED.sub("_\x08\\1", text), reading)
    text = _LATER.sub(lambda match: match[1][::-1], text)
    reading.text = _without(text, reading, frozenset())


def _sequence(match: re.Match[str], reading: Reading) -> str:
    words = re.sub(r"[^\w/:.-]+", " ", match[0]) if match[0][1:2] == "]" else ""
    if len(words) > 8:
        reading.aside.append(words)  # the address of a link is read too
    return "\0"


def _overstruck(text: str, reading: Reading) -> str:
    shown: list[str] = []
    struck = ""
    for char in text:
        if char != "\x08":
            reading.told = reading.told or ((struck.isalpha() or struck == "_") and char.isalpha())
            shown.append(char)
            struck = ""
        else:
            while shown and shown[-1] == "\0":
                shown.pop()
            if shown and shown[-1] != "\n":
                struck = shown.pop()
    return "".join(shown)


def _without(text: str, reading: Reading, kept: frozenset[str]) -> str:
    """The text without what does not show. Inside a word that tells, unless the script needs it there."""
    holes = text.translate({ord(char): 0 for char in set(text) - kept if kind(char).sort == "ignored"})
    if not reading.told:
        reading.told = any(_hides(text[gone.start() - 1 : gone.end() + 1]) for gone in _GONE.finditer(holes))
    return holes.replace("\0", "")


def _turned(match: re.Match[str], reading: Reading) -> str:
    reading.told |= sum(map(str.isalpha, match[1])) > 1
    # Whether escapes were written before or after the words were turned is not known: the words are read both ways.
    if any(sign in match[1] for sign in "%\\&=<\x1b"):
        reading.aside.append(f"\u202d{match[1]}\u202c")
    return match[1][::-1]


def _hides(piece: str) -> bool:
    """Whether what stands between the first and the last character of `piece` hides anything."""
    signs, script = piece[1:-1], ord(piece[0])
    joiner = signs in ("\u200c", "\u200d") and 0x0600 <= script <= 0x1FFF
    word_break = signs == "\u200b" and 0x0E00 <= script <= 0x17FF
    variant = len(signs) == 1 and script >= 0x2E80 and (0xFE00 <= ord(signs) <= 0xFE0F or ord(signs) >= 0xE0100)
    return not (joiner or word_break or variant)


def _unmarked(text: str, reading: Reading) -> str:
    """The text composed, and without marks on letters that do not bear any in writing."""
    text = unicodedata.normalize("NFC", _LONG_MARKS.sub(_fewer, text))
    if _MARKS.search(text):
        if _HIDING.search(text):
            reading.told = True
            bare = _STACK.sub("", _ASCII_MARKED.sub("", unicodedata.normalize("NFD", text)))
            return _MARKS.sub("", unicodedata.normalize("NFC", bare))
        text = _ASCII_MARKED.sub("", text)
    return text


def _fewer(match: re.Match[str]) -> str:
    """No more than eight marks on one character: sorting long rows of them takes quadratic time."""
    kept: list[str] = []
    row = 0
    for char in match[0]:
        row = row + 1 if unicodedata.combining(char) else 0
        if row <= 8:
            kept.append(char)
    return "".join(kept)


def _formed(text: str, reading: Reading) -> str:
    """Letters of other forms in plain ones. A few of them are a formula or an abbreviation; more are a disguise."""
    table: dict[int, str] = {}
    letters = joined = 0
    for char in set(text):
        sort, becomes = kind(char)
        if sort in ("form", "named"):
            single = len(becomes) == 1 and becomes.isalpha()
            table[ord(char)] = "\1" + becomes if single else becomes
            letters += single
        elif sort in ("joined", "space", "sign"):
            table[ord(char)] = becomes
            joined += sort == "joined"
    if joined and not reading.told:
        reading.told = sum(kind(char).sort == "joined" for char in text) > 4
    text = text.translate(table)
    return _FORMED.sub(lambda match: _plain_form(match, reading), text) if letters else text


def _plain_form(match: re.Match[str], reading: Reading) -> str:
    word = match[0]
    plain = word.replace("\1", "")
    forms = len(word) - len(plain)
    if forms and not reading.told:
        # "xᵢ", "Mᵐᵉ" and "ＮＨＫ" are plain writing
        mixed = re.search("\1[A-Za-z][A-Za-z]", word) is not None
        reading.told = mixed or forms > 3 or (forms == 3 and not plain.isupper())
    return plain


def _latinised(text: str, found: set[str], reading: Reading) -> str:
    """Replace letters that look like ASCII letters by those letters.

    This applies to words that mix scripts, and to words made of look-alikes alone if the text is mostly Latin.
    """
    letters = len(text.encode("ascii", "ignore").translate(None, _NO_LETTERS))
    mostly = letters * 2 > sum(map(str.isalpha, text))
    if not (mostly or "latin" in found or _MEETING.search(text)):
        return text

    def one(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii() or (len(word) < 3 and not word[0].isdigit()):  # a unit such as a Greek mu and an m
            return word
        folded = "".join(OTHERS.get(char) or LATIN.get(char, char) for char in word)
        others = sum(char in OTHERS for char in word)
        if others:
            passes = any(map(str.isascii, word)) or (mostly and folded.isascii())
        else:  # phonetic writing has letters that pass for no other one
            passes = folded.isascii() and folded != word
        if not passes:
            return word
        measure = others == 1 and word[0] in _GREEK and word[1:].isascii()
        reading.told |= not measure and len(word) > 2 and any("A" <= char <= "z" for char in folded)
        return folded

    return _WORD.sub(one, text)


_NO_LETTERS = bytes(byte for byte in range(256) if not (65 <= byte <= 90 or 97 <= byte <= 122))
_GREEK = frozenset("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ")
