"""`turnguard batch --engine ray`: the same rows and the same records, judged by workers of a Ray cluster.

One process reads the rows and writes the parts; actors that hold a guard each judge them in between. A part is written
once, when all of its rows have a record: a worker or node that dies loses nothing, and nothing stands twice. The same
command again asks only for parts that are missing and for rows that failed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Coverage, Judgement, Verdict
from turnguard.evaluation.batch_parts import Parts
from turnguard.evaluation.batch_places import Place, opened
from turnguard.evaluation.batch_record import Summary, ending, example_of, line, record, unreadable
from turnguard.evaluation.bulk import GIVES_UP_AFTER, Finished, Progress, ServerGone, pace_of, strained
from turnguard.evaluation.examples import BadRow
from turnguard.evaluation.ledger import failed
from turnguard.evaluation.ordered import in_order
from turnguard.evaluation.results import side_of
from turnguard.evaluation.rows import Row, Rows, need
from turnguard.guard import Guard
from turnguard.records.evidence import Evidence

PART_ROWS = 500
PART_BYTES = 16_000_000
"""A part holds this many rows, or fewer where they hold pictures."""
AHEAD = 2
"""Parts that a worker has at hand, so that it goes on with the next while the last rows of one are under way."""
ENDS_AFTER = 5
"""Times that a part is given to another worker after one died over it; then its rows count as failed. Also the number
of workers in a row that may die as they start."""
LISTENS_WITHIN = 10.0
"""Seconds that a connection to `--address` may take."""
CPUS = 0.5
"""Cores that Ray sets aside for a worker: it waits for the moderator most of the time."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know."""

    config: Config
    place: Place
    concurrency: int
    evidence: bool


class _Worker:
    """One guard, in a process of its own somewhere."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._guard = Guard.from_config(job.config)
        self._pace = pace_of(self._guard, job.concurrency)

    async def judge(self, rows: list[Row], before: list[bytes] | None) -> list[bytes]:
        """The records of a part. `before` are those of an earlier run: only the failed ones are asked for again."""
        records = before if before is not None else await self._ask(rows)
        again = [place for place, text in enumerate(records) if failed(text)]
        for place, text in zip(again, await self._ask([rows[place] for place in again]), strict=True):
            records[place] = text
        return records

    async def answer(self) -> None:
        """Say that this worker runs."""

    async def close(self) -> None:
        """Let go of connections."""
        await self._guard.aclose()

    async def _ask(self, rows: list[Row]) -> list[bytes]:
        made: list[bytes] = []

        async def work(row: Row) -> bytes:
            return await record(self._guard, row, self._job.place, evidence=self._job.evidence)

        await in_order(rows, work, made.append, self._pace, strained)
        return made


def distribute(
    config: Config,
    source: str,
    out: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    verdicts: str | None = None,
    kind: str = "jsonl",
    concurrency: int | None = None,
    anywhere: bool = False,
    part_rows: int = PART_ROWS,
    progress: Progress | None = None,
) -> Summary:
    """Judge every row of `source` into parts below `out`; both are paths or fsspec URLs.

    `address` is that of a cluster; None starts a Ray on this machine. `workers` is the number of guards (one for every
    half a core by default), which share `concurrency` rows under way. Raises `ConfigError`, `LedgerError` and
    `ServerGone`; the parts stay valid.
    """
    started = time.monotonic()
    with opened(source, anywhere=anywhere) as (rows, place), _cluster(address) as ray:
        parts = Parts(out, rows, config, kind=kind, verdicts=verdicts, part_rows=part_rows)
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1) / CPUS))
        at_once = concurrency or config.moderator.max_in_flight
        job = Job(config, place, max(1, -(-at_once // count)), verdicts is not None)
        summary, judged = _run(ray, _Workers(ray, job, count), rows, parts, job, part_rows, progress)
    summary.finished = Finished(sum(summary.statuses.values()), judged, time.monotonic() - started, 0)
    return summary


@dataclass(slots=True)
class _Part:
    """Rows that are judged and written together. `before` are their records of an earlier run."""

    number: int
    rows: list[Row]
    before: list[bytes] | None
    deaths: int = 0


def _run(
    ray: Any, workers: _Workers, rows: Rows, parts: Parts, job: Job, part_rows: int, progress: Progress | None
) -> tuple[Summary, int]:
    """Give parts to workers as they have room, and write each when it comes back."""
    summary = Summary()
    judged = in_a_row = 0

    def taken(records: list[bytes]) -> list[dict[str, Any]]:
        parsed = [json.loads(text) for text in records]
        for found in parsed:
            summary.count(found["row"], found["status"], found)
        parts.note(parsed)
        return parsed

    def missing() -> Iterator[_Part]:
        for number, chunk in enumerate(_chunks(rows, part_rows)):
            before = parts.read(number, chunk)
            if before is None or any(map(failed, before)):
                yield _Part(number, chunk, before)
            else:
                taken(before)

    for part, records in _judged(ray, workers, missing(), job):
        parts.write(part.number, records, taken(records))
        judged += len(records)
        in_a_row = in_a_row + len(records) if all(map(failed, records)) else 0
        if in_a_row >= GIVES_UP_AFTER:
            raise ServerGone(
                f"{in_a_row:,} rows failed one after the other; everything so far is kept, and the same command goes "
                "on from there"
            )
        if progress is not None:
            progress(sum(summary.statuses.values()), rows.progress(), "judging")
    parts.finish()
    return summary, judged


def _judged(ray: Any, workers: _Workers, todo: Iterator[_Part], job: Job) -> Iterator[tuple[_Part, list[bytes]]]:
    """Each part with its records, as workers finish them. A part whose worker is gone goes to another."""
    again: deque[_Part] = deque()
    under_way: dict[Any, tuple[_Part, Any]] = {}
    while True:
        while workers.room and (part := again.popleft() if again else next(todo, None)) is not None:
            actor = workers.room.pop(0)
            under_way[actor.judge.remote(part.rows, part.before)] = part, actor
        if workers.room and not under_way:
            break
        (ready, *_), _ = ray.wait([*under_way, *workers.starting], num_returns=1)
        if ready in workers.starting:
            workers.answered(ready)
            continue
        part, actor = under_way.pop(ready)
        try:
            records = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            workers.gone(actor)
            part.deaths += 1
            if part.deaths <= ENDS_AFTER:
                again.append(part)
                continue
            records = [_died(row, job, type(error).__name__) for row in part.rows]
        else:
            workers.room.append(actor)
        yield part, records
    workers.close()


class _Workers:
    """The workers of a run. Only one that has answered gets parts: one that has no core yet may never start.

    A worker that is gone is replaced by a new one, by us: Ray's own restarts say so on the terminal as long as there
    is no core for it, and Ray spends its retries before it knows that a machine is gone.
    """

    def __init__(self, ray: Any, job: Job, count: int) -> None:
        self._ray = ray
        self._job = job
        self._actor = ray.remote(num_cpus=CPUS)(_Worker)
        self._actors: set[Any] = set()
        self._lost = 0
        self.room: list[Any] = []
        self.starting: dict[Any, Any] = {}
        for _ in range(count):
            self._start()

    def answered(self, answer: Any) -> None:
        """Give a worker parts from now on. Raises `ServerGone` where workers die again and again as they start."""
        actor = self.starting.pop(answer)
        try:
            self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._lost += 1
            if self._lost > ENDS_AFTER:
                raise ServerGone(f"workers die as they start ({self._lost} in a row): {error}") from None
            self.gone(actor)
        else:
            self._lost = 0
            self.room += [actor] * AHEAD

    def gone(self, actor: Any) -> None:
        """Replace a worker that did not give back what it was given."""
        if actor in self._actors:
            self._actors.remove(actor)
            self.room = [other for other in self.room if other != actor]
            self._ray.kill(actor)
            self._start()

    def close(self) -> None:
        """Let each worker finish what it holds: records that wait to be written, and connections."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get([actor.close.remote() for actor in set(self.room)])

    def _start(self) -> None:
        actor = self._actor.remote(self._job)
        self._actors.add(actor)
        self.starting[actor.answer.remote()] = actor


