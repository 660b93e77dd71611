"""Writes rows from one thread per process and database, in batches: a check waits for the disk only if it asks to.

What waits is bounded. While the database cannot be used, rows wait and are tried again; what finds no room is lost,
counted, kept in the table of losses once the database is back, and logged once a minute.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy.exc import DataError, IntegrityError

from turnguard import telemetry
from turnguard.core.errors import StoreError
from turnguard.records import schema
from turnguard.records.retention import prune
from turnguard.records.row import Pending
from turnguard.records.store import Store, now
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import RecordsSettings

QUEUE = 20_000
QUEUE_BYTES = 256_000_000
"""Rows, and bytes of content in them, that wait for the database. What is beyond that is lost and counted."""
BATCH = 500
TURN = 50
"""Rows that are made before another thread may run: it would wait for the interpreter's whole switch interval."""
PAUSE = 0.2
"""Seconds between two batches where no check waits for its record: what a crash can lose."""
LONGEST_PAUSE = 5.0
CLOSING_SECONDS = 5.0
TELLING_SECONDS = 60.0
PRUNING_SECONDS = 3600.0

log = logging.getLogger("turnguard.records")


class Writer:
    """The background writer of one database. `lost` counts the rows that could not be written."""

    def __init__(self, settings: RecordsSettings) -> None:
        self.settings = settings
        self.users = 0
        self.lost = 0
        self._store: Store | None = None
        self._policies: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._renew()
        watch(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._hurry = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._queue: deque[Pending] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._closing = False
        self._written: set[tuple[str, str]] = set()
        self._untold = self._unkept = 0
        self._cause = ""
        self._telling = self._pruning = 0.0

    def _after_fork(self) -> None:
        # the thread and what it had still to write are the parent's
        atexit.unregister(self.close)
        self._renew()
        self.lost = 0

    # ------------------------------------------------------------ the checks' side

    def open(self) -> Store:
        """The database. Raises `StoreError` or `ConfigError` where it cannot be used."""
        if self._store is None:
            self._store = Store.open(self.settings)
            self._written.clear()
            self._pruning = 0.0
        return self._store

    def know(self, policy: Mapping[str, Any]) -> None:
        """Write the row of a policy before any record that names it."""
        self._policies[policy["digest"], policy["edition"]] = policy

    def put(self, pending: Pending) -> bool:
        """Queue a row; returns at once. False where there is no room for it."""
        size = pending.size
        with self._lock:
            if len(self._queue) >= QUEUE or self._bytes + size > QUEUE_BYTES:
                self._lose(1, "more waited than there is room for")
                return False
            self._bytes += size
            self._queue.append(pending)
            self._empty.clear()
            if not self._some.is_set():
                self._some.set()
            if pending.done is not None:
                self._hurry.set()
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="turnguard-records", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # a script that ends without closing its guard has its records written
        return True

    async def put_and_wait(self, pending: Pending, seconds: float) -> str | None:
        """Queue a row and wait until it is committed; else the reason why it is not, in a few words."""
        pending.done = Future()
        if not self.put(pending):
            return "the queue of records is full"
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(pending.done)
        except TimeoutError:
            return "the record was not written before the deadline"
        except StoreError:
            return "the record could not be written"
        return None

    def lose(self, cause: str) -> None:
        """Count a record that could not be made."""
        with self._lock:
            self._lose(1, cause)

    def flush(self, seconds: float = CLOSING_SECONDS) -> bool:
        """Wait until everything that was queued is committed; False where that took longer."""
        self._hurry.set()
        return self._empty.wait(seconds)

    def close(self) -> None:
        """Write what is queued and stop; what could not be written within some seconds is lost."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closing = True
        if thread is not None:
            atexit.unregister(self.close)
            self._some.set()
            self._hurry.set()
            thread.join(CLOSING_SECONDS)
        with self._lock:
            if self._queue:
                self._lose(len(self._queue), "the process ended before they were written")
                self._queue.clear()
                self._tell(at_once=True)
            store, self._store = self._store, None
        if store is not None:
            store.close()

    # ------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        pause = PAUSE
        while True:
            self._some.wait()
            self._hurry.wait(pause)  # rows gather meanwhile: a transaction costs more than they do
            self._some.clear()
            self._hurry.clear()
            closing = self._closing
            try:
                self._write()
                pause = PAUSE
            except Exception as error:  # noqa: BLE001 - the thread must live on, whatever the database does
                self._refuse(error)
                self._some.set()
                pause = min(pause * 2, LONGEST_PAUSE)
            self._tell()
            if closing:
                return

    def _write(self) -> None:
        """Commit everything that is queued, batch by batch."""
        store = self._present()
        for key in self._policies.keys() - self._written:
            with store.begin() as connection:
                connection.execute(store.insert(schema.policies), self._policies[key])
            self._written.add(key)
        while batch := list(islice(self._queue, BATCH)):
            # a check that waited in vain has failed, and is recorded as that
            wanted = [each for each in batch if each.done is None or each.done.set_running_or_notify_cancel()]
            self._insert(store, list(self._made(wanted, store)))
            with self._lock:
                for each in batch:
                    self._queue.popleft()
                    self._bytes -= each.size
                if not self._queue:
                    self._empty.set()
            for each in wanted:
                if each.done is not None and not each.done.done():
                    each.done.set_result(None)
        if self._unkept:
            with store.begin() as connection:
                lost = {"id": uuid4().hex, "time": now(), "count": self._unkept, "cause": self._cause}
                connection.execute(store.insert(schema.losses), lost)
            self._unkept = 0
        if self.settings.keep is not None and time.monotonic() >= self._pruning:
            self._pruning = time.monotonic() + PRUNING_SECONDS
            prune(store, before=now() - int(self.settings.keep * 1000))

    def _present(self) -> Store:
        """The database, opened anew where its file is another one now: rows written to a deleted file are nobody's."""
        store = self._store
        if store is not None and store.vanished():
            self._store = None
            store.close()
        return self.open()

    def _made(self, wanted: Sequence[Pending], store: Store) -> Iterator[tuple[Pending, dict[str, Any]]]:
        for number, each in enumerate(wanted, 1):
            if number % TURN == 0:
                time.sleep(0)
            try:
                yield each, each.row(store.keys)
            except Exception as error:  # noqa: BLE001 - whatever a step holds, the others' records are written
                self._spoil(each, f"no record could be made ({type(error).__name__})")

    def _insert(self, store: Store, rows: Sequence[tuple[Pending, dict[str, Any]]]) -> None:
        try:
            store.add([row for _, row in rows])
        except StoreError as error:
            if not isinstance(error.__cause__, _ROWS_FAULT):
                raise
            if len(rows) > 1:
                for each in rows:
                    self._insert(store, [each])
            else:
                self._spoil(rows[0][0], "the database refused the row")

    def _spoil(self, pending: Pending, cause: str) -> None:
        """One row is lost for what it holds."""
        self.lose(cause)
        if pending.done is not None:
            pending.done.set_exception(StoreError(cause))

    def _refuse(self, error: Exception) -> None:
        """The database cannot be used: whoever waits is told, the rest stays queued."""
        self._cause = str(error) if isinstance(error, StoreError) else type(error).__name__
        with self._lock:
            waiting = [each for each in self._queue if each.done is not None]
            self._queue = deque(each for each in self._queue if each.done is None)
            self._bytes -= sum(each.size for each in waiting)
            if not self._queue:
                self._empty.set()
        for each in waiting:
            if each.done is not None and not each.done.cancelled():
                each.done.set_exception(StoreError(self._cause))

    def _lose(self, count: int, cause: str) -> None:
        self.lost += count
        self._untold += count
        self._unkept += count
        telemetry.lost(count)
        self._cause = self._cause or cause

    def _tell(self, *, at_once: bool = False) -> None:
        """Log what goes wrong, once a minute."""
        waiting = len(self._queue)
        if not (self._untold or (waiting and self._cause)):
            self._cause = ""
        elif at_once or time.monotonic() >= self._telling:
            self._telling = time.monotonic() + TELLING_SECONDS
            log.error("records: %d were lost and %d wait (%s)", self._untold, waiting, self._cause)
            self._untold = 0


_ROWS_FAULT = (DataError, IntegrityError, UnicodeError, OverflowError)
"""What a driver raises about a value, as against the database."""


_writers: dict[Any, Writer] = {}


def shared(settings: RecordsSettings) -> Writer:
    """The one writer of this process for a database and its settings. Give it back with `release`."""
    url = settings.url.get_secret_value() if settings.url is not None else None
    key = (url, settings.keys, settings.keep, settings.required)
    writer = _writers.get(key) or _writers.setdefault(key, Writer(settings))
    writer.users += 1
    return writer


def release(writer: Writer) -> None:
    """Write what is queued; the last user of a writer closes it."""
    writer.users -= 1
    if writer.users > 0:
        writer.flush()
    else:
        writer.close()
