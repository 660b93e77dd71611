"""What happened in a span of time: counts, rules, failures, latency, and where the shadow differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import quantiles

import sqlalchemy as sa

from turnguard.records.query import Filter
from turnguard.records.schema import records
from turnguard.records.store import Store

BUCKETS = 24
TOP = 8
SAMPLE = 20_000
"""The newest checks that the percentiles of the latency are taken over."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts. `buckets` are the beginnings of equal spans with their counts by action, `rules`
    the most frequent rules with their action and count, `latency` seconds at p50, p95 and p99 (None without checks).
    """

    buckets: tuple[tuple[datetime, dict[str, int]], ...]
    actions: dict[str, int]
    failed: int
    incomplete: int
    rules: tuple[tuple[str, str, int], ...]
    shadow: tuple[tuple[str, str, int], ...]
    latency: tuple[float, float, float] | None

    @property
    def total(self) -> int:
        """All checks."""
        return sum(self.actions.values())


def overview(store: Store, wanted: Filter) -> Overview:
    """Count the records of `wanted`, which gives both its times. Raises `StoreError`."""
    assert wanted.since is not None  # noqa: S101 - the callers give both
    assert wanted.until is not None  # noqa: S101
    c, where, count = records.c, list(wanted.conditions()), sa.func.count()
    start, end = wanted.since, wanted.until
    width = max(1, (end - start) // BUCKETS)
    # one pass over the span: everything is cut from these few groups
    groups = (((c.time - start) // width).label("bucket"), c.action, c.failed, c.complete, c.rule, c.asked, c.shadow)
    with store.begin() as connection:
        grouped = connection.execute(sa.select(*groups, count).where(*where).group_by(*groups)).all()
        latencies = connection.scalars(sa.select(c.latency).where(*where).order_by(c.time.desc()).limit(SAMPLE)).all()
    by_bucket: list[Counter[str]] = [Counter() for _ in range(BUCKETS)]
    actions, rules, shadows = Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    failed = incomplete = 0
    for number, action, is_failed, is_complete, rule, asked, shadow, counted in grouped:
        by_bucket[min(int(number), BUCKETS - 1)][action] += counted
        actions[action] += counted
        failed += counted if is_failed else 0
        incomplete += 0 if is_complete else counted
        if rule is not None and action != "allow":
            rules[rule, action] += counted
        if shadow is not None and shadow != asked:
            shadows[asked, shadow] += counted
    times = [datetime.fromtimestamp((start + index * width) / 1000, UTC) for index in range(BUCKETS)]
    return Overview(
        tuple(zip(times, map(dict, by_bucket), strict=True)),
        dict(actions),
        failed,
        incomplete,
        tuple((*named, counted) for named, counted in sorted(rules.items(), key=_most)[:TOP]),
        tuple((*named, counted) for named, counted in sorted(shadows.items(), key=_most)),
        _percentiles(list(latencies)),
    )


def _most(found: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -found[1], found[0]


def _percentiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    if len(values) == 1:
        return values[0], values[0], values[0]
    cut = quantiles(values, n=100, method="inclusive")
    return cut[49], cut[94], cut[98]
