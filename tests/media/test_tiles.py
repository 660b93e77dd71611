"""The grid and the layout: pure arithmetic, tested by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnguard.media.pictures.tiles import EYE, LEGIBLE, OVERLAP_ACROSS, OVERLAP_DOWN, grid, layout, sample

side = st.integers(1, 12_000)


@pytest.mark.parametrize(
    ("size", "count"),
    [((896, 896), 0), ((1100, 1100), 0), ((1920, 1080), 2), ((2560, 1440), 6), ((3840, 2160), 8), ((1080, 2400), 3)],
)
def test_as_few_tiles_as_legibility_needs(size: tuple[int, int], count: int) -> None:
    assert len(grid(*size)) == count


@given(side, side, st.data())
def test_a_phrase_anywhere_is_whole_in_at_least_one_legible_tile(width: int, height: int, data: st.DataObject) -> None:
    boxes = grid(width, height)
    for box in boxes:
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.upper < box.lower <= height
        assert box.right - box.left <= LEGIBLE
        assert box.lower - box.upper <= LEGIBLE
    if boxes:
        wide, high = min(OVERLAP_ACROSS, width), min(OVERLAP_DOWN, height)
        left = data.draw(st.integers(0, width - wide))
        upper = data.draw(st.integers(0, height - high))
        assert any(
            box.left <= left and left + wide <= box.right and box.upper <= upper and upper + high <= box.lower
            for box in boxes
        )


@given(side, side)
def test_a_view_is_never_larger_than_the_eye_nor_stretched_by_it(width: int, height: int) -> None:
    scaled, canvas = layout(width, height)
    assert max(canvas) <= EYE
    assert scaled[0] <= min(canvas[0], width)
    assert scaled[1] <= min(canvas[1], height)
    if min(width, height) > 50:  # rounding apart
        across, down = scaled[0] / width * EYE / canvas[0], scaled[1] / height * EYE / canvas[1]
        assert 0.45 < across / down < 2.2


@given(st.integers(0, 500), st.integers(0, 50))
def test_a_sample_is_spread_evenly(count: int, most: int) -> None:
    chosen = sample(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    if 2 <= most <= count:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
