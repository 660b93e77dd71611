"""Whether decoded bytes are text that someone meant, and where in them it stands.

The score is a log-likelihood ratio in bits: how much likelier the bytes are as text than as random bytes. A hash, a
picture or a word read as base64 scores below zero; each letter of a text adds two bits. The threshold grows with the
logarithm of the bytes searched, so that long random data is not read as text by chance.
"""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Final, NamedTuple

THRESHOLD: Final = 12.0
"""Bits above chance that a text needs."""

_CHARACTER = rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
# A broken byte or two do not end a text, as long as some characters stand between them.
_STRETCH = re.compile(rb"%b{3,}+(?:[\x80-\xff]{1,2}%b{3,}+)*+" % (_CHARACTER, _CHARACTER))
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz "
_CODE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-%\\&#;,\r\n"
_BEYOND = bytes(range(0xC2, 0xF5))  # each begins a character of several bytes
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r") | {127}
_SHORTEST_CODE = 16
_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_PACKED_BITS: Final = THRESHOLD + 8
_CHUNK = 512


class Found(NamedTuple):
    """Text inside bytes: where it stands, the bits that speak for it, and what it says.

    `words` is False where it is only another encoding (hex in base64). `cut` is True where unpacking was cut short.
    """

    start: int
    end: int
    bits: float
    text: str
    words: bool = True
    cut: bool = False


def texts(data: bytes, bonus: float = 0.0) -> list[Found]:
    """Return every stretch of `data` that is text. `bonus` is added to the bits of one that is all of the data."""
    least = THRESHOLD + max(8, len(data)).bit_length()
    if len(data) < _SHORTEST_CODE and _most_bits(data) + bonus < least:
        return []
    found: list[Found] = []
    for match in _STRETCH.finditer(data):
        piece = match[0]
        bits, words = score(piece)
        if bits + (bonus if len(piece) == len(data) else 0.0) >= least:
            found.append(Found(*match.span(), bits, piece.decode("utf-8", "ignore"), words))
    wide = _wide(data) if bonus else None
    if wide is not None:
        bits, words = score(wide.encode("utf-8", "replace"))
        if bits + bonus >= least:
            # Letters with a control after each look the same: both readings stand.
            narrow = [piece.text for piece in found if piece.text.replace("\0", "") != wide]
            found.append(Found(0, len(data), bits, " ".join((wide, *narrow)), words))
    return found


def _most_bits(data: bytes) -> float:
    """At most so many bits has a stretch of a few bytes: as if each letter and each other character counted in full."""
    letters = len(data) - len(data.translate(None, _LETTERS))
    return 2.0 * letters + 6.0 * (len(data) - len(data.translate(None, _BEYOND)))


def score(data: bytes) -> tuple[float, bool]:
    """Return the bits by which `data` is text rather than chance, and whether it holds words or only a code."""
    rest = data.translate(None, _LETTERS)
    letters = len(data) - len(rest)
    foreign = broken = 0
    rare = 0.0
    if not rest.isascii():
        text = rest.decode("utf-8", "ignore")
        broken = len(rest) - len(text.encode())
        beyond = [char for char in text if not char.isascii()]
        # The same letter again and again is a pattern in the bytes.
        foreign = min(sum(char.isalpha() for char in beyond), 3 * len(set(beyond)))
        # Chance makes few sequences of three or four bytes, whatever they stand for.
        rare = sum(2.0 if char > "\uffff" else 1.0 if char > "\u07ff" else 0.0 for char in beyond) * 1.5
    # One control character again and again is a disguise; random bytes hold many kinds.
    controls = len(_CONTROLS & set(rest))
    # A long run of signs is no text by itself, and takes nothing from the words beside it.
    signs = min(len(rest) - broken, letters + foreign)
    bits = 2.0 * letters + (3.0 if foreign > letters else 0.5) * foreign + rare
    bits -= 0.3 * signs + 3.6 * controls + 4.0 * broken
    if len(data) >= _SHORTEST_CODE:
        strange = len(data.translate(None, _CODE))
        code = 1.8 * (len(data) - strange) - 4.0 * strange
        if code > bits:
            return code, False
    return bits, True


def _wide(data: bytes) -> str | None:
    """The data as UTF-16: by its mark, or where every other byte is nearly always the same."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace")
    head = data[:512]
    if len(head) >= 16:
        for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            half = head[first::2]
            common = max(set(half), key=half.count)
            other = set(head[1 - first :: 2])
            # The rows of alphabets, of signs and of full-width letters; those of ideographs never dominate a text.
            row = common < 0x31 or 0xD8 <= common < 0xE0 or common == 0xFF
            # English stands between characters of other rows, and surrogates come in pairs.
            share = 0.33 if common == 0 else 0.4 if common > 0x31 else 0.5
            if row and half.count(common) >= share * len(half) and len(other) > 3:
                text = data.decode(encoding, "replace")
                return text if text.count("\ufffd") * 20 < len(text) else None
    return None


def unpacked(data: bytes, most: int) -> list[Found]:
    """Return what gzip and zlib streams in `data` hold, at most `most` bytes each, as far as they can be read."""
    found: list[Found] = []
    if 2.0 * len(data) < _PACKED_BITS:
        return found
    end = 0
    for number, match in enumerate(_PACKED.finditer(data)):
        if number > len(data) // 32:
            break
        if match.start() < end:
            continue
        inner, used, cut = _inflated(memoryview(data)[match.start() :], 31 if data[match.start()] == 0x1F else 15, most)
        pieces = texts(inner, bonus=4.0)
        bits = sum(piece.bits for piece in pieces)
        # A few bytes of chance may inflate to a long row of the same letters: they bear no more than two bits each.
        if pieces and min(bits, 2.0 * used) >= _PACKED_BITS:
            end = match.start() + used
            found.append(Found(match.start(), end, bits + 16.0, " ".join(piece.text for piece in pieces), True, cut))
    return found


def _inflated(packed: memoryview, bits: int, most: int) -> tuple[bytes, int, bool]:
    """What a stream holds up to its end, its first error or `most` bytes; how much was used; whether it was cut."""
    unpacker = zlib.decompressobj(bits)
    out = bytearray()
    used = 0
    try:
        while used < len(packed) and not unpacker.eof and len(out) < most:
            chunk = packed[used : used + _CHUNK]
            out += unpacker.decompress(chunk, most - len(out))
            used += len(chunk) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
    except zlib.error:
        pass
    return bytes(out), used, len(out) >= most and not unpacker.eof
