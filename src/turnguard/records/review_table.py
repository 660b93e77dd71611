"""Steps that wait for a person, in the database: any process sees them, and each is answered once.

What reviewers do stands among the records, under an event of its own: `review_seen`, `approved`, `rejected`, `expired`.
The name in it is the one that the reviewer gave.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from turnguard.core.review import Status
from turnguard.records import schema
from turnguard.records.evidence import dump_reasons, load_reasons
from turnguard.records.row import OWNER, of_event
from turnguard.records.shelf import Row
from turnguard.records.store import Store, now
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import RecordsSettings

REVIEWS, RECORDS = schema.reviews, schema.records
_LISTED = [column for column in REVIEWS.c if column.name != "content"]


class Table:
    """The table of reviews, in a database that is opened when first used: until it can be, each method raises
    `StoreError`, or `ConfigError` where the database is of another version.
    """

    stored = True

    def __init__(self, settings: RecordsSettings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._after_fork()
        watch(self)

    def _after_fork(self) -> None:
        self._opening = threading.Lock()

    def _open(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = Store.open(self._settings)
            return self._store

    def digest(self, content: bytes) -> str:
        return self._open().keys.digest(content)

    def put(self, row: Row) -> bool:
        store = self._open()
        values = {name: getattr(row, name) for name in _PLAIN}
        values |= {
            "reasons": dump_reasons(row.reasons) or "[]",
            "content": store.keys.encrypt(row.content),
        }
        with store.begin() as connection:
            connection.execute(store.insert(REVIEWS), values)
        return True

    def get(self, identity: str, *, content: bool = True) -> Row | None:
        store = self._open()
        wanted = sa.select(*(REVIEWS.c if content else _LISTED)).where(REVIEWS.c.id == identity)
        with store.begin() as connection:
            found = connection.execute(wanted).mappings().first()
        return None if found is None else _row(found, store)

    def change(self, row: Row, status: Status, at: int, by: str | None = None, note: str | None = None) -> bool:
        due = REVIEWS.c.expires <= at
        answered = (
            sa.update(REVIEWS)
            .where(
                REVIEWS.c.id == row.id,
                REVIEWS.c.status == "waiting",
                REVIEWS.c.digest == row.digest,
                due if status == "expired" else sa.not_(due),
            )
            .values(status=status, answered=at, by=by, note=note)
        )
        store = self._open()
        with store.begin() as connection:
            if connection.execute(answered).rowcount != 1:
                return False
            _record(connection, row, status, at, by, note)
        return True

    def rows(self, status: Status | None, tenant: str | None, limit: int) -> Sequence[Row]:
        store = self._open()
        wanted = sa.select(*_LISTED).order_by(REVIEWS.c.created.desc(), REVIEWS.c.id).limit(limit)
        if status is not None:
            wanted = wanted.where(REVIEWS.c.status == status)
        if tenant is not None:
            wanted = wanted.where(REVIEWS.c.tenant == tenant)
        with store.begin() as connection:
            return [_row(found, store) for found in connection.execute(wanted).mappings()]

    def saw(self, row: Row, by: str) -> None:
        with self._open().begin() as connection:
            _record(connection, row, "review_seen", now(), by, None)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


_PLAIN = ("id", "created", "expires", "digest", "record", "stage", "tenant", "status", "answered", "by", "note")


def _row(found: Mapping[Any, Any], store: Store) -> Row:
    content = found.get("content")
    return Row(
        **{name: found[name] for name in _PLAIN},
        reasons=load_reasons(found["reasons"]),
        content=b"" if content is None else store.keys.decrypt(content),
    )


def _record(connection: sa.Connection, row: Row, event: str, at: int, by: str | None, note: str | None) -> None:
    """What was done, as a record."""
    columns = [RECORDS.c[name] for name in OWNER]
    owner = connection.execute(sa.select(*columns).where(RECORDS.c.id == row.record)).mappings().first()
    about = {"review": row.id, "decision": row.record, "by": by, "note": note}
    values = of_event(event, at, about, owner or {"tenant": row.tenant})
    connection.execute(sa.insert(RECORDS), {**values, "stage": row.stage, "action": "review", "asked": "review"})
