"""Bytes become views and texts: what they are is told from the bytes, whatever they were called. Blocking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from turnguard.media import sniff as _sniff
from turnguard.media.memo import Made
from turnguard.media.pictures.views import Limits
from turnguard.media.types import Skipped, Unreadable

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings

_NOT_READ = {
    "svg": "SVG is not drawn here",
    "postscript": "PostScript is not run here",
    "office": "a kind of document that is not read yet",
    "audio": "audio is not judged",
    "video": "video is not judged",
    "other": "not a format that is read here",
}


class Abandoned(Exception):
    """Work was given up."""


def read(data: bytes, settings: MediaSettings, views: int, abandoned: Callable[[], bool]) -> Made:
    """Everything that `data` shows, within the limits. What cannot be read is one entry with its cause."""

    def check() -> None:
        if abandoned():
            raise Abandoned

    limits = Limits(settings.max_pixels, settings.max_frames, views, settings.tiles == "auto", check)
    check()
    try:
        kind = _sniff.what(data)
        if kind == "image":
            from turnguard.media.pictures.decode import read_picture

            return read_picture(data, limits)
        if kind == "pdf":
            from turnguard.media.documents.pdf import read_pdf

            return read_pdf(data, limits)
        if kind == "text":
            from turnguard.media.documents.text import read_text

            return read_text(data, limits)
        raise Unreadable(_NOT_READ[kind])
    except Unreadable as cause:
        return Made(skipped=(Skipped("", str(cause), True),))
