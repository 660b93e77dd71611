"""Where a picture is cut, and how each piece is laid out for an eye of 896 x 896 pixels. Pure arithmetic.

The vision tower squeezes whatever it is given to 896 x 896 (the model card's processor; no letterbox). Text of 12
pixels survives a squeeze from 1100 and no longer one from 1200 (measured by OCR: tests/media/test_reach.py), so a
side longer than LEGIBLE is cut. Neighbours share OVERLAP pixels, so that a phrase of 16 characters of 12 pixels (at
most 150 wide, 16 high) is whole in at least one tile.
"""

from __future__ import annotations

from typing import NamedTuple

EYE = 896
LEGIBLE = 1100
OVERLAP_ACROSS = 160
OVERLAP_DOWN = 32
_MOST_STRETCH = 2


class Box(NamedTuple):
    """Left, upper, right, lower, in pixels."""

    left: int
    upper: int
    right: int
    lower: int


def grid(width: int, height: int) -> list[Box]:
    """The tiles of a picture, row by row; empty where the whole view already shows all that can be read."""
    if width <= LEGIBLE and height <= LEGIBLE:
        return []
    across, down = _spans(width, OVERLAP_ACROSS), _spans(height, OVERLAP_DOWN)
    return [Box(left, upper, right, lower) for upper, lower in down for left, right in across]


def _spans(size: int, overlap: int) -> list[tuple[int, int]]:
    """As few equal spans of at most LEGIBLE pixels as cover `size` with the overlap."""
    count = max(1, -(-(size - overlap) // (LEGIBLE - overlap)))
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


def sample(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    if most <= 1:
        return [0][:most]
    return [round(at * (count - 1) / (most - 1)) for at in range(most)]
