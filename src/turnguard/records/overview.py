"""What happened in a span of time: counts, rules, failures, latency, and where the shadow differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    bucket = ((c.time - start) // width).label("bucket")
    differing = replace(wanted, shadow_differs=True).conditions()
    with store.begin() as connection:
        # one pass over the span: everything below is cut from these few groups
        grouped = connection.execute(
            sa.select(bucket, c.action, c.failed, c.complete, count)
            .where(*where)
            .group_by(bucket, c.action, c.failed, c.complete)
        ).all()
        rules = connection.execute(
            sa.select(c.rule, c.action, count)
            .where(*where, c.rule.is_not(None), c.action != "allow")
            .group_by(c.rule, c.action)
            .order_by(count.desc(), c.rule)
            .limit(TOP)
        ).all()
        shadow = connection.execute(
            sa.select(c.asked, c.shadow, count).where(*differing).group_by(c.asked, c.shadow).order_by(count.desc())
        ).all()
        latencies = connection.scalars(sa.select(c.latency).where(*where).order_by(c.time.desc()).limit(SAMPLE)).all()
    by_bucket: list[dict[str, int]] = [{} for _ in range(BUCKETS)]
    actions: dict[str, int] = {}
    failed = incomplete = 0
    for number, action, is_failed, is_complete, counted in grouped:
        into = by_bucket[min(int(number), BUCKETS - 1)]
        into[action] = into.get(action, 0) + counted
        actions[action] = actions.get(action, 0) + counted
        failed += counted if is_failed else 0
        incomplete += 0 if is_complete else counted
    times = [datetime.fromtimestamp((start + index * width) / 1000, UTC) for index in range(BUCKETS)]
    return Overview(
        tuple(zip(times, by_bucket, strict=True)),
        actions,
        failed,
        incomplete,
        tuple((rule, action, counted) for rule, action, counted in rules),
        tuple((asked, other, counted) for asked, other, counted in shadow),
        _percentiles(list(latencies)),
    )


def _percentiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    if len(values) == 1:
        return values[0], values[0], values[0]
    cut = quantiles(values, n=100, method="inclusive")
    return cut[49], cut[94], cut[98]
