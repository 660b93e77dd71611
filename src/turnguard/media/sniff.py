"""What bytes are, told from the bytes alone: a declared type is never trusted. Pure and quick.

`end_of` says where a picture's own data ends, so that what follows it can be told apart. Sources: the PNG, GIF89a, JPEG
(T.81 annex B), RIFF and BMP formats, and ISO 14496-12 boxes for AVIF and HEIC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from turnguard.media.boxes import boxes

What = Literal["image", "pdf", "svg", "text", "audio", "video", "other"]
RECORDED = ("audio", "video")
MOST_BEHIND = 64
"""Pictures, films and sounds behind a picture that are told apart: each search reads the rest of the file."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_GIF_BLOCK = re.compile(rb"[;!,]")
_SVG_ROOT = re.compile(rb"<(?:\w{1,20}:)?svg[\s>/]", re.IGNORECASE)
_SPACE = re.compile(rb"\s*")
_BEFORE_ROOT = ((b"<!--", b"-->"), (b"<?", b"?>"), (b"<!doctype", b">"))  # what may stand before the root, and its end

_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_FILM = (b"ftyp", b"mpvd")
"""Boxes with which a film begins: a file of its own, and the one that Android puts behind a HEIC photo."""
_NETPBM = re.compile(rb"P[1-7FfHh]\s")


def image_type(data: bytes) -> str | None:
    """The media type of a raster picture that is read here, or None."""
    head = data[:32]
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "image/tiff"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "image/bmp"
    if head[4:8] == b"ftyp" and (head[8:12] in (b"avif", b"avis") or b"avif" in data[16:64]):
        return "image/avif"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "image/heic"
    if head.startswith(b"\0\0\1\0") and len(data) >= 22:
        return "image/x-icon"
    return None


