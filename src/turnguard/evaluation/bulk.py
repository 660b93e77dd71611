"""The run behind `batch`, `eval` and `calibrate`: judge each row, repeat failed ones, resume after a kill."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from turnguard.core.errors import TurnguardError
from turnguard.evaluation.ledger import Ledger, failed
from turnguard.evaluation.ordered import Pace, in_order
from turnguard.evaluation.results import TRANSPORT
from turnguard.guard import Guard

T = TypeVar("T")

GIVES_UP_AFTER = 1_000
"""Failed rows one after another that end the run: the server is gone."""
GIVES_UP_SECONDS = 300.0
"""Seconds without any answer that end the run, as where the server hangs."""


class Progress(Protocol):
    """Called after each row. `share` is the part of the input that was read, 0 to 1."""

    def __call__(self, rows: int, share: float, phase: str) -> None: ...


def _silent(rows: int, share: float, phase: str) -> None:
    """Report nothing."""


LATE = 0.25
"""The share of its deadline that a row may take before the server counts as overloaded."""


def pace_of(guard: Guard, concurrency: int | None) -> Pace:
    """As many rows at once as were asked for, or as the guard lets through; fewer while the server cannot keep up."""
    settings = guard.moderator_settings
    return Pace(concurrency or settings.max_in_flight, LATE * settings.deadline)


class ServerGone(TurnguardError):
    """Too many rows failed one after another to go on. Everything so far is kept."""


@dataclass(slots=True)
class Run(Generic[T]):
    """A bulk job: `items` gives fresh iterators over the input, `record` makes a record (one line) of an item.

    `pace` says how many rows are under way. `retry` says which failed records are asked again at the end.
    """

    items: Callable[[], Iterable[T]]
    record: Callable[[T], Awaitable[bytes]]
    pace: Pace
    share: Callable[[], float] = field(default=lambda: 0.0)
    retry: Callable[[bytes], bool] = failed
    progress: Progress = field(default=_silent)


@dataclass(frozen=True, slots=True)
class Finished:
    """Rows in all, rows judged by this run, its seconds, and rows asked again at the end."""

    rows: int
    judged_now: int
    seconds: float
    asked_again: int


async def run(job: Run[T], ledger: Ledger) -> Finished:
    """Do the job, or finish one that was interrupted.

    Raises `LedgerError` or `ServerGone`; the ledger stays valid either way.
    """
    started = answered = time.monotonic()
    already = ledger.done
    in_a_row = 0

    def sink(record: bytes) -> None:
        nonlocal in_a_row, answered
        ledger.append(record)
        job.progress(ledger.done, job.share(), "judging")
        if not failed(record):
            in_a_row, answered = 0, time.monotonic()
            return
        in_a_row += 1
        if in_a_row >= GIVES_UP_AFTER or (in_a_row > 1 and time.monotonic() - answered > GIVES_UP_SECONDS):
            ledger.flush()
            raise ServerGone(
                f"{in_a_row:,} rows failed one after the other, the last with {_cause(record)!r}; "
                "everything so far is kept, and the same command goes on from there"
            )

    await in_order(_after(job.items(), already), job.record, sink, job.pace, strained)
    judged_now = ledger.done - already
    places = array("Q", (p for p, line in enumerate(ledger.lines()) if failed(line) and job.retry(line)))
    if places:
        again = ledger.again(places)
        try:

            def second(record: bytes) -> None:
                again.append(record)
                job.progress(again.done, again.done / len(places), "asking again")

            todo = _at(job.items(), places[again.done :])
            await in_order(todo, job.record, second, job.pace, strained)
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


def strained(record: bytes) -> bool:
    """Whether the server timed out, refused or was too busy."""
    if not failed(record):
        return False
    data = json.loads(record)
    verdict = data.get("verdict")
    return (verdict.get("failure") if verdict else data.get("why")) in TRANSPORT


def _cause(record: bytes) -> str:
    data = json.loads(record)
    said = data.get("verdict") or data
    return str(said.get("cause") or said.get("failure") or "no cause given")
