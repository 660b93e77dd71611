"""Pictures become views: which frames, which renditions of them, whole and in tiles, within the budget.

What is left out is never silent: each view that is not made has an entry with its cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from turnguard.media.memo import Made
from turnguard.media.pictures.encode import encode, squeezed
from turnguard.media.pictures.renditions import Rendition, bands, differ, is_flat
from turnguard.media.pictures.tiles import EYE, Box, grid, layout, sample
from turnguard.media.types import Skipped, Unreadable, View

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_LOOKED_AT = 8  # times max_pixels: frames beyond that many pixels together are not looked at
_MOST_TILES = 1024  # candidates per picture
_LOST = 1  # level, averaged over a block and rounded: below it not even faint print (8 levels of contrast) is lost
_BLOCK = 8
_STRIP = 512  # rows; a multiple of the block


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


_Frame = tuple[int, "PillowImage", list[Rendition]]
_Shown = tuple["PillowImage", "PillowImage", tuple[int, int], "PillowImage"]


class _Tile(NamedTuple):
    frame: int
    rendition: int
    label: str
    box: Box
    risk: float


class _Plan:
    """Collects the views of one source."""

    def __init__(self, source: Source, limits: Limits, *, always_numbered: bool) -> None:
        self.source, self.limits = source, limits
        self.numbered = always_numbered or source.count > 1
        self.views: list[View] = []
        self.tiles: list[_Tile] = []
        self.skipped: list[Skipped] = []

    def name(self, index: int) -> str:
        return f"{self.source.noun} {index + 1}" if self.numbered else ""

    def skip(self, detail: str, cause: str, *, counts: bool = True) -> None:
        self.skipped.append(Skipped(detail, cause, counts))


def views_of(source: Source, limits: Limits, *, numbered: bool = False) -> Made:
    """The views of `source`, sorted by risk, at most `limits.views`, and what was left out.

    Whole views come before tiles; frames beyond the bound are sampled evenly; the rest goes by what only a tile shows.
    """
    plan = _Plan(source, limits, always_numbered=numbered)
    frames = list(range(source.count)) if source.any_order or source.count == 1 else _distinct(plan)
    within = [frames[at] for at in sample(len(frames), limits.max_frames)]
    if left := len(frames) - len(within):
        plan.skip(f"{left} {source.noun}s", f"beyond {limits.max_frames} {source.noun}s: an even sample was judged")
    first = [within[at] for at in sample(len(within), limits.views)]
    chosen = first + [index for index in within if index not in first]
    alone = _wholes(plan, chosen)
    _cut(plan, alone)
    plan.views.sort(key=lambda view: -view.risk)
    return Made(tuple(plan.views), (), tuple(plan.skipped), (), len(plan.views))


def _distinct(plan: _Plan) -> list[int]:
    """The frames that differ visibly from every one before them, found in one pass with two frames in memory."""
    kept: list[int] = []
    seen: set[bytes] = set()
    last: PillowImage | None = None
    budget = plan.limits.max_pixels * _LOOKED_AT
    for index in range(plan.source.count):
        plan.limits.check()
        try:
            picture, _ = plan.source.load(index)
        except Unreadable as cause:
            plan.skip(_span(plan, index, plan.source.count), str(cause))
            if not kept:
                raise
            break
        digest = hashlib.sha256(b"%d %d" % picture.size + picture.tobytes()).digest()
        if digest in seen or (last is not None and not differ(picture, last)):
            plan.skip(plan.name(index), f"the same as an earlier {plan.source.noun}", counts=False)
        else:
            kept.append(index)
            seen.add(digest)
            last = picture.copy()
        budget -= picture.width * picture.height
        if budget < 0 and index + 1 < plan.source.count:
            plan.skip(_span(plan, index + 1, plan.source.count), "more pixels than are looked at in one file")
            break
    return kept


def _span(plan: _Plan, first: int, count: int) -> str:
    return plan.name(first) if first + 1 == count else f"{plan.source.noun}s {first + 1} to {count}"


def _wholes(plan: _Plan, chosen: list[int]) -> _Frame | None:
    """Whole views of the chosen frames and the tiles that they call for. Gives back the frame if there is only one."""
    alone: _Frame | None = None
    for order, index in enumerate(chosen):
        plan.limits.check()
        if len(plan.views) >= plan.limits.views and plan.numbered:
            plan.skip(plan.name(index), f"beyond {plan.limits.views} requests")
            continue
        try:
            picture, ways = plan.source.load(index)
        except Unreadable as cause:
            if plan.source.count == 1:
                raise
            plan.skip(plan.name(index), str(cause))
            continue
        if len(chosen) == 1:
            alone = (index, picture, ways)
        shown: list[PillowImage] = []
        for way_at, way in enumerate(ways):
            plan.limits.check()
            drawn = way.draw(picture)
            base, factors = _halved(drawn)
            whole = squeezed(base, drawn.size)
            label = ", ".join(filter(None, (plan.name(index), way.label)))
            # A second way to show this frame must not take the place of a later frame.
            reserved = max(0, min(len(chosen), plan.limits.views) - order - 1) if way_at else 0
            if any(not differ(whole, other) for other in shown):
                pass  # its tiles may still differ
            elif plan.views and is_flat(whole, within=0) and is_flat(drawn):
                plan.skip(label, "a single colour", counts=False)
                continue
            elif len(plan.views) + reserved >= plan.limits.views:
                plan.skip(label, f"beyond {plan.limits.views} requests")
            else:
                plan.views.append(View(encode(whole), label, 1 + 1 / (1 + order + way_at)))
                shown.append(whole)
            if not way.whole_only:
                _propose(plan, (index, picture, ways), way_at, label, (drawn, base, factors, whole))
    return alone


def _propose(plan: _Plan, frame: _Frame, way_at: int, label: str, shown: _Shown) -> None:
    """List the tiles of one rendition with what the whole view loses in each; those that show nothing new are named."""
    drawn, base, factors, whole = shown
    boxes = grid(*drawn.size)
    if boxes and not plan.limits.tiles:
        plan.skip(", ".join(filter(None, (label, "fine detail"))), "tiles are switched off", counts=False)
    if not boxes or not plan.limits.tiles:
        return
    index, picture, ways = frame
    lost = _lost(base, whole, drawn.size)
    across, down = (_BLOCK * factor for factor in factors)
    regions = plan.source.regions(index)
    looked_at = sample(len(boxes), _MOST_TILES)
    for at in looked_at:
        box = boxes[at]
        name = ", ".join(filter(None, (label, f"tile {at + 1} of {len(boxes)}")))
        region = (box.left // across, box.upper // down, -(-box.right // across), -(-box.lower // down))
        most = max(high for _, high in bands(lost.crop(region)))
        crop = picture.crop(box) if way_at else None
        if regions is not None and not any(_overlap(box, region) for region in regions):
            plan.skip(name, "nothing but text, which is read as text", counts=False)
        elif crop is not None and any(not differ(ways[way_at].draw(crop), way.draw(crop)) for way in ways[:way_at]):
            plan.skip(name, "the same as in an earlier view", counts=False)
        elif most >= _LOST:
            plan.tiles.append(_Tile(index, way_at, name, box, min(0.99, most / 256)))
        elif is_flat(drawn.crop(box)):
            plan.skip(name, "a single colour", counts=False)
        else:
            plan.skip(name, "the whole view shows all of it", counts=False)
    if len(looked_at) < len(boxes):
        rest = f"{len(boxes) - len(looked_at)} more tiles"
        plan.skip(", ".join(filter(None, (label, rest))), "too large to look at closely")


def _overlap(one: Box, other: Box) -> bool:
    across = one.left < other.right and other.left < one.right
    return across and one.upper < other.lower and other.upper < one.lower


def _halved(drawn: PillowImage) -> tuple[PillowImage, tuple[int, int]]:
    """The picture at half size, along each side where that still holds twice what the whole view will; and the factors.

    The whole view is made from it, and what that loses is measured against it.
    """
    across, down = (2 if side >= 4 * EYE else 1 for side in drawn.size)
    return (drawn.reduce((across, down)) if (across, down) != (1, 1) else drawn), (across, down)


def _lost(base: PillowImage, whole: PillowImage, size: tuple[int, int]) -> PillowImage:
    """What the whole view loses of `base` (of `size`, perhaps halved), a pixel per block. In strips, to save memory."""
    from PIL import Image, ImageChops

    shown = layout(*size).scaled  # without the padding of a strip
    lost = Image.new("RGB", (-(-base.width // _BLOCK), -(-base.height // _BLOCK)))
    for upper in range(0, base.height, _STRIP):
        strip = base.crop((0, upper, base.width, min(upper + _STRIP, base.height)))
        rows = (0.0, upper * shown[1] / base.height, float(shown[0]), (upper + strip.height) * shown[1] / base.height)
        again = whole.resize(strip.size, Image.Resampling.NEAREST, box=rows)
        lost.paste(ImageChops.difference(strip, again).reduce(_BLOCK), (0, upper // _BLOCK))
    return lost


def _cut(plan: _Plan, alone: _Frame | None) -> None:
    """Make the riskiest tiles that the budget allows."""
    room = plan.limits.views - len(plan.views)
    ranked = sorted(plan.tiles, key=lambda tile: -tile.risk)
    for tile in ranked[room:]:
        plan.skip(tile.label, f"beyond {plan.limits.views} requests")
    current = alone
    for tile in sorted(ranked[:room], key=lambda tile: (tile.frame, tile.rendition)):
        plan.limits.check()
        if current is None or current[0] != tile.frame:
            try:
                current = (tile.frame, *plan.source.load(tile.frame))
            except Unreadable as cause:
                plan.skip(tile.label, str(cause))
                continue
        _, picture, ways = current
        plan.views.append(
            View(encode(squeezed(ways[tile.rendition].draw(picture.crop(tile.box)))), tile.label, tile.risk)
        )
