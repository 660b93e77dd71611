"""A small selection of a cross product, for `make test`; the rest runs under the `exhaustive` marker.

    @pytest.mark.pairwise                                          # each parameter is a factor
    @pytest.mark.pairwise(by=lambda how, kind: (*how.split(":"), kind))   # or say what the factors are
    @pytest.mark.pairwise(by=..., once=lambda case, **_: case.name)       # and of what each value is to occur

Every pair of values of two factors that occurs in the whole product occurs in the selection too.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Sequence

import pytest

Pair = frozenset[tuple[int, str]]


def selected(every: Sequence[Sequence[object]], once: Sequence[object] = ()) -> set[int]:
    """The positions of combinations that together hold every pair of values of two factors, and every value of `once`."""
    pairs = [_pairs(each) for each in every]
    for found, value in zip(pairs, once, strict=False):
        found.add(frozenset(((-1, str(value)),)))
    wanted = set[Pair]().union(*pairs)
    chosen: set[int] = set()
    # taking a combination leaves the others with at most as much to add: bounds are recomputed only at the top
    heap = [(-len(found), number) for number, found in enumerate(pairs)]
    heapq.heapify(heap)
    while wanted:
        bound, number = heapq.heappop(heap)
        gain = len(pairs[number] & wanted)
        if gain < -bound:
            heapq.heappush(heap, (-gain, number))
            continue
        chosen.add(number)
        wanted -= pairs[number]
    return chosen


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark as exhaustive what the selections of tests under `pairwise` leave out."""
    products: dict[object, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("pairwise") is not None:
            products[item.nodeid.partition("[")[0]].append(item)
    for members in products.values():
        chosen = selected(*zip(*(_factors(item) for item in members), strict=True))
        for number, item in enumerate(members):
            if number not in chosen:
                item.add_marker(pytest.mark.exhaustive)


def _factors(item: pytest.Function) -> tuple[Sequence[object], object]:
    marker = item.get_closest_marker("pairwise")
    told = marker.kwargs if marker is not None else {}
    params = item.callspec.params
    factors = told["by"](**params) if "by" in told else tuple(params.values())
    return factors, told["once"](**params) if "once" in told else None


def _pairs(values: Sequence[object]) -> set[Pair]:
    named = [(number, str(getattr(value, "name", value))) for number, value in enumerate(values)]
    return {frozenset(pair) for pair in itertools.combinations(named, 2)} | {frozenset((one,)) for one in named}
