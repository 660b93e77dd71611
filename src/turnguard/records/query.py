"""Find records: by id, or by what they say. Values are always bound, never part of the SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from turnguard.records.schema import losses, records
from turnguard.records.store import Store, told

SHORTEST_ID = 6
"""Characters of an id that are enough to name a record, where only one begins with them."""
CHUNK = 2_000
_TEXT = TypeAdapter(str)

LISTED = [column for column in records.c if column.name not in ("content", "evidence")]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records: those that meet every condition given. Times are milliseconds since 1970, UTC."""

    since: int | None = None
    until: int | None = None
    action: str | None = None
    stage: str | None = None
    rule: str | None = None
    category: str | None = None
    user: str | None = None
    thread: str | None = None
    tenant: str | None = None
    policy: str | None = None
    failed: bool | None = None
    reduced: bool | None = None
    shadow_differs: bool = False
    event: str | None = "check"

    def conditions(self) -> Iterator[sa.ColumnElement[bool]]:
        """The conditions, for a WHERE."""
        if self.since is not None:
            yield records.c.time >= self.since
        if self.until is not None:
            yield records.c.time < self.until
        for name in ("action", "stage", "user", "thread", "tenant", "policy", "failed", "reduced", "event"):
            value = getattr(self, name)
            if value is not None:
                yield records.c[name] == value
        for name in ("rule", "category"):
            value = getattr(self, name)
            if value is not None:  # any rule that fired, not only the one that decided
                said = f'"{name}":{_TEXT.dump_json(value).decode()}'
                yield records.c.reasons.contains(said, autoescape=True)
        if self.shadow_differs:
            yield sa.and_(records.c.shadow.is_not(None), records.c.shadow != records.c.asked)


def find(store: Store, wanted: Filter, limit: int = 50, offset: int = 0) -> list[sa.Row[Any]]:
    """The newest records first, without content and evidence."""
    newest = sa.select(*LISTED).where(*wanted.conditions()).order_by(records.c.time.desc(), records.c.id)
    with store.begin() as connection:
        return list(connection.execute(newest.limit(limit).offset(offset)))


def one(store: Store, name: str) -> list[sa.Row[Any]]:
    """The record of an id or of its beginning, or those of a trace: oldest first, at most ten."""
    column = records.c.id
    exact = sa.select(records).where(sa.or_(column == name, records.c.trace == name)).order_by(records.c.time).limit(10)
    with store.begin() as connection:
        found = list(connection.execute(exact))
        if found or len(name) < SHORTEST_ID:
            return found
        after = name[:-1] + chr(ord(name[-1]) + 1)
        begins = sa.and_(column >= name, column < after)
        return list(connection.execute(sa.select(records).where(begins).order_by(records.c.time).limit(10)))


def stream(store: Store, wanted: Filter, columns: Sequence[sa.Column[Any]]) -> Iterator[Sequence[Any]]:
    """All records, oldest first, some thousands at a time, so that millions take no memory."""
    query = sa.select(*columns).where(*wanted.conditions()).order_by(records.c.time)
    with told(), store.engine.connect() as connection:
        rows = connection.execution_options(stream_results=True, yield_per=CHUNK).execute(query)
        yield from rows.partitions()


def lost(store: Store, since: int | None = None) -> int:
    """How many records were lost, as far as it was written down when the database could be used again."""
    total = sa.select(sa.func.coalesce(sa.func.sum(losses.c.count), 0))
    with store.begin() as connection:
        return int(connection.scalar(total if since is None else total.where(losses.c.time >= since)) or 0)
