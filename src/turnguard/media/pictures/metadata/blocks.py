"""A picture file without its pixels: each block that could say something, by the rules of its container. Pure.

Sources: PNG (W3C third edition), JPEG (T.81 annex B), GIF89a, RIFF, BMP, ICO, and ISO 14496-12 boxes. What the rules of
a container call wordless (pixels, tables, sizes, times) is left out; every other block is given, known or not.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from turnguard.media import sniff as _sniff
from turnguard.media.boxes import boxes

_MOST = 4_000_000
"""Bytes that a compressed block may unfold into."""
_PNG_WORDLESS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB pHYs tIME bKGD hIST sBIT acTL fcTL fdAT cICP mDCV mDCv cLLI cLLi".split()
)
_WEBP_WORDLESS = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"))
_BOXES_INSIDE = {
    b"meta": 4,
    b"iprp": 0,
    b"ipco": 0,
    b"iinf": 6,
    b"dinf": 0,
    b"moov": 0,
    b"trak": 0,
    b"mdia": 0,
    b"minf": 0,
}
"""Boxes of boxes, and how far inside the first one begins."""
_BOX_HEADS = {b"infe": 12, b"hdlr": 24}
"""Bytes of codes before the name."""
_BOX_WORDLESS = frozenset(
    b"ftyp mdat pitm iloc ispe pixi av1C hvcC colr ipma irot imir clap pasp iref clli mdcv cclv a1op a1lx lsel grpl "
    b"altr mvhd tkhd edts mdhd vmhd stbl dref nmhd".split()
)
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG segment, or of the end
_THUMBNAIL = re.compile(rb"\xff\xd8\xff.*?\xff\xd9", re.DOTALL)
_JPEG = re.compile(rb"\xff\xd8\xff")
_MOST_THUMBNAILS = 8
_GIF_KNOWN = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


class Block(NamedTuple):
    """`kind` is how to read it: "text", "xmp", "exif", "icc", "comment" (bytes in any encoding) or "binary"."""

    kind: str
    data: bytes


def blocks_of(data: bytes) -> Iterator[Block]:
    """Every block that could say something; the rest of a file that breaks off or goes on is one block."""
    for block in _blocks(data):
        if block.kind == "binary" and b"<rdf:RDF" in block.data:
            yield Block("xmp", block.data)
        elif block.kind in ("binary", "exif"):
            found = list(islice(_THUMBNAIL.finditer(block.data), _MOST_THUMBNAILS))
            yield Block(block.kind, _THUMBNAIL.sub(_blank, block.data, _MOST_THUMBNAILS))
            for thumbnail in found:
                yield from _jpeg(thumbnail[0])
        else:
            yield block


def thumbnails(data: bytes) -> Iterator[bytes]:
    """What may be a JPEG file in a picture file's EXIF and other binary blocks: from its beginning to the block's end.

    Where it ends is for its decoder to say: the mark of the end may stand in a comment, too.
    """
    for block in _blocks(data):
        if block.kind in ("binary", "exif"):
            for start in islice(_JPEG.finditer(block.data), _MOST_THUMBNAILS):
                yield block.data[start.start() :]


def _blocks(data: bytes) -> Iterator[Block]:
    walk: dict[str, Callable[[bytes], Iterator[Block]]] = {
        "image/png": _png,
        "image/jpeg": _jpeg,
        "image/gif": _gif,
        "image/webp": _webp,
        "image/tiff": _tiff,
        "image/bmp": _bmp,
        "image/x-icon": _ico,
        "image/avif": _boxes,
        "image/heic": _boxes,
    }
    kind = _sniff.image_type(data)
    return walk[kind](data) if kind in walk else iter(())


def _blank(match: re.Match[bytes]) -> bytes:
    """As many zeros, so that offsets into the block stay true."""
    return bytes(len(match[0]))


def _rest(data: bytes, at: int) -> Iterator[Block]:
    if data[at:].strip(b"\0"):
        yield Block("binary", data[at:])


def _unfolded(data: bytes) -> bytes:
    """What zlib makes of it, as far as that goes; nothing where it is broken from the start."""
    try:
        return zlib.decompressobj().decompress(data, _MOST)
    except zlib.error:
        return data


def _png(data: bytes) -> Iterator[Block]:
    at = 8
    for name, body in _sniff.png_chunks(data):
        at += 12 + len(body)
        if name in _PNG_WORDLESS:
            continue
        key, _, value = body.partition(b"\0")
        if name == b"tEXt":
            yield Block("comment", key + b"\n" + value)
        elif name == b"zTXt":
            yield Block("comment", key + b"\n" + _unfolded(value[1:]))
        elif name == b"iTXt":
            packed, value = value[:1], value[2:]
            language, _, value = value.partition(b"\0")
            translated, _, value = value.partition(b"\0")
            said = _unfolded(value) if packed == b"\1" else value
            kind = "xmp" if key == b"XML:com.adobe.xmp" else "comment"
            yield Block("comment", b"\n".join((key, language, translated)))
            yield Block(kind, said)
        elif name == b"iCCP":
            yield Block("comment", key)
            yield Block("icc", _unfolded(value[1:]))
        elif name == b"eXIf":
            yield Block("exif", body)
        else:
            yield Block("binary", body)
    yield from _rest(data, at)


def _jpeg(data: bytes) -> Iterator[Block]:
    at, profile, in_scan = 2, b"", False
    while marker := _MARKER.search(data, at):
        if not in_scan and marker.start() > at:
            yield Block("binary", data[at : marker.start()])  # what decoders skip
        kind, at = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            if not data.startswith(b"\xff\xd8", at):  # another picture may follow (MPO)
                in_scan = False
                break
            at, in_scan = at + 2, False
            continue
        length = max(2, int.from_bytes(data[at : at + 2], "big"))
        body, at = data[at + 2 : at + length], at + length
        in_scan = kind == 0xDA
        if 0xC0 <= kind <= 0xDF or (kind == 0xE0 and body.startswith((b"JFIF\0", b"JFXX\0"))):
            continue
        if kind == 0xE1 and body.startswith(b"Exif\0"):
            yield Block("exif", body[6:])
        elif kind == 0xE1 and body.startswith(b"http://ns.adobe.com/"):
            yield Block("xmp", body.partition(b"\0")[2])
        elif kind == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile += body[14:]
        elif kind == 0xFE:
            yield Block("comment", body)
        elif not (kind == 0xEE and body.startswith(b"Adobe") and len(body) <= 12):
            yield Block("binary", body)
    if profile:
        yield Block("icc", profile)
    if not in_scan:
        yield from _rest(data, at)


def _gif(data: bytes) -> Iterator[Block]:
    for label, body, start, end in _sniff.gif_blocks(data):
        first = body[: data[start]] if body else b""
        if label == 0xFE:
            yield Block("comment", body)
        elif label == 0x01:
            yield Block("comment", body[12:])  # text to draw over the picture
        elif label == 0xFF and first == b"XMP DataXMP":
            # the packet stands in the file as it is: its bytes were taken for lengths of blocks
            yield Block("xmp", data[start + 12 : end])
        elif label == 0xFF and first not in _GIF_KNOWN:
            yield Block("binary", body)
    yield from _rest(data, _sniff.gif_end(data))


def _webp(data: bytes) -> Iterator[Block]:
    kinds = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}
    at = 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        at += 8 + size + (size & 1)
        if name in kinds:
            yield Block(kinds[name], body.removeprefix(b"Exif\0\0"))
        elif name not in _WEBP_WORDLESS:
            yield Block("binary", name + body)
    yield from _rest(data, at)


def _tiff(data: bytes) -> Iterator[Block]:
    yield Block("exif", data)


def _bmp(data: bytes) -> Iterator[Block]:
    pixels = int.from_bytes(data[10:14], "little")
    yield Block("binary", data[14:pixels])
    yield from _rest(data, _sniff.end_of(data) or len(data))


def _ico(data: bytes) -> Iterator[Block]:
    count = int.from_bytes(data[4:6], "little")
    end = 6 + 16 * count
    for entry in range(6, min(end, len(data) - 15), 16):
        size, start = (int.from_bytes(data[at : at + 4], "little") for at in (entry + 8, entry + 12))
        body = data[start : start + size]
        end = max(end, start + size)
        if body.startswith(b"\x89PNG"):
            yield from _png(body)
    yield from _rest(data, end)


def _boxes(data: bytes, at: int = 0, end: int | None = None, depth: int = 0) -> Iterator[Block]:
    """The boxes of AVIF and HEIC. EXIF, XMP and profiles stand among the pixels: the format's reader gives them."""
    for box in boxes(data, at, end):
        at = box.end
        if box.name in _BOXES_INSIDE and depth < 8:
            yield from _boxes(data, box.start + _BOXES_INSIDE[box.name], box.end, depth + 1)
        elif box.name not in _BOX_WORDLESS:
            yield Block("binary", data[box.start + _BOX_HEADS.get(box.name, 0) : box.end])
    yield from _rest(data[:end], at)
