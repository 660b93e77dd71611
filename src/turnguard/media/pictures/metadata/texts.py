"""Blocks of metadata become lines to judge: what is of a form that carries no words is left out, the rest is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from turnguard.media.pictures.metadata.blocks import Block, blocks_of
from turnguard.media.pictures.metadata.exif import words_of_exif
from turnguard.media.pictures.metadata.icc import words_of_profile
from turnguard.media.pictures.metadata.runs import readable, runs
from turnguard.media.pictures.metadata.xmp import words_of_xmp

MOST = 100_000
"""Characters of metadata that are judged of one picture."""

# Numbers, sizes, times; identifiers that programs make; nothing but punctuation.
_WORDLESS = re.compile(
    r"[\W\d_]*|\d{4}[-:]\d\d[-:]\d\dT?\s?\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?"
    r"|(?:(?:xmp|adobe|uuid|urn)[.:](?:(?:iid|did|docid|uuid|photoshop)[.:])*)?[0-9a-fA-F-]{16,}|\d+(?:\.\d+)?\s?(?:mm|dpi|ppi|px|%)",
)
_KEYWORDS = frozenset(  # of PNG's own table, and what common encoders write without meaning anything by it
    (  # noqa: SIM905 - a table
        "Title;Author;Description;Copyright;Software;Source;Comment;Creation Time;sRGB;exif;icc;dpi;icc_profile;"
        "Raw profile type exif;Raw profile type icc;Raw profile type xmp;Raw profile type APP1;ICC Profile;ICC profile;"
        "date:create;date:modify;date:timestamp;XML:com.adobe.xmp;x-default;Photoshop 3.0;kCGColorSpaceSRGB;"
        "kCGColorSpaceDisplayP3;kCGColorSpaceGenericRGB"
    ).split(";")
)


def metadata_of(data: bytes, more: Iterable[Block] = ()) -> tuple[str, bool]:
    """What a picture file says beside its pixels, a line each, nothing twice; and whether there was more than MOST.

    `more` are blocks that only the format's reader can find. Empty for a file that says nothing. Never raises.
    """
    lines: dict[str, None] = {}
    length = 0
    for block in (*_safely(data), *more):
        for said in _words(block):
            line = said.strip().strip("\0").strip()
            if line in lines or line in _KEYWORDS or _WORDLESS.fullmatch(line):
                continue
            if length + len(line) > MOST:
                return "\n".join(lines), True
            lines[line] = None
            length += len(line) + 1
    return "\n".join(lines), False


def _safely(data: bytes) -> Iterator[Block]:
    try:
        yield from blocks_of(data)
    except IndexError:  # broken off within a head: its decoder refuses it too
        yield Block("binary", data[-4096:])


def _words(block: Block) -> Iterator[str]:
    if block.kind == "exif":
        yield from words_of_exif(block.data)
    elif block.kind == "icc":
        yield from words_of_profile(block.data)
    elif block.kind == "xmp":
        yield from words_of_xmp(block.data)
    elif block.kind == "comment":
        yield from readable(block.data).splitlines()
    else:
        yield from runs(block.data)
