"""Ways to hide a sentence from a reader of plain text, and ways in which a file or a protocol then writes it.

Each way takes a text and gives it back in disguise. They are building blocks: tests wear one, or two over each other.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import quopri
import zlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

Way = Callable[[str], str]


def b64(data: str | bytes) -> str:
    """Base64, as text."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def _units(text: str) -> list[str]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [data[at : at + 2].hex() for at in range(0, len(data), 2)]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def _between(sign: str) -> Way:
    """The sign after every letter of every word."""
    return lambda text: "".join(char + sign if char.isalnum() else char for char in text)


def _spelt(start: int) -> Way:
    """Letters of an alphabet that begins with capitals and goes on with small ones."""

    def way(text: str) -> str:
        return "".join(
            chr(start + ord(char) - (65 if char.isupper() else 71)) if char.isascii() and char.isalpha() else char
            for char in text
        )

    return way


LOOKALIKE: Final = str.maketrans(
    "aceopxyABEHKMNOPSTX",
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0391\u0392\u0395\u0397\u039a\u039c\u039d\u039f\u03a1\u0405\u03a4\u03a7",
)

ENCODINGS: Final[dict[str, Way]] = {
    "base64": b64,
    "base64 for URLs, without padding": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in lines of 20": lambda text: _wrapped(b64(text), 20),
    "base64 in quoted lines": lambda text: "> " + _wrapped(b64(text), 24).replace("\n", "\n> "),
    "base64 in the path of a URL": lambda text: f"https://x.example/d/{b64(text)}",
    "base64 joined to a word": lambda text: f"data{b64(text)}",
    "base64 with garbage after it": lambda text: b64(text + "!" * 20),
    "base64 with a broken byte": lambda text: b64(text.encode()[:-4] + b"\xff " + text.encode()[-4:]),
    "base64 of UTF-16": lambda text: b64(text.encode("utf-16-le")),
    "base64 of hex": lambda text: b64(text.encode().hex()),
    "base64 of gzip in lines of 76": lambda text: _wrapped(b64(gzip.compress((text + " ").encode() * 3)), 76),
    "base64 of zlib": lambda text: b64(zlib.compress(text.encode())),
    "base64 cut by a sign": lambda text: b64(text)[:9] + "*" + b64(text)[9:],
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex in a C array": lambda text: ",".join(f"0x{byte:02x}" for byte in text.encode()),
    "hex in pairs": lambda text: text.encode().hex(" "),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent of units": lambda text: "".join(f"%u{unit}" for unit in _units(text)),
    "escapes of JSON": lambda text: "".join(f"\\u{unit}" for unit in _units(text)),
    "escapes of Python": lambda text: "".join(f"\\U{ord(char):08x}" for char in text),
    "escapes of JavaScript": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "escapes of bytes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "octal escapes": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "character references": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "hexadecimal references": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "references escaped twice": lambda text: "".join(f"&amp;#{ord(char)};" for char in text),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
}

CUTS: Final[dict[str, Way]] = {
    f"{name} in words": _between(sign)
    for name, sign in {
        "zero-width spaces": "\u200b",
        "soft hyphens": "\u00ad",
        "word joiners": "\u2060",
        "Mongolian separators": "\u180e",
        "Hangul fillers": "\u3164",
        "object replacements": "\ufffc",
        "Braille blanks": "\u2800",
        "BEL": "\x07",
        "NUL": "\x00",
        "a C1 control": "\x86",
        "colour codes": "\x1b[31m",
        "low lines": "\u0332",
        "strokes": "\u0336",
        "the tag wbr": "<wbr>",
        "empty tags": "<b></b>",
        "comments": "<!-- -->",
        "the reference to a soft hyphen": "&shy;",
        "the number of a zero-width space": "&#8203;",
        "the reference to a joiner": "&zwnj;",
        "a percent-encoded soft hyphen": "%C2%AD",
        "a quoted soft hyphen": "=C2=AD",
        "six characters of JSON": "\\u200b",
    }.items()
} | {
    "overstrike": lambda text: "".join(f"{char}\b{char}" if char.isalnum() else char for char in text),
    "underlining by overstrike": lambda text: "".join(f"_\b{char}" if char.isalnum() else char for char in text),
    "soft line breaks in words": lambda text: _wrapped(text, 3).replace("\n", "=\n"),
}

FORMS: Final[dict[str, Way]] = {
    "mathematical letters": _spelt(0x1D400),
    "double-struck letters": _spelt(0x1D5A0),
    "full-width letters": lambda text: "".join(
        chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text
    ),
    "circled letters": _spelt(0x24B6),
    "look-alikes": lambda text: text.translate(LOOKALIKE),
    "stacked marks": _between("\u0301\u0302\u0303\u0304"),
}

APART: Final[dict[str, Way]] = {
    "spaced letters": " ".join,
    "dotted letters": lambda text: " ".join(".".join(word) for word in text.split()),
    "starred letters": lambda text: " ".join("*".join(word) for word in text.split()),
    "one letter a line": lambda text: "\n".join(text.replace(" ", "")),
}

HIDDEN: Final[dict[str, Way]] = {
    "tag characters": lambda text: "hi" + "".join(chr(0xE0000 + ord(char)) for char in text if char.isascii()),
    "variation selectors": lambda text: (
        "hi" + "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in text.encode())
    ),
    "right-to-left override": lambda text: f"\u202e{text[::-1]}\u202c",
}

WAYS: Final = ENCODINGS | CUTS | FORMS | APART | HIDDEN

WRITERS: Final[dict[str, Way]] = {
    "raw": lambda text: text,
    "JSON": json.dumps,
    # HTML reads the references of C1 controls as signs of Windows-1252, so that a writer leaves them as they are.
    "HTML": lambda text: "".join(char if char <= "\x9f" else f"&#{ord(char)};" for char in html.escape(text)),
    "a URL": lambda text: "https://x.example/?q=" + quote(text.encode("utf-8", "surrogatepass"), safe=""),
    "an e-mail": lambda text: quopri.encodestring(text.encode("utf-8", "surrogatepass")).decode("ascii", "replace"),
}
