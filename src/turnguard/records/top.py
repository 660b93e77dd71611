"""Counts over many records: which rule fires most, how often the moderator fails, how long a check takes."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from turnguard.records.query import Filter, stream
from turnguard.records.schema import records
from turnguard.records.store import Store

By = Literal["rule", "category", "stage", "tenant", "action", "policy", "model", "user"]


@dataclass(slots=True)
class Group:
    """Decisions that have something in common. Latencies are in seconds."""

    count: int = 0
    failed: int = 0
    withheld: int = 0
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def add(self, action: str, failed: bool, latencies: array[float]) -> None:
        """Count decisions of one action."""
        self.count += len(latencies)
        self.failed += failed * len(latencies)
        self.withheld += (action in ("block", "review")) * len(latencies)
        self.latencies.extend(latencies)

    def to_dict(self, name: str | None, total: int) -> dict[str, Any]:
        """Return the group as JSON-compatible data."""
        ordered = array("d", sorted(self.latencies))
        last = len(ordered) - 1
        return {
            "name": name,
            "count": self.count,
            "share": self.count / total if total else 0.0,
            "withheld": self.withheld,
            "failed": self.failed,
            **{
                f"p{share}": round(ordered[min(last, share * len(ordered) // 100)], 6) if ordered else None
                for share in (50, 95, 99)
            },
        }


def top(store: Store, wanted: Filter, by: By) -> dict[str, Any]:
    """Decisions by rule, category, stage and so on, the most first, JSON-ready.

    A decision in which several rules or categories fired counts for each; one in which none did, for the name None.
    """
    several = by in ("rule", "category")
    column = records.c.reasons if several else records.c[by]
    alike: dict[tuple[tuple[str | None, ...], str, bool], array[float]] = defaultdict(lambda: array("d"))
    for rows in stream(store, wanted, (column, records.c.action, records.c.failed, records.c.latency)):
        for found, action, failed, latency in rows:
            names = _names(found, by) if several and found is not None else (found,)
            alike[names, action, failed].append(latency)
    groups: dict[str | None, Group] = defaultdict(Group)
    every = Group()
    for (names, action, failed), latencies in alike.items():
        every.add(action, failed, latencies)
        for name in names:
            groups[name].add(action, failed, latencies)
    ordered = sorted(groups.items(), key=lambda each: (-each[1].count, each[0] or ""))
    return {
        "by": by,
        "all": every.to_dict(None, every.count),
        "groups": [group.to_dict(name, every.count) for name, group in ordered],
    }


def _names(reasons: str, by: str) -> tuple[str | None, ...]:
    return tuple(dict.fromkeys(reason.get(by) for reason in json.loads(reasons)))
