"""The database of records, policies and reviews: opened from its settings, made on first use, refused where it is of
another version.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from turnguard.core.calibration import Calibration
from turnguard.core.errors import ConfigError, StoreError
from turnguard.core.policy import Origin, Policy
from turnguard.records import schema
from turnguard.records.keys import Keys
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import RecordsSettings

SIZES = (100, 10, 1)
"""Rows of one statement."""
CACHE = 16_000
"""KiB of SQLite's pages in memory: ids have no order, so that each record touches another page of their index."""
BUSY_SECONDS = 5.0
"""How long a writer waits for another one of the same database."""


def now() -> int:
    """The time as it is stored: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Store:
    """A database and its keys. One store may serve several threads, and goes on in a forked child."""

    def __init__(self, engine: sa.Engine, keys: Keys, settings: RecordsSettings) -> None:
        self.engine = engine
        self.keys = keys
        self.settings = settings
        named = engine.url.database if engine.dialect.name == "sqlite" else None
        self._file = None if named in (None, "", ":memory:") else named
        self._opened: int | None = None
        self._statements: dict[int, str] = {}
        watch(self)

    @classmethod
    def open(cls, settings: RecordsSettings) -> Store:
        """Connect, and make the tables where there are none. Raises `StoreError` where the database cannot be used and
        `ConfigError` where it is of another version.
        """
        if settings.url is None:
            raise ConfigError("records.url: no database is named; write records: {url: sqlite:///turnguard.db}")
        store = cls(_engine(settings.url.get_secret_value(), settings.required), Keys(settings.keys), settings)
        try:
            store.prepare()
        except BaseException:
            store.close()
            raise
        return store

    def prepare(self) -> None:
        """Make the tables where there are none, and see that they are of this version."""
        found = self._version()
        self._opened = None if self._file is None else _inode(self._file)
        if found is None:
            try:
                with self.begin() as connection:
                    _alone(connection)
                    schema.metadata.create_all(connection)
                    connection.execute(self.insert(schema.version), {"version": schema.VERSION})
            except StoreError as error:
                found = self._version()  # another process may have been faster
                if found is None:
                    raise error from None
            else:
                return
        if found != schema.VERSION:
            told = (
                "a newer Turnguard wrote it: upgrade this one"
                if found > schema.VERSION
                else "this Turnguard has no migration from it"
            )
            raise ConfigError(f"records.url: the database is of version {found}, not {schema.VERSION}; {told}")

    def _version(self) -> int | None:
        with self.begin() as connection:
            if not sa.inspect(connection).has_table(schema.version.name):
                return None
            found: int | None = connection.scalar(sa.select(sa.func.max(schema.version.c.version)))
            return found

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction: committed at the end, rolled back by an exception. Raises `StoreError`."""
        with told(), self.engine.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that leaves a row alone which is there already."""
        make = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        return make(table).on_conflict_do_nothing()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write records in one transaction. Each has every column; one whose id is there already is left alone."""
        values, done = itemgetter(*self.columns), 0
        with self.begin() as connection:
            for size in SIZES:
                while len(rows) - done >= size:
                    some = rows[done : done + size]
                    connection.exec_driver_sql(self._insert(size), tuple(chain.from_iterable(map(values, some))))
                    done += size

    @cached_property
    def columns(self) -> list[str]:
        """The names of a record's columns."""
        return list(schema.records.columns.keys())

    def _insert(self, size: int) -> str:
        """One statement for many rows: a driver that wrote them one by one would wait for a busy interpreter each
        time. They hold nothing that SQLAlchemy would have to convert.
        """
        sql = self._statements.get(size)
        if sql is None:
            quote = self.engine.dialect.identifier_preparer.quote
            mark = "?" if self.engine.dialect.paramstyle == "qmark" else "%s"
            row = f"({','.join([mark] * len(self.columns))})"
            columns = ",".join(map(quote, self.columns))
            rows = ",".join([row] * size)
            sql = f"INSERT INTO records ({columns}) VALUES {rows} ON CONFLICT DO NOTHING"  # noqa: S608 - our own names
            self._statements[size] = sql
        return sql

    def vanished(self) -> bool:
        """Whether the file is gone, or another one has its name: what is written to an open one would be lost."""
        return self._file is not None and _inode(self._file) != self._opened

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()

    def _after_fork(self) -> None:
        self.engine.dispose(close=False)  # the connections are the parent's

    # ------------------------------------------------------------ policies

    def keep_policy(self, policy: Policy, name: str | None = None) -> None:
        """Keep a policy as text, so that its rules can be read long after the file has changed."""
        with self.begin() as connection:
            connection.execute(self.insert(schema.policies), [policy_row(each, name) for each in with_shadow(policy)])

    def policies(self, digest: str, edition: str | None = None) -> list[sa.Row[Any]]:
        """The rows of one policy, the wanted edition first."""
        table = schema.policies
        wanted = sa.select(table).where(table.c.digest == digest).order_by(table.c.edition != edition, table.c.created)
        with self.begin() as connection:
            return list(connection.execute(wanted))

    def policy(self, digest: str, edition: str | None = None) -> Policy | None:
        """A policy that was kept, ready to decide; None where it is gone. Raises `ConfigError` where this version of
        Turnguard can no longer read it.
        """
        rows = self.policies(digest, edition)
        if not rows:
            return None
        kept = rows[0]
        calibration = None if kept.calibration is None else Calibration.parse(kept.calibration, "its calibration")
        source = {key: value for key, value in json.loads(kept.source).items() if key != "shadow"}
        shadow = None if kept.shadow is None else self.policy(kept.shadow, kept.shadow_edition)
        origin = Origin(kept.file or "", kept.text, kept.first, json.loads(kept.lines))
        return replace(Policy.from_dict(source, calibration), digest=digest, origin=origin, shadow=shadow)


