"""Colours by code points and by primaries: PNG's `cICP` and `cHRM`, and the `nclx` of AVIF and HEIC.

Sources: ITU-T H.273 (code points), PNG third edition, SMPTE ST 2084 and ARIB STD-B67 (transfer of PQ and HLG).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from turnguard.media import sniff

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Primaries = tuple[float, ...]
"""x and y of white, red, green and blue."""
_D65 = (0.3127, 0.3290)
SRGB: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_NIT = 10_000 / 203
"""PQ's full scale, in units of the white of an ordinary screen (ITU-R BT.2408)."""
_USUAL = (1, 13)  # sRGB; 0 and 2 leave it open
_NCLX = re.compile(rb"colrnclx(.{4})", re.DOTALL)
_GRID = 17  # nodes along each side of the table that stands for a transform
_SAME = 0.01  # primaries that differ by less than this are the same


def _pq(code: float) -> float:
    power = code ** (1 / 78.84375)
    ratio: float = max(0.0, power - 0.8359375) / (18.8515625 - 18.6875 * power)
    return float(ratio ** (1 / 0.1593017578125)) * _NIT


def _hlg(code: float) -> float:
    light = (
        code * code / 3 if code <= 0.5 else (2.718281828459045 ** ((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )
    return float(light**1.2) * 1000 / 203


def _bt709(code: float) -> float:
    return code / 4.5 if code < 0.081 else float(((code + 0.099) / 1.099) ** (1 / 0.45))


def _srgb(code: float) -> float:
    return code / 12.92 if code <= 0.04045 else float(((code + 0.055) / 1.055) ** 2.4)


_TO_LIGHT: dict[int, Callable[[float], float]] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709),
    4: lambda code: float(code**2.2),
    5: lambda code: float(code**2.8),
    8: lambda code: code,
    13: _srgb,
    16: _pq,
    18: _hlg,
}


class Colours(NamedTuple):
    """How samples become light: `transfer` is a code point."""

    primaries: Primaries
    transfer: int


class Unknown(Exception):
    """Code points that are not applied here."""


def coded(data: bytes) -> set[Colours]:
    """What the code points of a picture file say, without what everybody takes for granted. Raises `Unknown`."""
    kind = sniff.image_type(data)
    if kind == "image/png":
        bodies = [body for name, body in sniff.png_chunks(data) if name == b"cICP"]
        if any(body[2:] != b"\0\1" for body in bodies):
            raise Unknown
        found = {(body[0], body[1]) for body in bodies}
    elif kind in ("image/avif", "image/heic"):  # a file of several pictures has several
        found = {struct.unpack(">HH", match[1]) for match in _NCLX.finditer(data)}
    else:
        return set()
    said = {
        tuple(usual if code in (0, 2) else code for code, usual in zip(pair, _USUAL, strict=True)) for pair in found
    }
    said.discard(_USUAL)
    if not all(primaries in _PRIMARIES and transfer in _TO_LIGHT for primaries, transfer in said):
        raise Unknown
    return {Colours(_PRIMARIES[primaries], transfer) for primaries, transfer in said}


def named(chromaticity: object) -> set[Colours]:
    """What PNG's `cHRM` says, where it names other primaries than the usual ones."""
    if not isinstance(chromaticity, tuple) or len(chromaticity) != 8:
        return set()
    same = all(abs(one - other) < _SAME for one, other in zip(chromaticity, SRGB, strict=True))
    return set() if same else {Colours(tuple(map(float, chromaticity)), _USUAL[1])}


@lru_cache(maxsize=64)
def shown(colours: Colours) -> Callable[[PillowImage], PillowImage] | None:
    """What turns samples into what a viewer shows on an ordinary screen; None where the primaries span no colours."""
    from PIL import ImageFilter

    rows = _to_srgb(colours.primaries)
    if rows is None:
        return None
    light = [_TO_LIGHT[colours.transfer](step / (_GRID - 1)) for step in range(_GRID)]

    def one(red: float, green: float, blue: float) -> tuple[float, ...]:
        lights = [light[round(sample * (_GRID - 1))] for sample in (red, green, blue)]
        return tuple(_encoded(sum(factor * sample for factor, sample in zip(row, lights, strict=True))) for row in rows)

    table = ImageFilter.Color3DLUT.generate(_GRID, one)
    return lambda crop: crop.filter(table)


def _encoded(light: float) -> float:
    light = min(1.0, max(0.0, light))
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


Rows = tuple[tuple[float, float, float], ...]


def _to_srgb(primaries: Primaries) -> Rows | None:
    """From light of these primaries to light of sRGB's. White stays white."""
    ours, theirs = _xyz(SRGB), _xyz(primaries)
    inverse = _inverse(ours) if ours is not None else None
    if inverse is None or theirs is None:
        return None
    columns = tuple(zip(*theirs, strict=True))
    rows = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in inverse]
    if any(abs(sum(row)) < 1e-6 for row in rows):
        return None
    return tuple((row[0] / sum(row), row[1] / sum(row), row[2] / sum(row)) for row in rows)


def _xyz(primaries: Primaries) -> Rows | None:
    """The matrix from light of these primaries to CIE XYZ."""
    points = [(primaries[at], primaries[at + 1]) for at in range(0, 8, 2)]
    if any(abs(y) < 1e-4 for _, y in points):
        return None
    white, *corners = [(x / y, 1.0, (1 - x - y) / y) for x, y in points]
    rows: Rows = tuple(zip(*corners, strict=True))
    inverse = _inverse(rows)
    if inverse is None:
        return None
    scales = [sum(a * b for a, b in zip(row, white, strict=True)) for row in inverse]
    return tuple((row[0] * scales[0], row[1] * scales[1], row[2] * scales[2]) for row in rows)


def _inverse(rows: Rows) -> Rows | None:
    (a, b, c), (d, e, f), (g, h, i) = rows
    whole = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(whole) < 1e-9:
        return None
    return (
        ((e * i - f * h) / whole, (c * h - b * i) / whole, (b * f - c * e) / whole),
        ((f * g - d * i) / whole, (a * i - c * g) / whole, (c * d - a * f) / whole),
        ((d * h - e * g) / whole, (b * g - a * h) / whole, (a * e - b * d) / whole),
    )