def _chunks(rows: Rows, part_rows: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    held = 0
    for row in rows:
        chunk.append(row)
        held += _weight(row.data)
        if len(chunk) >= part_rows or held >= PART_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _weight(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    if isinstance(value, list):
        return sum(map(_weight, value))
    return len(value) if isinstance(value, (str, bytes)) else 8


def _died(row: Row, job: Job, error: str) -> bytes:
    """The record of a row over whose part a worker died again and again: the next run asks for it once more."""
    try:
        example = example_of(row, job.place.base, anywhere=job.place.anywhere)
    except BadRow as problem:
        return unreadable(row, str(problem))
    verdict = Verdict(failure="unavailable", cause=f"a worker died over this part {ENDS_AFTER + 1} times ({error})")
    made = Evidence((Judgement(verdict, side_of(example.stage), (0,)),), Coverage(), example.language)
    outcome = made.decide(job.config.policy, example.stage)
    return line(row.number, example.id, ending(example.stage, example.label, made, outcome))


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray: the one that this process already uses, the cluster at `address`, or one on this machine for this run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers that it was started
    ray = need("ray")
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        quiet |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        quiet["address"] = address
    try:
        _listens(address)
        ray.init(**quiet)
    except (OSError, ValueError, RuntimeError) as error:
        where = (
            "a Ray of this machine does not start" if address is None else f"--address {address}: no Ray answers there"
        )
        raise ConfigError(
            f"{where} ({type(error).__name__}); 'ray start --head' starts one, and clients of a cluster with token "
            "authentication need its RAY_AUTH_TOKEN"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _listens(address: str | None) -> None:
    """Raise `OSError` where nothing listens. Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), LISTENS_WITHIN).close()