def with_shadow(policy: Policy) -> Iterator[Policy]:
    """A policy, and what is decided beside it."""
    yield policy
    if policy.shadow is not None:
        yield policy.shadow


def edition(policy: Policy) -> str:
    """A digest of where and how the rules are written: the same rules may move to another line."""
    origin = policy.origin
    written = [origin.file, origin.first, origin.text] if origin is not None else []
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()[:16]


def policy_row(policy: Policy, name: str | None = None) -> dict[str, Any]:
    """The row of a policy."""
    source = json.dumps(policy.source, default=str, ensure_ascii=False, indent=1)
    origin = policy.origin
    written = origin is not None and origin.text
    return {
        "digest": policy.digest,
        "edition": edition(policy),
        "created": now(),
        "name": name,
        "file": origin.file if origin is not None else None,
        "text": origin.text if origin is not None and written else source,
        "first": origin.first if origin is not None and written else 1,
        "lines": json.dumps(dict(origin.lines) if origin is not None and written else {}),
        "source": source,
        "calibration": policy.calibration.text if policy.calibration is not None else None,
        "shadow": policy.shadow.digest if policy.shadow is not None else None,
        "shadow_edition": edition(policy.shadow) if policy.shadow is not None else None,
    }


@contextmanager
def told() -> Iterator[None]:
    """Turn what a driver raises into a sentence. A driver's own text may repeat values, so only its first line about a
    connection is shown.
    """
    try:
        yield
    except (OperationalError, ProgrammingError, IntegrityError, DBAPIError) as error:
        raise StoreError(f"the database of records: {_reason(error)}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database of records: {type(error).__name__}") from error


def _reason(error: DBAPIError) -> str:
    cause = error.orig
    if isinstance(error, OperationalError) and cause is not None:
        lines = str(cause).strip().splitlines()
        return lines[0][:200] if lines else type(cause).__name__
    return type(cause if cause is not None else error).__name__


def _engine(url: str, durable: bool) -> sa.Engine:
    try:
        place = sa.make_url(url)
    except SQLAlchemyError:
        raise ConfigError("records.url: this is no URL of a database") from None
    if place.drivername == "postgresql":
        options = {"connect_timeout": int(BUSY_SECONDS)}
        return sa.create_engine(place.set(drivername="postgresql+psycopg"), connect_args=options, pool_pre_ping=True)
    if place.database not in (None, "", ":memory:"):
        try:
            Path(str(place.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the database of records: {place.database}: {error.strerror}") from None
    engine = sa.create_engine(place, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def pragmas(connection: Any, _record: Any) -> None:
        _write_ahead(connection)
        # NORMAL loses nothing to a crash of the process, only the last commits to one of the machine
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute(f"PRAGMA cache_size=-{CACHE}")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and one writer at once. Where two processes change a new file to it, SQLite lets one fail at once."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _inode(file: str) -> int | None:
    try:
        return os.stat(file).st_ino  # noqa: PTH116 - a name that may be gone
    except OSError:
        return None


def _alone(connection: sa.Connection) -> None:
    """Let one process at a time make the tables."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7281643)"))
    else:
        connection.execute(sa.text("BEGIN IMMEDIATE"))
