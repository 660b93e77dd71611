"""Counts over many records: which rule fires most, how often the moderator fails, how long a check takes."""

from __future__ import annotations

import json
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

    failed: int = 0
    withheld: int = 0
    latencies: list[float] = field(default_factory=list)

    def add(self, action: str, failed: bool, latencies: list[float]) -> None:
        """Count decisions of one action."""
        self.failed += failed * len(latencies)
        self.withheld += (action in ("block", "review")) * len(latencies)
        self.latencies += latencies

    def to_dict(self, name: str | None, total: int) -> dict[str, Any]:
        """Return the group as JSON-compatible data."""
        count, ordered = len(self.latencies), sorted(self.latencies)
        at = {share: min(count - 1, share * count // 100) for share in (50, 95, 99)}
        return {
            "name": name,
            "count": count,
            "share": count / total if total else 0.0,
            "withheld": self.withheld,
            "failed": self.failed,
            **{f"p{share}": round(ordered[place], 6) if count else None for share, place in at.items()},
        }


def top(store: Store, wanted: Filter, by: By) -> dict[str, Any]:
    """Decisions by rule, category, stage and so on, the most first, JSON-ready.

    A decision in which several rules or categories fired counts for each; one in which none did, for the name None.
    """
    several = by in ("rule", "category")
    column = records.c.reasons if several else records.c[by]
    alike: dict[tuple[str | None, str, bool], list[float]] = defaultdict(list)
    for rows in stream(store, wanted, (column, records.c.action, records.c.failed, records.c.latency)):
        for found, action, failed, latency in rows:
            alike[found, action, failed].append(latency)
    groups: dict[str | None, Group] = defaultdict(Group)
    every = Group()
    for (found, action, failed), latencies in alike.items():
        latencies.sort()  # what is sorted in pieces is soon sorted as a whole
        every.add(action, failed, latencies)
        for name in _names(found, by) if several and found is not None else (found,):
            groups[name].add(action, failed, latencies)
    total = len(every.latencies)
    made = [group.to_dict(name, total) for name, group in groups.items()]
    made.sort(key=lambda each: (-each["count"], each["name"] or ""))
    return {"by": by, "all": every.to_dict(None, total), "groups": made}


def _names(reasons: str, by: str) -> tuple[str | None, ...]:
    return tuple(dict.fromkeys(reason.get(by) for reason in json.loads(reasons)))
