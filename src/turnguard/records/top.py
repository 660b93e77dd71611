"""Counts over many records: which rule fires most, how often the moderator fails, how long a check takes."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from turnguard.records.query import Filter, stream
from turnguard.records.schema import records
from turnguard.records.store import Store

By = Literal["rule", "category", "stage", "tenant", "action", "policy", "model", "user"]


@dataclass(slots=True)
class Group:
    """What a rule, a stage or the like stands for in a time. Durations are in seconds."""

    name: str | None
    count: int = 0
    failed: int = 0
    withheld: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def add(self, latency: float, failed: bool, withheld: bool) -> None:
        """Count one decision."""
        self.count += 1
        self.failed += failed
        self.withheld += withheld
        self.latencies.append(latency)

    def to_dict(self, total: int) -> dict[str, Any]:
        """JSON-ready."""
        ordered = array("d", sorted(self.latencies))
        last = len(ordered) - 1
        quantiles = {
            f"p{share}": round(ordered[min(last, share * len(ordered) // 100)], 6) if ordered else None
            for share in (50, 95, 99)
        }
        return {
            "name": self.name,
            "count": self.count,
            "share": self.count / total if total else 0.0,
            "withheld": self.withheld,
            "failed": self.failed,
            **quantiles,
        }


def top(store: Store, wanted: Filter, by: By) -> dict[str, Any]:
    """Decisions by rule, category, stage and so on, the most first, JSON-ready.

    A decision in which several rules or categories fired counts for each; one in which none did, for the name None.
    """
    groups: dict[str | None, Group] = defaultdict(lambda: Group(None))
    every = Group(None)
    several = by in ("rule", "category")
    column = records.c.reasons if several else records.c[by]
    columns = (column, records.c.latency, records.c.failed, records.c.action)
    for rows in stream(store, wanted, columns):
        for found, latency, failed, action in rows:
            withheld = action in ("block", "review")
            every.add(latency, failed, withheld)
            names = _names(found, by) if several else (found,)
            for name in names:
                groups[name].add(latency, failed, withheld)
    for name, group in groups.items():
        group.name = name
    ordered = sorted(groups.values(), key=lambda group: (-group.count, group.name or ""))
    return {"by": by, "all": every.to_dict(every.count), "groups": [group.to_dict(every.count) for group in ordered]}


@lru_cache(maxsize=4096)
def _names(reasons: str | None, by: str) -> tuple[str | None, ...]:
    if reasons is None:
        return (None,)
    return tuple(dict.fromkeys(reason.get(by) for reason in json.loads(reasons)))
