"""Base64, base32 and hexadecimal written out where they stand, gzip and zlib inside them unpacked.

A run is searched, not matched: it is decoded from each of its possible starts, and what is text there is written in
its place. So a run is found when it is joined to other words, broken by a byte, wrapped in lines or followed by
garbage; a word that is no run decodes to no text.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from turnguard.text.undisguise.glance import FIGURES, LOWER, MIXED, SHAPES, UPPER, Glance, classes, table
from turnguard.text.undisguise.readable import Found, texts, unpacked
from turnguard.text.undisguise.reading import GROWTH, MOST_UNPACKED, Reading

_WRAP = r"[ \t>*#|,;\"'+]{0,4}\r?\n[ \t>*#|\"'+]{0,8}"
_PLAIN = "[A-Za-z0-9+/_-]"
# Between two pieces of one base64 run: the end of a line or a sign or two, and perhaps a piece that looks plain.
_BETWEEN = re.compile(
    rf"(?:{_WRAP}|[^A-Za-z0-9+/=_-]{{1,2}})(?:({_PLAIN}{{2,40}})(?:{_WRAP}|[^A-Za-z0-9+/=_-]{{1,2}}))?"
)
_BASE32 = re.compile(rf"(?:[A-Z2-7]{{16,}}+|[a-z2-7]{{16,}}+)(?:(?:{_WRAP}|[^A-Za-z0-9=])[A-Z2-7]{{8,}}+)*+")
_PAIRS = r"[0-9A-Fa-f]{2}"
_GAP = r"(?:[\s,;:_-]{1,3}(?:0x)?|0x)"
_HEX = re.compile(
    rf"[0-9A-Fa-f]{{12,}}+(?:(?:{_WRAP}|[^0-9A-Za-z])[0-9A-Fa-f]{{2,}}+)*+"
    rf"|(?:0x)?{_PAIRS}(?:{_PAIRS})?(?:{_GAP}{_PAIRS}(?:{_PAIRS})?(?![0-9A-Fa-f])){{3,}}"
)
_ALPHABET: Final = table(x=LOWER + UPPER + FIGURES + "+/_-", rest=" ")
_BASE32_DIGITS = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnop" * 2 + "qrstuv"
)
_URL_SAFE = str.maketrans("-_", "+/")
# Bits that speak for a run which is text from its first character to its last, and for one that is padded besides.
_WHOLE: Final = 4.0
_PADDED: Final = 10.0
_DECIMAL: Final = 20.0
_DECIMALS: Final = 32.0


Spans = list[tuple[int, int]]


class _Code(NamedTuple):
    """An encoding: characters and bytes of a group, the fewest characters of a run, and how to decode it."""

    characters: int
    octets: int
    fewest: int
    decode: Callable[[str], bytes]


def write_out(reading: Reading, seen: Glance) -> None:
    """Replace each run that decodes to text by that text."""
    if seen.hexadecimal:
        _replace(reading, _HEX_CODE, [_spans(match, _HEX_PIECE) for match in _HEX.finditer(reading.text)])
    if seen.base32:
        _replace(reading, _BASE32_CODE, [_spans(match, _BASE32_PIECE) for match in _BASE32.finditer(reading.text)])
    if seen.base64:
        _replace(reading, _BASE64_CODE, _base64_runs(reading.text))


def _spans(match: re.Match[str], piece: re.Pattern[str]) -> Spans:
    return [part.span() for part in piece.finditer(match.string, *match.span())]


def _base64_runs(text: str) -> Iterator[Spans]:
    """Runs of base64, as the pieces that they are broken into."""
    shapes = classes(text, SHAPES)
    alphabet = classes(text, _ALPHABET)
    pieces: set[tuple[int, int]] = set()
    for mixed in MIXED:
        at = shapes.find(mixed)
        while at >= 0:
            end = alphabet.find(b" ", at)
            end = end if end >= 0 else len(text)
            pieces.add((alphabet.rfind(b" ", 0, at) + 1, end))
            at = shapes.find(mixed, end)
    run: Spans = []
    for start, end in sorted(pieces):
        between = _BETWEEN.fullmatch(text, run[-1][1], start) if run and start - run[-1][1] < 64 else None
        if between is None and run:
            yield run
            run = []
        if between is not None and between[1]:
            run.append(between.span(1))
        run.append((start, end))
    if run:
        yield run


def _replace(reading: Reading, code: _Code, runs: Iterable[Spans]) -> None:
    text = reading.text
    out: list[str] = []
    done = 0
    for spans in runs:
        last = spans[-1][1]
        padding = len(_PADDING.match(text, last)[0]) if code.characters > 2 else 0  # type: ignore[index]
        for start, end, found in _decoded(code, text, spans, padding, reading):
            out += (text[done:start], found.text)
            done = end + (padding if end == last else 0)
            reading.told |= found.words and any(map(str.isalpha, found.text))
    if out:
        reading.text = "".join((*out, text[done:]))


def _decoded(code: _Code, text: str, segments: Spans, padding: int, reading: Reading) -> list[tuple[int, int, Found]]:
    """Where in `text` what stands, in order and without overlap."""
    run = "".join(text[start:end] for start, end in segments)
    if len(run) < (4 if padding else code.fewest):
        return []
    most = max(2, min(MOST_UNPACKED, GROWTH * len(run), reading.room))
    found: list[tuple[int, int, Found]] = []
    # Pairs of hexadecimal figures that stand apart begin where they stand.
    for shift in range(1 if code.characters == 2 and len(segments) > 4 else min(code.characters, len(run))):
        data = code.decode(run[shift:])
        bonus = 0.0 if shift else _PADDED if padding else _WHOLE
        for piece in (*unpacked(data, most), *texts(data, bonus)):
            first = shift + piece.start * code.characters // code.octets
            last = shift - (-piece.end * code.characters // code.octets)
            if code.characters == 2 and run.isdigit() and piece.bits < (_DECIMALS if len(segments) > 1 else _DECIMAL):
                continue  # pairs of decimal figures are letters by chance twice as often
            found.append((first, min(last, len(run)), piece))
        if found and found[-1][0] == 0 and found[-1][1] == len(run):
            break
    if not found:
        return []
    taken = bytearray(len(run))
    chosen: list[tuple[int, int, Found]] = []
    for first, last, piece in sorted(found, key=lambda entry: -entry[2].bits):
        if 1 not in taken[first:last]:
            taken[first:last] = b"\1" * (last - first)
            share = GROWTH * (last - first)
            if piece.cut or len(piece.text) > share:
                reading.bound = "size"
            chosen.append((first, last, piece._replace(text=piece.text[:share])))
            reading.room -= max(0, min(share, len(piece.text)) - (last - first))
    ends = list(accumulate(end - start for start, end in segments))

    def at(index: int) -> int:
        number = bisect_right(ends, index)
        return segments[number][1] - (ends[number] - index)

    return [(at(first), at(last - 1) + 1, piece) for first, last, piece in sorted(chosen, key=lambda entry: entry[0])]


def _base64(run: str) -> bytes:
    run = run.translate(_URL_SAFE)
    return binascii.a2b_base64(run[: len(run) - 1] if len(run) % 4 == 1 else run + "=" * (-len(run) % 4))


def _base32(run: str) -> bytes:
    bits = 5 * len(run)
    return (int(run.translate(_BASE32_DIGITS), 32) >> bits % 8).to_bytes(bits // 8)


def _hex(run: str) -> bytes:
    return bytes.fromhex(run[: len(run) - len(run) % 2])


_BASE64_CODE: Final = _Code(4, 3, 8, _base64)
_BASE32_CODE: Final = _Code(8, 5, 16, _base32)
_HEX_CODE: Final = _Code(2, 1, 12, _hex)
_BASE32_PIECE: Final = re.compile("[A-Za-z2-7]+")
_HEX_PIECE: Final = re.compile("(?!0x)[0-9A-Fa-f]+")
_PADDING: Final = re.compile("={0,6}")
