"""Bytes become views and texts: every plausible reading of them is judged, whatever they were called. Blocking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from turnguard.media import sniff as _sniff
from turnguard.media.documents.found import Found, ReadFile, joined
from turnguard.media.pictures.views import Limits
from turnguard.media.readings import As, Reading, readings
from turnguard.media.types import Made, Skipped, Unreadable
from turnguard.runtime.quiet import at_work, hush_package

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings

_SAID = As()
READERS = ("PIL",)
"""Packages that write down at DEBUG what they read in a file."""


class Abandoned(Exception):
    """Work was given up."""


class NeedsChild(Abandoned):
    """There are files in the file: a child must read it."""


def needs_child(data: bytes, found: tuple[Reading, ...]) -> bool:
    """Whether an untrusted decoder must read it: anything but ordinary pictures and text in UTF-8."""
    if found in (("image",), ("unread",)):
        return any(_sniff.image_type(each) == "image/heic" for _, each in _sniff.one_behind_another(data))
    if found == ("text",):
        from turnguard.media.documents.encodings import is_utf8

        return not is_utf8(data)
    return True


def read(
    data: bytes,
    settings: MediaSettings,
    views: int,
    abandoned: Callable[[], bool],
    said: As = _SAID,
    inside: ReadFile | None = None,
    known: tuple[Reading, ...] = (),
) -> Made:
    """Everything that `data` shows, within the limits. What cannot be read is one entry with its cause.

    `inside` reads the files in the file; without one they are read as this is. `known` are its readings, if they are.
    Raises `Abandoned` when told to stop.
    """

    def check() -> None:
        if abandoned():
            raise Abandoned

    limits = Limits(settings.max_pixels, settings.max_frames, views, settings.tiles == "auto", check)
    found = Found(limits, inside or _file)
    for package in READERS:
        hush_package(package)
    with at_work():
        _file(found, data, "", said, 0, known)
        if found.pictures:
            from turnguard.media.pictures.decode import read_picture

            found.draw(read_picture)
        return found.made()


def refuse(*_: object) -> None:
    """Read no file inside a file."""
    raise NeedsChild


def _file(found: Found, data: bytes, where: str, said: As, depth: int, known: tuple[Reading, ...] = ()) -> None:
    found_readings = known or readings(data, said)
    if depth and said.media_type.startswith("image/") and not {"image", "svg"} & {*found_readings}:
        found.skip(where, "not a picture format that is read here")  # what a viewer makes of it is not known
    for reading in found_readings:
        found.limits.check()
        try:
            _read_as(reading, found, data, where, said, depth)
        except Unreadable as cause:
            found.skip(where, str(cause))
        except (Abandoned, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - parsers raise anything; what the other readings say still counts
            found.skip(where, f"cannot be read ({type(error).__name__})")


def _draw(found: Found, data: bytes, where: str) -> None:
    """An SVG as a picture."""
    from turnguard.media.pictures.svg import draw
    from turnguard.media.pictures.tiles import COARSE, FINE
    from turnguard.media.types import Coarse

    drawn = draw(data, found.limits.max_pixels)
    found.picture(where, drawn.png)
    for cause in drawn.left_out:
        found.skip(where, cause)
    if drawn.scale < COARSE:
        found.skip(where, "too large to be drawn at a legible size")
    elif drawn.scale < FINE:
        found.reduced.append(Coarse(where, drawn.scale))


def _read_as(reading: Reading, found: Found, data: bytes, where: str, said: As, depth: int) -> None:
    if reading == "image":
        for number, (at, each) in enumerate(_sniff.one_behind_another(data)):
            inside = joined(where, "behind its end") if at else where
            kind = _sniff.what(each)
            if number > _sniff.MOST_BEHIND:
                found.skip(inside, f"more than {_sniff.MOST_BEHIND} files")
            elif kind in _sniff.RECORDED:
                found.skipped.append(Skipped(inside, _sniff.unread_cause(each), True, "" if depth else kind))
            else:
                found.picture(inside, each)
    elif reading == "pdf":
        from turnguard.media.documents.pdf.read import read_pdf

        read_pdf(found, data, where, said, depth)
    elif reading == "text":
        from turnguard.media.documents.text import read_text

        read_text(found, data, where, said, depth)
    elif reading == "html":
        from turnguard.media.documents.html import read_html

        read_html(found, data, where, said)
    elif reading == "mail":
        from turnguard.media.documents.mail import read_mail

        read_mail(found, data, where, depth)
    elif reading == "zip":
        from turnguard.media.documents.archive import read_archive

        read_archive(found, data, where, depth)
    elif reading == "svg":
        from turnguard.media.documents.text import read_text

        try:
            _draw(found, data, where)
        finally:
            read_text(found, data, joined(where, "source"), said, depth)
    else:
        raise Unreadable(_sniff.unread_cause(data))
