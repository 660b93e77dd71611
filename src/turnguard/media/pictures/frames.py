"""Which frames of a file or pages of a document get a view of their own, and which share a contact sheet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

from turnguard.media.pictures.compare import differ
from turnguard.media.pictures.renditions import Rendition
from turnguard.media.pictures.tiles import COARSE, EYE, FINE, Box, sample
from turnguard.media.types import Skipped, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_LOOKED_AT = 8  # times max_pixels: frames beyond that many pixels together are not looked at
_THUMB = (32, 32)
_MOST_CELLS = 16  # along a side of a sheet: smaller ones would be too small to look at


class Source(Protocol):
    """Frames of a file or pages of a document."""

    noun: str
    count: int
    any_order: bool
    """Frames load in any order at little cost and hardly repeat: pages. Else one pass finds the repeats."""

    def load(self, index: int) -> tuple[PillowImage, list[Rendition]]:
        """Frame `index` and the ways to show it, or `Unreadable`; it may be invalid once the next one is loaded."""

    def regions(self, index: int) -> list[Box] | None:
        """Where in frame `index` a tile could show something that is not read otherwise; None: anywhere."""


class Limits(NamedTuple):
    """How much is made of one part."""

    max_pixels: int
    max_frames: int
    views: int
    tiles: bool
    check: Callable[[], None]
    """Called between steps: raises when nobody waits for the result any more."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that differs visibly from those before it. `ways` counts its renditions, `change` is 0 to 255."""

    index: int
    size: tuple[int, int]
    ways: int
    change: float


class Sheet(NamedTuple):
    """A contact sheet: `across` x `down` cells, in which a frame of the usual size stands at `scale`."""

    across: int
    down: int
    scale: float

    @property
    def cells(self) -> int:
        """How many frames it holds."""
        return self.across * self.down

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height of a cell in pixels."""
        return EYE // self.across, EYE // self.down


class Choice(NamedTuple):
    """Frames with a view of their own, frames on sheets, how a sheet is laid out, and frames that found no room.

    `wanted` is how many views would do without a coarse sheet.
    """

    alone: frozenset[int]
    shared: frozenset[int] = frozenset()
    sheet: Sheet | None = None
    sheets: int = 0
    left: tuple[int, ...] = ()
    wanted: int = 1


def distinct(source: Source, limits: Limits) -> tuple[list[Frame], list[Skipped]]:
    """The frames that differ visibly from every one before them, found in one pass with two frames in memory."""
    kept: list[Frame] = []
    skipped: list[Skipped] = []
    seen: set[bytes] = set()
    last: PillowImage | None = None
    thumb: PillowImage | None = None
    budget = limits.max_pixels * _LOOKED_AT
    for index in range(source.count):
        limits.check()
        try:
            picture, ways = source.load(index)
        except Unreadable as error:
            skipped.append(Skipped(span(source, index, source.count), str(error), True))
            if not kept:
                raise
            break
        digest = hashlib.sha256(b"%d %d" % picture.size + picture.tobytes()).digest()
        if digest in seen or (last is not None and not differ(picture, last)):
            skipped.append(Skipped(f"{source.noun} {index + 1}", f"the same as an earlier {source.noun}", False))
        else:
            before, thumb = thumb, ways[0].of(picture).resize(_THUMB)
            kept.append(Frame(index, picture.size, len(ways), _change(before, thumb)))
            seen.add(digest)
            last = picture.copy()
        budget -= picture.width * picture.height
        if budget < 0 and index + 1 < source.count:
            cause = "more pixels than are looked at in one file"
            skipped.append(Skipped(span(source, index + 1, source.count), cause, True))
            break
    return kept, skipped


def _change(before: PillowImage | None, now: PillowImage) -> float:
    """How much a frame differs from the one before it, in levels; the first one counts as all new."""
    from PIL import ImageChops, ImageStat

    return 255.0 if before is None else max(ImageStat.Stat(ImageChops.difference(before, now)).mean)


def span(source: Source, first: int, end: int) -> str:
    """Frames from `first` to before `end`, in words."""
    return f"{source.noun} {first + 1}" if first + 1 == end else f"{source.noun}s {first + 1} to {end}"


def choose(frames: list[Frame], limits: Limits) -> Choice:
    """Share the views among the frames: each its own as far as they go; where they do not, the rest share sheets.

    Sheets are as fine as lets every frame in. Where even the coarsest are too few, what changes most stays.
    """
    most = min(limits.max_frames, limits.views)
    if len(frames) <= most:
        return Choice(_indexes(frames), wanted=len(frames))
    layouts = _layouts(max(frame.size[0] for frame in frames), max(frame.size[1] for frame in frames))
    ranked = _ranked(frames)
    behind = list(accumulate((frame.ways for frame in reversed(ranked)), initial=0))[::-1]  # cells for ranked[own:]
    wanted = own = min(len(frames), limits.max_frames)
    if layouts:
        wanted += -(-behind[own] // layouts[0].cells)
    for sheet in layouts:
        for own in range(most, -1, -1):
            sheets = -(-behind[own] // sheet.cells)
            if own + sheets <= limits.views:
                return Choice(_indexes(ranked[:own]), _indexes(ranked[own:]), sheet, sheets, (), wanted)
    if not layouts:
        return Choice(_indexes(ranked[:most]), left=tuple(sorted(_indexes(ranked[most:]))), wanted=wanted)
    room = limits.views * layouts[-1].cells
    kept = next(at for at in range(len(ranked)) if behind[0] - behind[at + 1] > room)
    left = tuple(sorted(_indexes(ranked[kept:])))
    return Choice(frozenset(), _indexes(ranked[:kept]), layouts[-1], limits.views, left, wanted)


def _indexes(frames: list[Frame]) -> frozenset[int]:
    return frozenset(frame.index for frame in frames)


def _ranked(frames: list[Frame]) -> list[Frame]:
    """What changes most first; where all change alike, an even sample first."""
    order: list[int] = []
    size = 2
    while len(order) < len(frames):
        order += [at for at in sample(len(frames), size) if at not in set(order)]
        size *= 2
    return [frames[at] for at in sorted(order, key=lambda at: -frames[at].change)]


def _layouts(width: int, height: int) -> list[Sheet]:
    """Ways to lay out a sheet for frames of this size, the finest first: legible ones hold the most cells there are."""
    found: dict[int, Sheet] = {}
    for across in range(1, _MOST_CELLS + 1):
        for down in range(1, _MOST_CELLS + 1):
            scale = round(min(1.0, EYE // across / width, EYE // down / height), 2)
            if scale < COARSE:
                break
            cells = across * down
            if cells > 1 and (cells not in found or found[cells].scale < scale):
                found[cells] = Sheet(across, down, scale)
    fine = [sheet for sheet in found.values() if sheet.scale >= FINE]
    coarse = [sheet for sheet in found.values() if sheet.scale < FINE]
    best = [max(fine, key=lambda sheet: (sheet.cells, sheet.scale))] if fine else []
    return best + sorted(coarse, key=lambda sheet: (-sheet.scale, -sheet.cells))
