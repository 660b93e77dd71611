"""What a text says once its disguises are off: judged beside the text as given, where the two differ in their letters.

Pure, no I/O, linear in length. Undone, in this order:

- simple encodings: base64 (also of UTF-16, gzip or zlib), base32, hex, percent, `\\x41` and `\\u0041` escapes, HTML
  and quoted-printable character references; twice, for what was wrapped twice. What decodes to no readable text stays;
- letters in other clothes: NFKC (full-width, mathematical, circled), regional indicators and negative squares, tag
  characters (invisible ASCII), Cyrillic, Greek and other look-alikes of Latin letters where a text mixes them;
- invisible characters and direction marks inside words, stacked combining marks, and s p a c e d letters.

Text in any language that is written plainly gives None and costs no request: umlauts, CJK, emoji with their joiners,
Persian and Indic joiners are plain. What cannot be undone without guessing is left to the model: rot13, leetspeak,
reversed text, ciphers, foreign transliteration.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import quopri
import re
import unicodedata
import zlib
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

MOST_DECODED = 200_000
"""Characters that one encoded run may become; the rest is left out (a compressed bomb)."""
GROWTH = 8
"""How many times its length a text may become by unpacking. Each run has its share by its own length, so that one bomb
takes nothing from what stands beside it.
"""
_ROUNDS = 2

# ---------------------------------------------------------------- encodings

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{6,}(?:={1,2}|(?![A-Za-z0-9+/=_-]))")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{16,}={0,6}(?![A-Za-z0-9=])")
_HEX = re.compile(r"(?<![A-Za-z0-9])(?:0x)?((?:[0-9A-Fa-f]{2}[ :]?){5,}[0-9A-Fa-f]{2})(?![A-Za-z0-9])")
_RUN = re.compile(r"[A-Za-z0-9+/_-](?:[A-Za-z0-9+/_-]{10}|[0-9A-Fa-f][0-9A-Fa-f :]{10})")
_PERCENT = re.compile(r"[A-Za-z0-9._~+%-]{3,}")
_PERCENTS = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPES = re.compile(r"\\{1,4}(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|([0-3][0-7]{2}))")
_ENTITIES = re.compile(r"&#(?:[0-9]{2,7}|[xX][0-9A-Fa-f]{2,6});?")
_QUOTED = re.compile(r"(?:=[0-9A-F]{2}){3,}")


def decoded(text: str) -> str:
    """`text` with what was simply encoded written out in place; the same object where nothing was."""
    room = GROWTH * len(text)
    for _ in range(_ROUNDS):
        before = text
        if "%" in text:
            text = _written_out(_PERCENT, _percent, text, room)
        if "\\" in text:
            text = _ESCAPES.sub(_escape, text)
        if "&#" in text:
            text = _ENTITIES.sub(_entity, text)
        if "=" in text:
            text = _written_out(_QUOTED, _quoted, text, room)
        # a shorter run is a word unless "=" follows; begins with a plain set, many times faster than a look-behind
        if _RUN.search(text) or "=" in text:
            text = _written_out(_HEX, _hex, text, room)
            text = _written_out(_BASE32, _base32, text, room)
            text = _written_out(_BASE64, _base64, text, room)
        if text == before:
            return before
    return text


def _written_out(pattern: re.Pattern[str], decode: Callable[[re.Match[str], int], str], text: str, room: int) -> str:
    """What `pattern` finds, decoded in place; each run may grow by what is left of `room` for a text of this length."""
    factor = max(1, room // max(1, len(text)))
    return pattern.sub(lambda match: decode(match, min(MOST_DECODED, factor * len(match[0]))), text)


def _percent(match: re.Match[str], most: int) -> str:
    whole = match[0]
    escapes = _PERCENTS.findall(whole)
    # a space or a slash has to be written so in a URL, and hides nothing; a letter hides
    if not any(_has_letter(unquote_to_bytes(escape).decode("utf-8", "ignore")) for escape in escapes):
        return whole
    return _readable(unquote_to_bytes(whole), most, least=3) or whole


def _escape(match: re.Match[str]) -> str:
    code = int(match[1] or match[2] or match[3] or "0", 16) if match[4] is None else int(match[4], 8)
    char = chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""
    return char if _has_letter(char) or char == " " else match[0]


def _entity(match: re.Match[str]) -> str:
    char = html.unescape(match[0] if match[0].endswith(";") else match[0] + ";")
    return char if _has_letter(char) or char == " " else match[0]


def _quoted(match: re.Match[str], most: int) -> str:
    return _readable(quopri.decodestring(match[0].encode()), most, least=3) or match[0]


def _hex(match: re.Match[str], most: int) -> str:
    return _readable(bytes.fromhex(re.sub("[ :]", "", match[1])), most) or match[0]


def _base32(match: re.Match[str], most: int) -> str:
    run = match[0].rstrip("=")
    try:
        return _readable(base64.b32decode(run + "=" * (-len(run) % 8)), most) or match[0]
    except (binascii.Error, ValueError):
        return match[0]


def _base64(match: re.Match[str], most: int) -> str:
    whole = match[0]
    run = whole.rstrip("=").replace("-", "+").replace("_", "/")
    if len(run) < 11 and whole == match[0].rstrip("="):
        return whole  # a word
    for skip in range(4):  # a window may begin inside a run
        piece = run[skip:]
        piece = piece[: len(piece) - 1] if len(piece) % 4 == 1 else piece
        try:
            data = base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        found = _readable(data, most)
        if found is not None:
            return found
        if len(run) < 24:
            break
    return whole


def _readable(data: bytes, most: int, least: int = 4) -> str | None:
    """The bytes as text where they are text that someone could have meant; None for anything else."""
    data = _unpacked(data, most)
    for encoding in _encodings(data):
        try:
            # not final: what was cut, by a window or as a bomb, may end within a character
            text = codecs.getincrementaldecoder(encoding)().decode(data)
        except UnicodeDecodeError:
            continue
        if len(text) >= least and _is_text(text):
            return text
    return None


def _encodings(data: bytes) -> tuple[str, ...]:
    zeros = data.count(0)
    if zeros >= len(data) // 3 and len(data) % 2 == 0:
        return ("utf-16-le", "utf-16-be")
    return () if zeros else ("utf-8",)


def _unpacked(data: bytes, most: int) -> bytes:
    if data[:2] == b"\x1f\x8b":
        bits = 31
    elif data[:1] == b"\x78" and len(data) > 2 and (data[0] * 256 + data[1]) % 31 == 0:
        bits = 15
    else:
        return data
    try:
        return zlib.decompressobj(bits).decompress(data, most - most % 2)  # whole units of UTF-16
    except zlib.error:
        return data


def _is_text(text: str) -> bool:
    """Mostly letters, marks and spaces, and no control characters."""
    plain = 0
    for char in text:
        if char.isalpha() or char in " \n\t" or unicodedata.category(char)[0] == "M":
            plain += 1
        elif not char.isprintable() and char != "\r":
            return False
    return plain * 10 >= len(text) * 7


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


# ---------------------------------------------------------------- letters

_IGNORED = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IGNORABLE = re.compile(f"[{_IGNORED}]+")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_REVERSED = re.compile("\u202e([^\u202a-\u202e\u2029\n]*)\u202c?")
# Letters in other forms, as NFKC reads them. Left out is what plain text is full of: Thai and Lao vowels, Hangul
# letters, the signs for trademark, number, degree and ordinals.
_FORMS = re.compile(
    "[\u0132\u0133\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3\u02b0-\u02b8\u02e0-\u02e4\u1d2c-\u1d6a\u1d78\u1d9b-\u1dbf"
    "\u2071\u207f\u2090-\u209c\u2100-\u2102\u2105-\u2108\u210a-\u2115\u2119-\u211d\u2124-\u214f\u2160-\u217f"
    "\u24b6-\u24e9\ufb00-\ufdff\ufe70-\ufefc\uff21-\uff3a\uff41-\uff5a\uff65-\uff9f\uffa1-\uffdc"
    "\U0001d400-\U0001d7ff\U0001ee00-\U0001eeff]+"
)
_MARKS = "\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_MARK = re.compile(f"[{_MARKS}]+")
_STRUCK = re.compile(f"[\u0334-\u0338\u0488\u0489\u20d0-\u20df\u20e5-\u20f0]|[{_MARKS}]{{3}}")
_FLAGS = re.compile("(?<![\U0001f1e6-\U0001f1ff])[\U0001f1e6-\U0001f1ff]{2}(?![\U0001f1e6-\U0001f1ff])")

_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Regional indicators; negative squared, negative circled, squared and parenthesised letters.
_CLOTHED = {
    first + number: letter
    for first in (0x1F1E6, 0x1F170, 0x1F150, 0x1F130, 0x1F110, 0x249C)
    for number, letter in enumerate(_LATIN)
}
# Small capitals and letters of phonetic alphabets, and Lisu's capitals.
_CLOTHED |= {
    ord(odd): plain
    for odd, plain in zip(
        "\u1d00\u0299\u1d04\u1d05\u1d07\ua730\u0262\u029c\u026a\u1d0a\u1d0b\u029f\u1d0d\u0274\u1d0f\u1d18\u0280\ua731\u1d1b\u1d1c"
        "\u1d20\u1d21\u028f\u1d22\u0131\u0237\u0251\u0261\u0269\u028b",
        "abcdefghijklmnoprstuvwyzijagiv",
        strict=True,
    )
}
# Look-alikes by eye, for words that mix scripts (a small part of Unicode's confusables.txt, read as a reader would).
_ALIKE = {
    ord(odd): plain
    for odds, plains in (
        ("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d", "aeopcyxijshdqw"),
        ("\u044c\u0433\u043f\u043a\u043c\u0442\u0432\u043d\u04af\u04cf", "brnkmtbhyl"),
        (
            "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405",
            "ABEKMHOPCTYXIJS",
        ),
        (
            "\u03b1\u03b2\u03b3\u03b5\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c2\u03c3\u03c4\u03c5\u03c7\u03c9",
            "abyenikvopcotuxw",
        ),
        ("\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7", "ABEZHIKMNOPTYX"),
        ("\u0585\u057d\u0578\u0570\u0581\u0561", "ounhga"),
        (
            "\u13aa\u13f4\u13df\u13a0\u13ac\u13bb\u13ab\u13e6\u13de\u13b7\u13e2\u13da\u13a2\u13d9\u13d4\u13c3",
            "ABCDEHJKLMPSTVWZ",
        ),
    )
    for odd, plain in zip(odds, plains, strict=True)
}
_ALIKES = re.compile(f"[{''.join(map(chr, _ALIKE))}]")
_ASCII_LETTER = re.compile("[A-Za-z]")
_WORD = re.compile(r"[^\W\d_]+")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_GAP = r"[ .,_*|/\\~+\u00b7\u2022-]{1,3}"
_SPACED = re.compile(rf"(?<![^\W_])[^\W\d_](?:{_GAP}[^\W\d_](?![^\W_])){{3,}}")


@lru_cache(maxsize=1)
def _odd() -> frozenset[str]:
    """Every character that can be a disguise. A set, because a class of so many ranges is slow to search for."""
    ranges = re.findall("(.)-(.)|(.)", _IGNORED + _FORMS.pattern[1:-2] + _MARKS)
    points = {point for a, b, one in ranges for point in range(ord(a or one), ord(b or one) + 1)}
    return frozenset(map(chr, points | set(_CLOTHED)))


def _undressed(text: str) -> str:
    """The text in plain letters; itself where only its form differs, and not what it says."""
    struck = len(_STRUCK.findall(text)) > 1
    hidden = struck or _TAGS.search(text) is not None or any(map(_hides, _IGNORABLE.finditer(text)))
    given = unicodedata.normalize("NFC", _IGNORABLE.sub("", text))
    plain = _REVERSED.sub(lambda match: match[1][::-1], _TAGS.sub(_untagged, text))
    plain = unicodedata.normalize("NFC", _IGNORABLE.sub("", plain))
    if struck:
        plain = _MARK.sub("", plain)
    kept = _FLAGS.sub(" ", plain)
    plain = _latinised(_FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), kept.translate(_CLOTHED)))
    return plain if hidden or _NO_LETTERS.sub("", plain) != _NO_LETTERS.sub("", given) else text


def _hides(match: re.Match[str]) -> bool:
    """Whether what is invisible stands inside a word, other than where a script needs it."""
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    if not (before.isalnum() and after.isalnum()):
        return False
    signs, script = match[0], ord(before)
    joiner = signs in ("\u200c", "\u200d") and 0x0600 <= script <= 0x1FFF
    word_break = signs == "\u200b" and 0x0E00 <= script <= 0x17FF
    variant = len(signs) == 1 and script >= 0x2E80 and (0xFE00 <= ord(signs) <= 0xFE0F or ord(signs) >= 0xE0100)
    return not (joiner or word_break or variant)


def _untagged(match: re.Match[str]) -> str:
    return " " + "".join(chr(ord(char) - 0xE0000) for char in match[0]) + " "


def _latinised(text: str) -> str:
    """Look-alikes as the Latin letters that they pass for: in words that mix scripts, and in words of look-alikes alone
    within a text that is mostly Latin.
    """
    latin = sum(map(len, re.findall("[A-Za-z]+", text)))
    mostly = latin * 2 > len(_NO_LETTERS.sub("", text))

    def one(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii() or len(word) < 3:  # a unit such as a Greek mu and an m
            return word
        folded = word.translate(_ALIKE)
        mixed = folded != word and any(map(str.isascii, word))
        return folded if mixed or (mostly and folded.isascii()) else word

    return _WORD.sub(one, text)


def _joined(match: re.Match[str]) -> str:
    """Single letters as words: the narrowest gap is inside a word, a wider one between two."""
    gaps = re.split(r"[^\W\d_]", match[0])[1:-1]
    narrow = min(map(len, gaps))
    letters = [char for char in match[0] if char.isalpha()]
    joined = letters[0] + "".join(
        ("" if len(gap) == narrow else " ") + letter for gap, letter in zip(gaps, letters[1:], strict=True)
    )
    return joined if max(map(len, joined.split())) > 3 else match[0]  # U.S.A., e.g.


# ---------------------------------------------------------------- the whole


def normalised(text: str) -> str | None:
    """What `text` says without its disguises; None where that is what it says anyway."""
    plain = decoded(text)
    if not plain.isascii():
        if not _odd().isdisjoint(plain):
            plain = _undressed(plain)
        elif _ASCII_LETTER.search(plain) and _ALIKES.search(plain):
            plain = _latinised(plain)
    plain = _SPACED.sub(_joined, plain)
    return None if plain == text else plain
