"""Where a picture is cut, and how each piece is laid out for an eye of 896 x 896 pixels. Pure arithmetic.

The vision tower squeezes whatever it is given to 896 x 896 (the model card's processor; no letterbox). Text of 12
pixels survives a squeeze from 1100 and no longer one from 1200 (measured by OCR: tests/media/test_reach.py), so a
side longer than LEGIBLE is cut. Neighbours share OVERLAP pixels, so that a phrase of 16 characters of 12 pixels (at
most 150 wide, 16 high) is whole in at least one tile. Where the budget is short, tiles are larger and coarser.
"""

from __future__ import annotations

from typing import NamedTuple

EYE = 896
LEGIBLE = 1100
COARSEST = 2200
"""The longest side of a tile that still counts as judged: print of 24 pixels is legible in it."""
OVERLAP_ACROSS = 160
OVERLAP_DOWN = 32
_MOST_STRETCH = 2


class Box(NamedTuple):
    """Left, upper, right, lower, in pixels."""

    left: int
    upper: int
    right: int
    lower: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.lower - self.upper


def grid(width: int, height: int, longest: int = LEGIBLE) -> list[Box]:
    """The tiles of a picture, row by row, no side over `longest`; empty where the whole view is as fine as a tile."""
    if width <= longest and height <= longest:
        return []
    across = _spans(width, longest, OVERLAP_ACROSS * longest // LEGIBLE)
    down = _spans(height, longest, OVERLAP_DOWN * longest // LEGIBLE)
    return [Box(left, upper, right, lower) for upper, lower in down for left, right in across]


def _spans(size: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """As few equal spans of at most `longest` pixels as cover `size` with the overlap."""
    count = max(1, -(-(size - overlap) // (longest - overlap)))
    span = -(-(size + (count - 1) * overlap) // count)
    last = size - span
    starts = [0] if count == 1 else [round(at * last / (count - 1)) for at in range(count)]
    return [(start, start + span) for start in starts]


class Layout(NamedTuple):
    """Scale to `scaled`, then paste at the upper left of a canvas of `canvas` pixels (the same size: no paste)."""

    scaled: tuple[int, int]
    canvas: tuple[int, int]


def layout(width: int, height: int) -> Layout:
    """How a view is sent: never wider or higher than the eye, never scaled up, and padded where the eye would stretch
    it.

    Without the padding a banner of 1100 x 30 would reach the model 37 times higher than wide. At most 2:1 is left, a
    little more than the 16:9 of an ordinary screen.
    """
    padded_width = max(width, -(-height // _MOST_STRETCH))
    padded_height = max(height, -(-width // _MOST_STRETCH))
    canvas = (min(EYE, padded_width), min(EYE, padded_height))
    scaled = (
        max(1, round(width * canvas[0] / padded_width)),
        max(1, round(height * canvas[1] / padded_height)),
    )
    return Layout(scaled, canvas)


def scale_of(width: int, height: int) -> float:
    """Shown / original pixels along the axis that loses more, to two decimals: 1 where nothing is lost."""
    scaled, _ = layout(width, height)
    return round(min(scaled[0] / width, scaled[1] / height), 2)


FINE = round(EYE / LEGIBLE, 2)
"""0.81: from this scale on print of 12 pixels is legible, and nothing is said."""
COARSE = round(EYE / COARSEST, 2)
"""0.41: below this scale a part is not judged."""


def sample(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    if most <= 1:
        return [0][:most]
    return [round(at * (count - 1) / (most - 1)) for at in range(most)]
