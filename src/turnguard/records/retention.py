"""Deletes records: those that are older than `keep`, or a person's."""

from __future__ import annotations

import sqlalchemy as sa

from turnguard.records import schema
from turnguard.records.store import Store

CHUNK = 5_000
"""Rows of one transaction: those who write meanwhile wait for no more."""


def prune(store: Store, *, before: int | None = None, user: str | None = None) -> int:
    """Delete the records that meet every condition given, and the reviews that belong to them; at least one condition
    is. `before` is in milliseconds since 1970, UTC. Returns how many records went. A review that still waits goes with
    its user, never because of its age.
    """
    records, reviews = schema.records, schema.reviews
    conditions = []
    if before is not None:
        conditions.append(records.c.time < before)
    if user is not None:
        conditions.append(records.c.user == user)
    if not conditions:
        raise ValueError("nothing says which records to delete")
    doomed = sa.select(records.c.id).where(*conditions).limit(CHUNK)
    gone = 0
    while True:
        with store.begin() as connection:
            if store.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")  # what is deleted is overwritten
            names = connection.scalars(doomed).all()
            answered = sa.true() if user is not None else reviews.c.status != "waiting"
            connection.execute(sa.delete(reviews).where(reviews.c.record.in_(names), answered))
            connection.execute(sa.delete(records).where(records.c.id.in_(names)))
        gone += len(names)
        if len(names) < CHUNK:
            return gone