_UNREAD: tuple[tuple[int, tuple[bytes, ...], What, str], ...] = (
    (0, (b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3"), "audio", "audio is not judged"),
    (8, (b"WAVE",), "audio", "audio is not judged"),
    (4, _FILM, "video", "video is not judged"),
    (0, (b"\x1aE\xdf\xa3",), "video", "video is not judged"),
    (8, (b"AVI ",), "video", "video is not judged"),
    (0, (b"%!", b"\xc5\xd0\xd3\xc6"), "other", "PostScript is not run here"),
    (0, (b"\xd0\xcf\x11\xe0",), "other", "an old Office format (doc, xls, ppt, msg), which is not read here"),
    (0, (b"{\\rtf",), "other", "RTF is not read here"),
    (0, (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"), "other", "JPEG 2000 is not read here"),
    (0, (b"PK\3\4",), "other", "not a format that is read here"),
)
"""Formats that nothing here reads: where their marks stand, and why they are not judged."""


def _unread(head: bytes) -> tuple[What, str] | None:
    return next(((kind, cause) for at, marks, kind, cause in _UNREAD if head.startswith(marks, at)), None)


def what(data: bytes) -> What:
    """What kind of thing `data` is. `other` is anything that nothing here can read."""
    if image_type(data):
        return "image"
    head = data[:1024]
    if b"%PDF-" in head:
        return "pdf"
    if _is_svg(data[:4096]):
        return "svg"
    if (unread := _unread(head)) is not None:
        return unread[0]
    return "text" if _is_text(head) else "other"


def unread_cause(data: bytes) -> str:
    """Why nothing here reads `data`, in a few words."""
    unread = _unread(data[:1024])
    return unread[1] if unread is not None else "not a format that is read here"


def media_type(data: bytes) -> str:
    """The media type to declare for `data`."""
    by_kind = {"pdf": "application/pdf", "svg": "image/svg+xml", "text": "text/plain"}
    return image_type(data) or by_kind.get(what(data), "application/octet-stream")


def _is_svg(head: bytes) -> bool:
    """Whether the first element is `svg`. One pass: a regular expression would try every way to cut the comments."""
    lowered = head.lower()
    at = 0
    while match := _SPACE.match(head, at):
        at = match.end()
        for opening, closing in _BEFORE_ROOT:
            if lowered.startswith(opening, at):
                found = head.find(closing, at + len(opening))
                subset = head.find(b"[", at, max(found, at)) if opening == b"<!doctype" else -1
                if subset >= 0:  # its own declarations stand between brackets
                    found = head.find(closing, max(subset, head.find(b"]", subset)))
                if found < 0:
                    return False
                at = found + len(closing)
                break
        else:
            break
    return _SVG_ROOT.match(head, at) is not None


def _is_text(head: bytes) -> bool:
    """Whether it has the bytes of text in some encoding: no control characters but breaks, tabs and escapes.

    In UTF-16 and UTF-32 the NULs of ordinary letters stand in one half of the places.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\0\0\xfe\xff")):
        return True
    if _NETPBM.match(head):
        return False
    if b"\0" in head[:64]:
        zeros, others = sorted((head[0:64:2], head[1:64:2]), key=lambda half: -half.count(0))
        letters = others.replace(b"\0", b"")
        if zeros.count(0) * 3 < len(zeros) or len(letters) * 4 < len(others):
            return False
        return sum(map(_is_printable, letters)) * 10 >= len(letters) * 9 > 0
    if b"\x1b$)" in head:  # ISO-2022 shifts in and out of its second set
        head = head.translate(None, b"\x0e\x0f")
    return all(map(_is_printable, head))


def _is_printable(byte: int) -> bool:
    return byte >= 32 or byte == 27 or 9 <= byte <= 13


def end_of(data: bytes) -> int | None:
    """Where the picture's own data ends, or None where that cannot be told (malformed, or a format without an end)."""
    kind = image_type(data)
    finder = {
        "image/png": _png_end,
        "image/jpeg": _jpeg_end,
        "image/gif": _gif_end,
        "image/webp": _webp_end,
        "image/bmp": _bmp_end,
        "image/avif": _boxes_end,
        "image/heic": _boxes_end,
    }.get(kind or "")
    if finder is None:
        return None
    try:
        end = finder(data)
    except IndexError:
        return None
    return end if end is not None and end <= len(data) else None


def behind(data: bytes) -> int:
    """Where a picture, a film or a sound begins behind a picture's own data; the length of the file where none does.

    Phones put gain maps, second pictures and short films there.
    """
    end = end_of(data)
    if end is None:
        return len(data)
    film = data.find(b"ftyp", end) - 4
    gap = len(data) - len(data[end:].lstrip(b"\0"))
    starts = (end, gap, film if film >= end else len(data))
    return next((at for at in starts if what(data[at : at + 4096]) in ("image", *RECORDED)), len(data))


def one_behind_another(data: bytes) -> Iterator[tuple[int, bytes]]:
    """A picture and what stands behind its end, one after another, with where each begins.

    Behind a picture, `MOST_BEHIND` at most are told apart. The last one yielded beyond them is the rest, unread.
    """
    at = 0
    for _ in range(MOST_BEHIND + 2):
        if not (rest := data[at:]):
            return
        yield at, rest
        at += behind(rest)


def canvas_of(data: bytes) -> tuple[int, int] | None:
    """Width and height that the decoder of a GIF or WebP sets aside at once; None for other pictures."""
    kind = image_type(data)
    try:
        if kind == "image/gif":
            return _gif_canvas(data)[1:]
        return _webp_size(data) if kind == "image/webp" else None
    except IndexError:
        return None


def _number(
    data: bytes, at: int, length: int, order: Literal["big", "little"] = "little", *, signed: bool = False
) -> int:
    if at + length > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + length], order, signed=signed)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    if data[12:16] == b"VP8L":
        bits = _number(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF


def png_chunks(data: bytes, at: int = 8) -> Iterator[tuple[bytes, bytes]]:
    """The name and the body of each chunk of a PNG, `IEND` the last."""
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length
        if name == b"IEND":
            return


def _png_end(data: bytes) -> int | None:
    at = 8
    for name, body in png_chunks(data):
        at += 12 + len(body)
        if name == b"IEND":
            return at
    return None


def _jpeg_end(data: bytes) -> int | None:
    at = 2
    while match := _JPEG_MARKER.search(data, at):
        marker = data[match.start() + 1]
        if marker == 0xD9:
            return match.end()
        at = match.end() if marker == 0x01 else match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return None


def has_more_frames(data: bytes, most: int) -> bool:
    """Whether a GIF or a TIFF holds more than `most` frames. Pillow counts them all first, which can take minutes."""
    kind = image_type(data)
    try:
        if kind == "image/gif":
            return _gif_canvas(data, most)[0] > most
        return kind == "image/tiff" and _tiff_has_more(data, most)
    except IndexError:
        return False


def _gif_canvas(data: bytes, most: int = 1000) -> tuple[int, int, int]:
    """Frames (counted as far as one more than `most`), and the width and height that hold them all.

    A frame may reach beyond the declared screen: decoders enlarge it. As lenient as Pillow about what lies between.
    """
    frames, width, height = 0, _number(data, 6, 2), _number(data, 8, 2)
    at = _gif_head(data)
    while frames <= most and (block := _GIF_BLOCK.search(data, at)) and block[0] != b";":
        at = block.end()
        try:
            if block[0] == b",":
                frames += 1
                left, upper, wide, high = (_number(data, at + offset, 2) for offset in (0, 2, 4, 6))
                width, height = max(width, left + wide), max(height, upper + high)
                at += 10 + _gif_table(data, at + 8)
            else:
                at += 1
            while data[at]:
                at += 1 + data[at]
            at += 1
        except IndexError:
            break
    return frames, width, height


def _tiff_has_more(data: bytes, most: int) -> bool:
    order: Literal["big", "little"] = "little" if data[:2] == b"II" else "big"
    large = data[2:4] in (b"+\0", b"\0+")
    at = _number(data, 8, 8, order) if large else _number(data, 4, 4, order)
    for _ in range(most):
        entries = _number(data, at, 8 if large else 2, order)
        at += 8 + 20 * entries if large else 2 + 12 * entries
        at = _number(data, at, 8 if large else 4, order)
        if not at:
            return False
    return True


class GifBlock(NamedTuple):
    """`label` is that of an extension, -1 for a picture. `body` is its data, joined, which begins at `start`."""

    label: int
    body: bytes
    start: int
    end: int


def gif_blocks(data: bytes) -> Iterator[GifBlock]:
    """The blocks of a GIF as far as nothing else lies between them."""
    at = _gif_head(data)
    while data[at : at + 1] in (b"!", b",") and at + 1 < len(data):
        label = data[at + 1] if data[at] == ord("!") else -1
        at += 11 + _gif_table(data, at + 9) if label < 0 else 2
        start, body = at, bytearray()
        while at < len(data) and (size := data[at]):
            body += data[at + 1 : at + 1 + size] if label >= 0 else b""  # no pixels
            at += 1 + size
        at += 1
        yield GifBlock(label, bytes(body), start, at)


def gif_end(data: bytes) -> int:
    """Where its blocks end, the mark of the end among them if it is there."""
    end = max((block.end for block in gif_blocks(data)), default=_gif_head(data))
    return end + 1 if data[end : end + 1] == b";" else end


def _gif_head(data: bytes) -> int:
    return 13 + _gif_table(data, 10)


def _gif_table(data: bytes, at: int) -> int:
    """Bytes of the table of colours that these flags announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_end(data: bytes) -> int | None:
    end = gif_end(data)
    return end if data[end - 1 : end] == b";" else None


def _webp_end(data: bytes) -> int | None:
    """Behind the last chunk that a WebP has: its size field may claim what follows, text included."""
    at = 12
    while data[at : at + 4] in _WEBP_CHUNKS:
        size = _number(data, at + 4, 4)
        at += 8 + size
        at += size & 1 and at < len(data)
    return at if at > 12 else None


def _boxes_end(data: bytes) -> int | None:
    """Where a second file or a film begins, else behind the last box."""
    at = 0
    for box in boxes(data):
        if at and box.name in _FILM:
            break
        at = box.end
    return at


def _bmp_end(data: bytes) -> int | None:
    """By the rows of an uncompressed picture: the size field may claim what follows. None for other kinds of BMP."""
    pixels, header = _number(data, 10, 4), _number(data, 14, 4)
    if header < 40 or _number(data, 30, 4) not in (0, 3):
        return None
    width, height = (abs(_number(data, at, 4, signed=True)) for at in (18, 22))
    depth = _number(data, 28, 2)
    colours = _number(data, 46, 4) or (1 << depth if depth <= 8 else 0)
    masks = 12 if header == 40 and _number(data, 30, 4) == 3 else 0
    if header > 124 or colours > 256 or pixels > 14 + header + masks + 4 * colours:
        return None  # room for something else before the pixels
    return pixels + (width * depth + 31) // 32 * 4 * height
