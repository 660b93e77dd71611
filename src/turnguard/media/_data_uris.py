"""`data:` URIs: read one, and find those (and bare base64 pictures) that stand inside text.

Text must not be able to hide in a payload: what follows the picture's own end stays in the text, and a payload whose
end cannot be told is extracted and stays in the text as well. Linear time: each stretch of payload belongs to one
head only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes

from turnguard.content import Document, Image
from turnguard.media import _sniff
from turnguard.media._types import Unreadable

_LEAST_BARE = 200  # characters; shorter base64 without a head is text
_LEAST = 24  # a shorter payload is a mention in prose ("data:image/png;base64,..."): no picture is that small
_DEPTH = 3  # SVG inside SVG inside ...

_COLON, _COMMA, _SPACE = r"(?::|%3a|\\u003a)", r"(?:,|%2c|\\u002c)", r"\s{0,8}"
_START = re.compile(
    # data:image/png;base64,
    rf"(?i:data{_COLON}{_SPACE}(?P<type>(?:image|application)(?:\\?/|%2f|\\u002f)(?:[a-z0-9.+\-]|%2b|\\u002b){{1,60}})"
    rf"(?P<parameters>(?:{_SPACE}(?:;|%3b|\\u003b)[^,;\"'<>\s%\\]{{0,60}}){{0,6}}){_SPACE}{_COMMA})"
    # How base64 of a PNG, GIF, PDF, AVIF, JPEG, WebP, TIFF and BMP begins; a short one counts only where a word begins.
    r"|(?P<bare>iVBORw0KGgo|R0lGOD(?=[dl]h)|JVBERi0"
    r"|(?:(?<![A-Za-z0-9+/_\\\-])|(?<=\\[nrt]))(?:(?:\\?/|_)9j(?:\\?/|_)|UklGR|SUkqA|TU0AK"
    r"|AAAA[A-Za-z0-9+/]{4}eXBhdmlm|Qk[0-3](?=[A-Za-z0-9+/]{5}AAAA)))"
)
_BARE_HINTS = ("iVBORw0KGgo", "R0lGOD", "JVBERi0", "eXBhdmlm", "9j", "UklGR", "SUkqA", "TU0AK", "Qk")
# One piece of a payload that travelled through JSON, MIME, a URL or a terminal.
_PIECE = re.compile(
    r"(?P<run>[A-Za-z0-9+/_\-]+)|(?P<slash>\\/|%2f|\\u002f)|(?P<plus>%2b|\\u002b)|(?P<pad>=|%3d|\\u003d)"
    r"|(?P<gap>(?:\s|\\[nrt]|%0[ad]|%20|\\u000[ad])+)",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[^\s\"'<>)\\]*")
_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n\f\v")


def read_data_uri(uri: str) -> tuple[str, bytes]:
    """The declared media type (lower case, no parameters) and the bytes of a `data:` URI; `Unreadable` if malformed."""
    head, comma, payload = uri.partition(",")
    if not comma or not head[:5].lower() == "data:":
        raise Unreadable("a malformed data: URI")
    media_type, *parameters = head[5:].split(";")
    encoded = any(parameter.strip().lower() == "base64" for parameter in parameters)
    if not encoded:
        return media_type.strip().lower(), unquote_to_bytes(payload)
    return media_type.strip().lower(), decode_base64(payload)


def decode_base64(payload: str) -> bytes:
    """Bytes of base64 in either alphabet, with or without padding, whitespace or percent escapes; else `Unreadable`."""
    if "%" in payload:
        payload = unquote(payload)
    payload = payload.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("not valid base64") from None


def split_data_uris(text: str) -> tuple[str, tuple[Image | Document, ...]]:
    """The text to judge, with "[image 1]" where a picture stood, and the pictures and PDFs that were found in it.

    Found are `data:` URIs (percent-encoded, JSON-escaped and line-broken ones too) and base64 of more than 200
    characters that begins as a picture or a PDF does. SVG is text: its source takes the URI's place. `data:` URIs of
    other types stay as they are. Pure; linear in the text.
    """
    lowered = text.lower()
    headed = "data:" in lowered or "data%3a" in lowered or "data\\u003a" in lowered
    bare = len(text) >= _LEAST_BARE and any(hint in text for hint in _BARE_HINTS)
    if not headed and not bare:
        return text, ()
    found: list[Image | Document] = []
    return _split(text, found, 0), tuple(found)


def _split(text: str, found: list[Image | Document], depth: int) -> str:
    out: list[str] = []
    at = 0
    while (head := _START.search(text, at)) is not None:
        taken = _encoded(text, head, found, depth) if _is_base64(head) else _plain(text, head, found, depth)
        if taken is None:
            out.append(text[at : head.end()])
            at = head.end()
        else:
            stand_in, end = taken
            out += (text[at : head.start()], stand_in)
            at = end
    out.append(text[at:])
    return "".join(out)


def _is_base64(head: re.Match[str]) -> bool:
    return head["bare"] is not None or "base64" in head["parameters"].lower()


def _encoded(text: str, head: re.Match[str], found: list[Image | Document], depth: int) -> tuple[str, int] | None:
    """What stands in for a base64 payload and where the text goes on; None where it is no picture and stays text."""
    pieces = list(_pieces(text, head.start() if head["bare"] else head.end()))
    clean = "".join(piece for piece, _, _ in pieces)
    if len(clean) < (_LEAST_BARE if head["bare"] else _LEAST):
        return None
    data = decode_base64(clean[: len(clean) - (len(clean) % 4 == 1)])
    declared = unquote(head["type"]).replace("\\", "").lower() if head["type"] else ""
    kind = _sniff.what(data)
    if kind == "pdf":
        end: int | None = data.rfind(b"%%EOF") + 5
        found.append(Document(data, "application/pdf"))
    elif kind == "image":
        end = _sniff.end_of(data)
        found.append(Image(data[:end], _sniff.image_type(data)))
    elif declared.startswith("image/") and kind == "svg" and depth < _DEPTH:
        return _split(data.decode("utf-8", "replace"), found, depth + 1), pieces[-1][2]
    elif declared.startswith("image/") and len(clean) >= _LEAST_BARE:
        end = None
        found.append(Image(data, declared))
    else:
        return None
    stand_in = f"[{found[-1].kind} {len(found)}]"
    if (
        end is None or end < 5
    ):  # no end can be told: what hides behind it would be swallowed, so it stays in the text too
        return f"{stand_in} {text[head.start() : pieces[-1][2]]}", pieces[-1][2]
    return stand_in, _position(text, pieces, (end * 4 + 2) // 3)


def _plain(text: str, head: re.Match[str], found: list[Image | Document], depth: int) -> tuple[str, int] | None:
    """The same for a payload that is not base64: SVG source, as a rule."""
    match = _PLAIN.match(text, head.end())
    payload = match[0] if match else ""
    if len(payload) < _LEAST or "%" not in payload or not head["type"].lower().startswith("image"):
        return None
    if "svg" in head["type"].lower():
        if depth >= _DEPTH:
            return None
        return _split(unquote(payload), found, depth + 1), head.end() + len(payload)
    found.append(Image(unquote_to_bytes(payload)))
    return f"[image {len(found)}] {payload}", head.end() + len(payload)


def _pieces(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """(base64 characters, start, end in the text) of one payload. A gap ends it where another payload begins."""
    at, seen_gap = start, False
    while (match := _PIECE.match(text, at)) is not None:
        if match["pad"] or (seen_gap and match["run"] and _START.match(text, at)):
            return
        seen_gap = match["gap"] is not None and at > start
        clean = match["run"] or ("/" if match["slash"] else "+" if match["plus"] else "")
        if clean:
            yield clean, at, match.end()
        at = match.end()


def _position(text: str, pieces: list[tuple[str, int, int]], count: int) -> int:
    """Where in the text the first `count` base64 characters end, their padding included."""
    at = pieces[-1][2]
    for clean, start, end in pieces:
        if count <= len(clean):
            at = start + count if len(clean) > 1 else end
            break
        count -= len(clean)
    for _ in range(2):
        match = _PIECE.match(text, at)
        if match is None or not match["pad"]:
            break
        at = match.end()
    return at
