"""`data:` URIs: read one, and find those (and bare base64 pictures) that stand inside text.

Text must not be able to hide in a URI: what follows the picture's own end stays in the text, and so do the words of
its head. A payload whose end cannot be told, or that is broken into words rather than lines, is extracted and stays in
the text as well. Linear time: how much payload is read, and how many pictures are found, is bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_to_bytes

from turnguard.core.step import Document, Image
from turnguard.media import sniff as _sniff
from turnguard.media.types import Unreadable

_LEAST_BARE = 200  # characters; shorter base64 without a head is text
_LEAST = 24  # a shorter payload is a mention in prose ("data:image/png;base64,..."): no picture is that small
_DEPTH = 3  # SVG inside SVG inside ...
_MOST = 64  # pictures and documents of one text: far more than are ever judged
_READINGS = 3  # times the text's length: as much payload is read, so that heads inside payloads stay linear
_SHORTEST_LINE = 40  # characters; MIME breaks at 76, PEM at 64
_ORDINARY_TYPES = re.compile(  # say nothing about the picture; any other words in a head are judged as text
    r"image/(?:png|x-png|apng|p?jpe?g|gif|webp|(?:x-(?:ms-)?)?bmp|tiff?|avif|hei[cf]|jxl|svg\+xml|x-icon|vnd\.microsoft\.icon)"
    r"|application/(?:octet-stream|(?:x-)?pdf)"
)
_ORDINARY_PARAMETERS = re.compile(r"(?:base64|charset=(?:utf-?8|utf-16|us-ascii|ascii|iso-8859-1))?", re.IGNORECASE)

_COLON, _COMMA, _SPACE = r"(?::|%3a|\\u003a)", r"(?:,|%2c|\\u002c)", r"\s{0,8}"
_START = re.compile(
    # data:image/png;base64,
    rf"(?i:data{_COLON}{_SPACE}(?P<type>(?:image|application)(?:\\?/|%2f|\\u002f)(?:[a-z0-9.+\-]|%2b|\\u002b){{1,60}})"
    rf"(?P<parameters>(?:{_SPACE}(?:;|%3b|\\u003b)[^,;\"'<>\s%\\]{{0,60}}){{0,6}}){_SPACE}{_COMMA})"
    # How base64 of a PNG, GIF, PDF, AVIF, JPEG, WebP, TIFF and BMP begins; a short one counts only where a word begins.
    r"|(?P<bare>iVBORw0KGgo|R0lGOD(?=[dl]h)|JVBERi0"
    r"|(?:(?<![A-Za-z0-9+/_\\\-])|(?<=\\[nrt]))(?:(?:\\?/|_)9j(?:\\?/|_)|UklGR|SUkqA|TU0AK"
    r"|AAAA[A-Za-z0-9+/]{4}(?:eXBhdmlm|eXBoZWl[jt4z]|eXBtaWYx)|Qk[0-3](?=[A-Za-z0-9+/]{5}AAAA)))"
)
_HEADS = ("data:", "data%3a", "data\\u003a")
_BARE_HINTS = ("iVBORw0KGgo", "R0lGOD", "JVBERi0", "9j", "UklGR", "SUkqA", "TU0AK", "AAAA")
"""One of them stands in each: most texts are told by a quick search for these."""
# One piece of a payload that travelled through JSON, MIME, a URL or a terminal.
_PIECE = re.compile(
    r"(?P<run>(?-i:[A-Za-z0-9+/_\-]+))|(?P<slash>\\/|%2f|\\u002f)|(?P<plus>%2b|\\u002b)|(?P<pad>=|%3d|\\u003d)"
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
        return media_type.strip().lower(), _unquoted(payload)
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


def _unquoted(payload: str) -> bytes:
    return unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))


@dataclass(slots=True)
class _Search:
    """What was found so far, and how many characters of payload may still be read."""

    left: int
    found: list[Image | Document] = field(default_factory=list)

    def may_read(self, characters: int) -> bool:
        self.left -= max(characters, _LEAST_BARE)
        return self.left >= 0


def split_data_uris(text: str) -> tuple[str, tuple[Image | Document, ...]]:
    """The text to judge, with "[image 1]" where a picture stood, and the pictures and PDFs that were found in it.

    Found are `data:` URIs (percent-encoded, JSON-escaped and line-broken ones too) and base64 of more than 200
    characters that begins as a picture or a PDF does. SVG is text: its source takes the URI's place. `data:` URIs of
    other types stay as they are. At most 64 are found: of a text with more the rest stays as it is, and the last part
    found is one that cannot be read. Never raises. Pure; linear in the text.
    """
    lowered = text.lower()
    headed = "data" in lowered and any(head in lowered for head in _HEADS)
    bare = len(text) >= _LEAST_BARE and any(hint in text for hint in _BARE_HINTS)
    if not headed and not bare:
        return text, ()
    search = _Search(len(text) * _READINGS + 1_000_000)
    plain = _split(text, search, 0)
    if search.left < 0:
        search.found.append(Image("data:"))  # malformed: what may stand in the rest counts as not judged
    return plain, tuple(search.found)


def _split(text: str, search: _Search, depth: int) -> str:
    out: list[str] = []
    at = 0
    while search.left >= 0 and (head := _START.search(text, at)) is not None:
        if len(search.found) >= _MOST:
            search.left = -1
            break
        taken = _encoded(text, head, search, depth) if _is_base64(head) else _plain(text, head, search, depth)
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


def _encoded(text: str, head: re.Match[str], search: _Search, depth: int) -> tuple[str, int] | None:
    """What stands in for a base64 payload and where the text goes on; None where it is no picture and stays text."""
    start = head.start() if head["bare"] else head.end()
    pieces = list(_pieces(text, start))
    length = sum(len(piece) for piece, _, _ in pieces)
    if not search.may_read(length) or length < (_LEAST_BARE if head["bare"] else _LEAST):
        return None
    clean = "".join(piece for piece, _, _ in pieces)
    data = decode_base64(clean[: length - (length % 4 == 1)])
    declared = _declared(head)
    end: int | None
    kind = _sniff.what(data)
    if kind == "pdf":
        last = data.rfind(b"%%EOF")
        end = last + 5 if last >= 0 else None
        search.found.append(Document(data, "application/pdf"))
    elif kind == "image":
        end = _sniff.end_of(data)
        search.found.append(Image(data[:end], _sniff.image_type(data)))
    elif declared.startswith("image/") and kind == "svg" and depth < _DEPTH:
        until = _position(text, pieces, ((data.rfind(b">") + 1) * 4 + 2) // 3)
        source = _words(head) + _split(data.decode("utf-8", "replace"), search, depth + 1)
        return source if _in_lines(pieces, until) else f"{source} {text[head.start() : until]}", until
    elif declared.startswith("image/") and length >= _LEAST_BARE:
        end = None
        search.found.append(Image(data, declared))
    else:
        return None
    stand_in = f"[{search.found[-1].kind} {len(search.found)}]"
    until = pieces[-1][2] if end is None else _position(text, pieces, (end * 4 + 2) // 3)
    if end is None or not _in_lines(pieces, until):
        # What hides behind the end, or is spelled between the gaps, would be swallowed: it stays in the text too.
        return f"{stand_in} {text[head.start() : until]}", until
    return f"{stand_in} {_words(head)}".rstrip(), until


def _declared(head: re.Match[str]) -> str:
    declared = unquote(head["type"] or "").lower()
    return declared.replace("\\u002f", "/").replace("\\u002b", "+").replace("\\", "")


def _words(head: re.Match[str]) -> str:
    """What a head says beyond what heads are for, and a space: an invented type, parameters that are none."""
    parameters = re.split(r";|%3b|\\u003b", head["parameters"] or "", flags=re.IGNORECASE)
    said = [word.strip() for word in parameters if not _ORDINARY_PARAMETERS.fullmatch(word.strip())]
    if (declared := _declared(head)) and not _ORDINARY_TYPES.fullmatch(declared):
        said.insert(0, declared)
    return " ".join((*said, "")) if said else ""


def _in_lines(pieces: list[tuple[str, int, int]], until: int) -> bool:
    """Whether the payload as far as `until` is in one piece, or in lines as programs break them: of equal length.

    The first may be shorter, where the head stood before it, and the last.
    """
    lines: list[int] = []
    before = -1
    for clean, start, end in pieces:
        if start >= until:
            break
        length = len(clean) - max(0, end - until) if len(clean) > 1 else 1
        if start == before:
            lines[-1] += length
        else:
            lines.append(length)
        before = end
    width = max(lines)
    short = [line for line in lines[1:-1] if line < width]
    return len(lines) == 1 or (width >= _SHORTEST_LINE and not short)


def _plain(text: str, head: re.Match[str], search: _Search, depth: int) -> tuple[str, int] | None:
    """The same for a payload that is not base64: SVG source, as a rule."""
    match = _PLAIN.match(text, head.end())
    payload = match[0] if match else ""
    declared = _declared(head)
    if not search.may_read(len(payload)):
        return None
    if len(payload) < _LEAST or "%" not in payload or not declared.startswith("image/"):
        return None
    end = head.end() + len(payload)
    if "svg" in declared or _sniff.what(_unquoted(payload)) == "svg":
        return (_words(head) + _split(unquote(payload), search, depth + 1), end) if depth < _DEPTH else None
    search.found.append(Image(_unquoted(payload)))
    return f"[image {len(search.found)}] {_words(head)}{payload}", end


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
