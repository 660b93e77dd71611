"""Plain documents (text, Markdown, CSV, JSON, source of any kind) as text, with what stands in them as data."""

from __future__ import annotations

from turnguard.media.data_uris import split_data_uris
from turnguard.media.documents.encodings import decodings
from turnguard.media.documents.found import MOST_CHARACTERS, Found, joined
from turnguard.media.readings import As
from turnguard.media.types import Unreadable


def read_text(found: Found, data: bytes, where: str, said: As, depth: int) -> None:
    """The text in every plausible encoding, markup and comments included: what a parser would hide is judged too."""
    texts, causes = decodings(data, said.charset)
    for cause in causes:
        found.skip(where, cause)
    if not any(text.strip() for text in texts):
        found.skip(where, "empty", counts=False)
    for number, text in enumerate(texts, 1):
        add_text(found, text, joined(where, f"in encoding {number}") if number > 1 else where, depth)


def add_text(found: Found, text: str, where: str, depth: int) -> None:
    """Text, and the pictures and documents that stand in it as data."""
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"more than {MOST_CHARACTERS:,} characters")
    plain, parts = split_data_uris(text)
    found.text(where, plain)
    for number, part in enumerate(parts, 1):
        inside = joined(where, f"{part.kind} {number}")
        if isinstance(part.source, bytes):
            found.file(part.source, inside, As.of(part.media_type), depth + 1)
        else:
            found.skip(inside, "more pictures and documents than are read in one text")
