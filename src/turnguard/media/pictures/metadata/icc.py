"""Colour profiles: what their text tags say, but for what the usual profiles say of themselves. Pure.

Source: ICC.1:2022, tag table and the types textDescription, multiLocalizedUnicode, text and dict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from turnguard.media.pictures.metadata.runs import readable, runs

_MOST_TAGS = 200
_NUMERIC = frozenset((b"XYZ ", b"curv", b"para", b"sf32", b"chrm", b"meas", b"sig ", b"view", b"mft1", b"mft2", b"mAB ",
                      b"mBA ", b"mpet", b"dtim", b"ui08", b"ui16", b"ui32", b"uf32", b"clrt", b"cicp", b"vcgt", b"ndin",
                      b"mmod", b"vcgp"))  # fmt: skip
_USUAL = re.compile(
    r"sRGB(?: built-in| IEC61966-2[.-]1| v4 ICC preference.*)?|Display P3|Adobe RGB \(1998\)|ProPhoto RGB|c2(?:ci)?|"
    r"(?:Generic|Dot Gain|GIMP built-in|Artifex)[\w .%-]{0,30}|Color LCD|Rec\. ?\d{3,4}[\w .,-]{0,20}|"
    r"IEC (?:http://www\.iec\.ch|61966-2[.-]1 Default RGB colour space - sRGB)|"
    r"Reference Viewing Condition in IEC ?61966-2[.-]1|CC0|Public Domain|No copyright, use freely\.?|"
    r"Copyright (?:Apple(?: Computer)?,? Inc\.,? \d{4}|\(c\) 1998 Hewlett-Packard Company|"
    r"\d{4}(?:-\d{4})? Adobe Systems Incorporated|International Color Consortium, \d{4})"
)


def words_of_profile(data: bytes) -> Iterator[str]:
    """The texts of a profile; the runs of text in tags of unknown types and in what is no profile."""
    if data[36:40] != b"acsp":
        yield from runs(data)
        return
    count = int.from_bytes(data[128:132], "big")
    for entry in range(132, 132 + 12 * min(count, _MOST_TAGS), 12):
        at, size = (int.from_bytes(data[start : start + 4], "big") for start in (entry + 4, entry + 8))
        for said in _tag(data[at : at + size]):
            line = said.replace("\0", "").strip()
            if line and not _USUAL.fullmatch(line):
                yield line
    if count > _MOST_TAGS:
        yield from runs(data)


def _tag(body: bytes) -> Iterator[str]:
    kind = body[:4]
    if kind == b"desc":
        at = 12 + int.from_bytes(body[8:12], "big")
        yield readable(body[12:at])
        end = at + 8 + 2 * int.from_bytes(body[at + 4 : at + 8], "big")
        yield body[at + 8 : end].decode("utf-16-be", "replace")
        yield readable(body[end + 3 :])  # the same for Macintosh: a code, a length, 67 bytes
    elif kind == b"mluc":
        for record in range(16, 16 + 12 * min(int.from_bytes(body[8:12], "big"), _MOST_TAGS), 12):
            length, at = (int.from_bytes(body[start : start + 4], "big") for start in (record + 4, record + 8))
            yield body[at : at + length].decode("utf-16-be", "replace")
    elif kind == b"text":
        yield readable(body[8:])
    elif kind not in _NUMERIC:
        yield from runs(body)
