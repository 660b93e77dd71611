"""Plain documents (text, Markdown, CSV, JSON, HTML) as text, with the pictures that stand in them as data."""

from __future__ import annotations

from turnguard.core.step import Document
from turnguard.media.data_uris import split_data_uris
from turnguard.media.memo import Made
from turnguard.media.pictures.decode import read_picture
from turnguard.media.pictures.views import Limits
from turnguard.media.types import Skipped, Unreadable, View

_MOST_CHARACTERS = 5_000_000


def read_text(data: bytes, limits: Limits) -> Made:
    """The text, markup and comments included: what a parser would hide is judged too."""
    text = decoded(data)
    if len(text) > _MOST_CHARACTERS:
        raise Unreadable(f"more than {_MOST_CHARACTERS:,} characters")
    if not text.strip():
        return Made(skipped=(Skipped("", "empty", False),))
    text, found = split_data_uris(text)
    views: list[View] = []
    skipped: list[Skipped] = []
    for number, part in enumerate(found, 1):
        limits.check()
        where = f"{part.kind} {number}"
        try:
            if isinstance(part, Document) or not isinstance(part.source, bytes):
                raise Unreadable("a document inside a document is not read")
            room = limits._replace(views=limits.views - len(views))
            made = read_picture(part.source, room)
        except Unreadable as cause:
            skipped.append(Skipped(where, str(cause), True))
            continue
        views += [View(view.picture, _joined(where, view.detail), view.risk) for view in made.views]
        skipped += [Skipped(_joined(where, entry.detail), entry.cause, entry.counts) for entry in made.skipped]
    views.sort(key=lambda view: -view.risk)
    return Made(tuple(views), (("", text),) if text.strip() else (), tuple(skipped))


def decoded(data: bytes) -> str:
    """Text in UTF-8 or UTF-16 with its mark; what is neither is read byte by byte, so that nothing is dropped."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _joined(where: str, detail: str) -> str:
    return f"{where}, {detail}" if detail else where
