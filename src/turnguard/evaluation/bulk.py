"""The bulk run under `batch` and `eval`: judge every row once, ask failed ones again at the end, survive being
killed.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from turnguard.core.errors import TurnguardError
from turnguard.evaluation.ledger import Ledger, failed
from turnguard.evaluation.ordered import in_order

T = TypeVar("T")

GIVES_UP_AFTER = 1_000
"""Rows failing in a row: the server is gone, and a million more questions would not bring it back."""


class Progress(Protocol):
    """Told after each row. `share` is the part of the input that was read, 0 to 1."""

    def __call__(self, rows: int, share: float, phase: str) -> None: ...


def _silent(rows: int, share: float, phase: str) -> None:
    """Nobody watches."""


class ServerGone(TurnguardError):
    """So many rows failed in a row that going on is pointless. Everything so far is kept."""


@dataclass(slots=True)
class Run(Generic[T]):
    """What is to be done: fresh iterators over the input, and a coroutine that makes a record (one line) of an item.

    `retry` says which failed records are asked again at the end; None asks all.
    """

    items: Callable[[], Iterable[T]]
    record: Callable[[T], Awaitable[bytes]]
    concurrency: int
    share: Callable[[], float] = field(default=lambda: 0.0)
    retry: Callable[[bytes], bool] = failed
    progress: Progress = field(default=_silent)


@dataclass(frozen=True, slots=True)
class Finished:
    """How it went: rows in all, rows that this run judged itself, seconds it took, rows asked again at the end."""

    rows: int
    judged_now: int
    seconds: float
    asked_again: int


async def run(job: Run[T], ledger: Ledger) -> Finished:
    """Do or finish the job. Raises `LedgerError` or `ServerGone`; what is in the ledger stays good in either case."""
    started = time.monotonic()
    already = ledger.done
    in_a_row = 0

    def sink(record: bytes) -> None:
        nonlocal in_a_row
        ledger.append(record)
        job.progress(ledger.done, job.share(), "judging")
        in_a_row = in_a_row + 1 if failed(record) else 0
        if in_a_row >= GIVES_UP_AFTER:
            ledger.flush()
            raise ServerGone(
                f"{in_a_row:,} rows failed one after the other, the last with {_cause(record)!r}; "
                "everything so far is kept, and the same command goes on from there"
            )

    await in_order(_after(job.items(), already), job.record, sink, job.concurrency)
    judged_now = ledger.done - already
    places = array("Q", (p for p, line in enumerate(ledger.lines()) if failed(line) and job.retry(line)))
    if places:
        again = ledger.again(places)
        try:

            def second(record: bytes) -> None:
                again.append(record)
                job.progress(again.done, again.done / len(places), "asking again")

            todo = _at(job.items(), places[again.done :])
            await in_order(todo, job.record, second, job.concurrency)
        finally:
            again.close()
        ledger.merge(places)
    else:
        ledger.tidy()
    ledger.flush()
    return Finished(ledger.done, judged_now, time.monotonic() - started, len(places))


def _after(items: Iterable[T], count: int) -> Iterator[T]:
    iterator = iter(items)
    for skipped in range(count):
        if next(iterator, None) is None:
            raise TurnguardError(f"the output holds {count:,} records but the input only {skipped:,} rows")
    return iterator


def _at(items: Iterable[T], places: array[int]) -> Iterator[T]:
    wanted = iter(places)
    due = next(wanted, None)
    for place, item in enumerate(items):
        if due is None:
            return
        if place == due:
            yield item
            due = next(wanted, None)


def _cause(record: bytes) -> str:
    data = json.loads(record)
    said = data.get("verdict") or data
    return str(said.get("cause") or said.get("failure") or "no cause given")
