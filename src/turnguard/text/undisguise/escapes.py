"""Characters written as escapes: percent, backslash, HTML character references and quoted-printable."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from turnguard.text.undisguise.reading import Reading, around

_H = "[0-9A-Fa-f]"
_WIDE = rf"u{_H}{{4}}"
_BYTE = rf"(?!0[0-9][dxXuo](?![0-9A-Za-z])){_H}{{2}}"  # "%02x" is a format
_PERCENT = re.compile(rf"%(?:{_WIDE}(?:%{_WIDE})*+|{_BYTE}(?:%{_BYTE})*+)")
_CODE = rf"(?:x{_H}{{2}}|u{_H}{{4}}|[ux]\{{{_H}{{1,8}}\}}|U{_H}{{8}}|[0-3][0-7]{{2}}|[\"'/fnrt])"
# A pattern that begins with a literal is many times faster to search: the backslash comes before what is asked of it.
_BACKSLASH = re.compile(rf"\\(?<!\\\\)\\*+{_CODE}(?:\\++{_CODE})*+")
_ONE_BACKSLASH = re.compile(rf"\\+(?:[xuU]\{{?({_H}+)\}}?|([0-7]{{3}})|(.))")
# Without its semicolon, a small number is the beginning of a longer one that something cuts up.
_NUMBER = r"#[0-9]{1,7}(?:;|(?<=[0-9]{2})(?<!#[12][0-9])(?<!#3[01]))"
_NAME = rf"(?:{_NUMBER}|#[xX]{_H}{{2,6}};?|#[xX]{_H};|[A-Za-z][A-Za-z0-9]{{1,31}};?)"
_REFERENCE = re.compile(rf"&{_NAME}(?:&{_NAME})*+")
_QUOTED = re.compile(rf"=(?:[0-9A-F]{{2}}(?:=[0-9A-F]{{2}})*+|{_H}{{2}}(?:={_H}{{2}}){{2,}}+)")
_SOFT_BREAK = re.compile(r"=(?<!==)[ \t]{0,76}\r?\n")
# A query string holds "=41" too. Several escapes in a row, a soft break or an escaped equals sign show the encoding.
_IS_QUOTED = re.compile(
    r"=(?:3D|(?<=[A-Za-z]=)(?:0[0-8BCEF]|1[A-F]|7F)(?=[A-Zg-z[])|[0-9A-F]{2}=[0-9A-F]{2}|(?<=[^\s=]=)\r?\n"
    rf"|{_H}{{2}}(?:={_H}{{2}}){{2}})"
)
# The overstrike of a printer; elsewhere it is the end of a word in a pattern, or begins a command of TeX.
_OVERSTRIKE = re.compile(r"(\w)\\{1,4}b(?=\1|_)|_\\{1,4}b(?=\w)")
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_LETTERS = re.compile("[A-Za-z]")


def decode(reading: Reading) -> None:
    """Write out every escape. A letter that had no need to be escaped tells that something was hidden."""
    text = reading.text
    accented = 0

    def written(decoder: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        def one(match: re.Match[str]) -> str:
            nonlocal accented
            char = decoder(match)
            if char != match[0]:
                reading.told = reading.told or _hides(char, match)
                accented += sum("\xc0" <= letter <= "\u024f" and letter.isalpha() for letter in char)
            return char

        return one

    if "=" in text and _IS_QUOTED.search(text):
        text = _SOFT_BREAK.sub(written(lambda _: ""), text)
        text = _QUOTED.sub(written(_quoted), text)
    if "%" in text:
        text = _PERCENT.sub(written(_percent), text)
    if "\\" in text:
        text = _OVERSTRIKE.sub(lambda match: f"{match[0][0]}\b", text)
        text = _BACKSLASH.sub(written(_backslash), text)
    if "&" in text:
        text = _REFERENCE.sub(written(_references), text)
    if accented:
        # A serialiser escapes an accent here and there, and the words can be read.
        reading.told |= accented * 4 > len(_LETTERS.findall(text))
    reading.text = text


def _hides(text: str, match: re.Match[str]) -> bool:
    """Whether what was written out are letters that no writer needs to escape, or a whole word of another script."""
    before, after = around(match)
    if not text:  # a soft line break
        return before.isalpha() and after.isalpha()
    letters = [char for char in text if char.isalpha() and not "\xc0" <= char <= "\u024f"]
    if len(letters) > 1:
        return len(letters) * 2 > len(text)  # bytes of a binary format are escaped too
    if not letters:
        return False
    if letters[0].isascii():  # but a folder may be named "\\x64"
        return after.isalpha() or (before.isalpha() and after != "\\")
    return any(char.isalpha() and not char.isascii() for char in (before, after))


def _percent(match: re.Match[str]) -> str:
    if match[0][1] == "u":
        return "".join(chr(int(code, 16)) for code in match[0].split("%u")[1:])
    decoded = unquote_to_bytes(match[0]).decode("utf-8", "replace")
    return match[0] if decoded == "\ufffd" and len(match[0]) == 3 else decoded  # "100%action" is no escape


def _backslash(match: re.Match[str]) -> str:
    def one(escape: re.Match[str]) -> str:
        if escape[1]:
            code = int(escape[1], 16)
            return chr(code) if code < 0x110000 else escape[0]
        if escape[2]:
            return chr(int(escape[2], 8))
        return _SIGNS.get(escape[3], escape[3])

    text = _ONE_BACKSLASH.sub(one, match[0])
    if text.isascii() or max(text) > "\xff":
        return text
    try:  # bytes of UTF-8, written one by one
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


_CONTROL = re.compile(r"&#(?:0*([0-9]|[12][0-9]|3[01])|[xX]0*(1?[0-9A-Fa-f]));")


def _references(match: re.Match[str]) -> str:
    # Browsers keep the controls that `html.unescape` drops.
    text = _CONTROL.sub(lambda code: chr(int(code[1]) if code[1] else int(code[2], 16)), match[0])
    return html.unescape(text)


def _quoted(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace")
