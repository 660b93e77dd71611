"""Pictures become views: which frames, which renditions of them, whole and in tiles, within the budget.

Every frame has its whole view first; tiles are as fine as the rest of the budget allows, all alike. What is left out is
never silent: each view that is not made has an entry with its cause, and what is shown too coarsely has its scale.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from turnguard.media.pictures.compare import differ, is_flat
from turnguard.media.pictures.encode import encode, squeezed
from turnguard.media.pictures.frames import Choice, Frame, Limits, Source, choose, distinct
from turnguard.media.pictures.losses import LOST, Losses, halved
from turnguard.media.pictures.renditions import Rendition
from turnguard.media.pictures.sheets import Sheets
from turnguard.media.pictures.tiles import COARSE, COARSEST, FINE, LEGIBLE, Box, grid, sample, scale_of
from turnguard.media.types import Coarse, Made, Skipped, Unreadable, View

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["Limits", "Source", "views_of"]

_LONGEST = (LEGIBLE, 1200, 1300, 1400, 1600, 1800, 2000, COARSEST)  # sides of tiles, the finest first
_MOST_TILES = 1024  # candidates per rendition
_Loaded = tuple[int, "PillowImage", list[Rendition]]


class _Tile(NamedTuple):
    shown: _Shown
    label: str
    box: Box
    risk: float


class _Shown(NamedTuple):
    """One rendition of one frame, shown whole, and the details that are lost by scaling it down."""

    frame: int
    rendition: int
    label: str
    size: tuple[int, int]
    losses: Losses
    regions: list[Box] | None

    def needs(self, longest: int, skipped: list[Skipped] | None = None) -> list[_Tile]:
        """Return the tiles that show something new. The others are appended to `skipped`."""
        boxes = grid(*self.size, longest)
        looked_at = sample(len(boxes), _MOST_TILES)
        needed: list[_Tile] = []
        for at in looked_at:
            box = boxes[at]
            name = _joined(self.label, f"tile {at + 1} of {len(boxes)}")
            if self.regions is not None and not any(_overlap(box, region) for region in self.regions):
                cause = "nothing but text, which is read as text"
            elif self.losses.repeats(box):
                cause = "the same as in an earlier view"
            elif (most := self.losses.most(box)) >= LOST:
                needed.append(_Tile(self, name, box, min(0.99, most / 256)))
                continue
            else:
                cause = "a single colour" if self.losses.is_flat(box) else "the whole view shows all of it"
            if skipped is not None:
                skipped.append(Skipped(name, cause, False))
        if skipped is not None and len(looked_at) < len(boxes):
            rest = f"{len(boxes) - len(looked_at)} more tiles"
            skipped.append(Skipped(_joined(self.label, rest), "too large to look at closely", True))
        return needed


class _Plan:
    """Collects the views of one source."""

    def __init__(self, source: Source, limits: Limits, *, numbered: bool) -> None:
        self.source, self.limits, self.numbered = source, limits, numbered
        self.views: list[View] = []
        self.shown: list[_Shown] = []
        self.skipped: list[Skipped] = []
        self.reduced: list[Coarse] = []
        self.extra = 0  # whole views beyond the first of each frame, those that found no room among them

    def name(self, index: int) -> str:
        return f"{self.source.noun} {index + 1}" if self.numbered else ""

    def skip(self, detail: str, cause: str, *, counts: bool = True) -> None:
        self.skipped.append(Skipped(detail, cause, counts))


def views_of(source: Source, limits: Limits, *, numbered: bool = False) -> Made:
    """The views of `source`, sorted by risk, at most `limits.views`, what was left out, and what is shown coarsely."""
    plan = _Plan(source, limits, numbered=numbered or source.count > 1)
    choice = _choice(plan)
    for index in choice.left:
        cause = "sampled: more than fit on contact sheets" if limits.views else "beyond 0 requests"
        plan.skip(plan.name(index), cause)
    last = _wholes(plan, choice)
    wanted = choice.wanted + plan.extra + _cut(plan, last)
    plan.views.sort(key=lambda view: -view.risk)
    return Made(tuple(plan.views), (), tuple(plan.skipped), tuple(plan.reduced), wanted)


def _choice(plan: _Plan) -> Choice:
    source, limits = plan.source, plan.limits
    if source.count == 1:
        return (
            choose([Frame(0, (1, 1), 1, 0)], limits)
            if limits.views
            else Choice(frozenset({0}), frozenset(), None, 0, ())
        )
    if not source.any_order:
        frames, skipped = distinct(source, limits)
        plan.skipped += skipped
        return choose(frames, limits)
    size = (1, 1)
    if source.count > min(limits.max_frames, limits.views):
        size = source.load(0)[0].size  # pages of a document are about alike
    return choose([Frame(index, size, 1, 0) for index in range(source.count)], limits)


def _wholes(plan: _Plan, choice: Choice) -> _Loaded | None:
    """Whole views of the chosen frames, and sheets of the others. Gives back the frame if there is only one."""
    alone: _Loaded | None = None
    sheets = Sheets(plan.source.noun, choice.sheet, choice.sheets)
    left = len(choice.alone)
    for index in sorted(choice.alone | choice.shared):
        plan.limits.check()
        try:
            picture, ways = plan.source.load(index)
        except Unreadable as cause:
            if plan.source.count == 1:
                raise
            plan.skip(plan.name(index), str(cause))
            continue
        if index in choice.shared:
            sheets.add(index, picture, ways)
            continue
        left -= 1
        _whole(plan, (index, picture, ways), order=len(choice.alone) - left - 1, reserved=left + choice.sheets)
        if len(choice.alone) == 1 and not choice.shared:
            alone = (index, picture, ways)
    views, skipped, reduced = sheets.done()
    plan.views += views
    plan.skipped += skipped
    plan.reduced += reduced
    return alone


def _whole(plan: _Plan, frame: _Loaded, *, order: int, reserved: int) -> None:
    """The whole views of one frame. A second way to show it must not take the place of a later frame (`reserved`)."""
    index, picture, ways = frame
    made: list[PillowImage] = []
    regions = plan.source.regions(index)
    for at, way in enumerate(ways):
        plan.limits.check()
        drawn = way.of(picture)
        base = halved(drawn)
        whole = squeezed(base, drawn.size)
        label = _joined(plan.name(index), way.label)
        if any(not differ(whole, other) for other in made):
            pass  # its tiles may still differ
        elif plan.views and is_flat(whole, within=0) and is_flat(drawn):
            plan.skip(label, "a single colour", counts=False)
            continue
        elif len(plan.views) + (reserved if at else 0) >= plan.limits.views:
            plan.extra += 1 if at else 0
            plan.skip(label, f"beyond {plan.limits.views} requests")
        else:
            plan.extra += 1 if at else 0
            plan.views.append(View(encode(whole), label, 1 + 1 / (1 + order + at)))
            made.append(whole)
        if way.whole_only or not grid(*drawn.size):
            continue
        if not plan.limits.tiles:
            plan.skip(_joined(label, "fine detail"), "tiles are switched off", counts=False)
            continue
        losses = Losses.of(drawn, base, whole, [partial(other.of, picture) for other in ways[:at]])
        plan.shown.append(_Shown(index, at, label, drawn.size, losses, regions))


def _cut(plan: _Plan, loaded: _Loaded | None) -> int:
    """Make tiles, as fine as the budget allows, and the riskiest where it allows not even coarse ones.

    Returns how many tiles would show everything at full resolution.
    """
    room = plan.limits.views - len(plan.views)
    finest = sum(len(shown.needs(LEGIBLE)) for shown in plan.shown)
    longest = next((side for side in _LONGEST if sum(len(shown.needs(side)) for shown in plan.shown) <= room), COARSEST)
    tiles: list[_Tile] = []
    for shown in plan.shown:
        needed = shown.needs(longest, plan.skipped)
        tiles += needed
        scale = min((scale_of(*tile.box.size) for tile in needed), default=scale_of(*shown.size))
        if scale < FINE and shown.needs(LEGIBLE):
            if scale < COARSE:
                plan.skip(shown.label, f"shown at {scale:.2f} of its size at most")
            else:
                plan.reduced.append(Coarse(shown.label, scale))
    ranked = sorted(tiles, key=lambda tile: -tile.risk)
    for tile in ranked[room:]:
        plan.skip(tile.label, f"beyond {plan.limits.views} requests")
    for tile in sorted(ranked[:room], key=lambda tile: (tile.shown.frame, tile.shown.rendition)):
        plan.limits.check()
        if loaded is None or loaded[0] != tile.shown.frame:
            try:
                loaded = (tile.shown.frame, *plan.source.load(tile.shown.frame))
            except Unreadable as cause:
                plan.skip(tile.label, str(cause))
                continue
        _, picture, ways = loaded
        view = ways[tile.shown.rendition].of(picture, tile.box)
        plan.views.append(View(encode(squeezed(view)), tile.label, tile.risk))
    return finest


def _overlap(one: Box, other: Box) -> bool:
    across = one.left < other.right and other.left < one.right
    return across and one.upper < other.lower and other.upper < one.lower


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))
