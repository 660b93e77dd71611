"""The record of a row: what `turnguard batch` writes, whichever engine judged it.

Nothing in a record varies between runs: no times, no ids of decisions, no mark of memory.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from turnguard.core.decision import Outcome
from turnguard.core.step import Stage
from turnguard.core.verdict import merged
from turnguard.evaluation.batch_places import Place, fetch, names_files
from turnguard.evaluation.bulk import Finished
from turnguard.evaluation.examples import BadRow, Example, from_row
from turnguard.evaluation.rows import Row
from turnguard.guard import Guard
from turnguard.records.evidence import Evidence

SHOWN = 5
"""How many sentences about single rows a summary repeats."""


async def record(guard: Guard, row: Row, place: Place, *, evidence: bool = False) -> bytes:
    """Judge a row and give its record, a line of JSON. With `evidence` it holds what it takes to decide again."""
    if place.remote is None or not names_files(row):
        return await _record(guard, row, place.base, anywhere=place.anywhere, evidence=evidence)
    with tempfile.TemporaryDirectory(prefix="turnguard-") as folder:
        row = await asyncio.to_thread(fetch, row, place.remote, Path(folder))
        return await _record(guard, row, Path(folder), anywhere=False, evidence=evidence)


async def _record(guard: Guard, row: Row, base: Path, *, anywhere: bool, evidence: bool) -> bytes:
    try:
        example = example_of(row, base, anywhere=anywhere)
        step = example.step()
    except BadRow as problem:
        return unreadable(row, str(problem))
    decision = await guard.acheck(step, hold=False)
    made = Evidence.of(decision, example.language, guard.policy)
    told = made.dump() if evidence else None
    return line(row.number, example.id, ending(example.stage, example.label, made, decision.outcome, told))


def example_of(row: Row, base: Path, *, anywhere: bool) -> Example:
    """The row as an example. Raises `BadRow`."""
    if row.data is None or row.problem is not None:
        raise BadRow(row.problem or "cannot be read")
    return from_row(row.data, base, row.number, anywhere=anywhere)


def unreadable(row: Row, problem: str) -> bytes:
    """The record of a row that could not even be asked about. It passes nothing: it has no action."""
    name = row.data.get("id") if row.data else None
    told = str(name) if isinstance(name, (str, int, float)) else None
    return line(row.number, told, not_read(f"row {row.number:,}: {problem}"))


class Ending(NamedTuple):
    """A record behind the row's own number and name: what it says, and that as JSON."""

    status: str
    data: Mapping[str, Any]
    rest: bytes


def _encode(value: Any) -> bytes:
    """JSON in ASCII: half a surrogate pair must not stop the run, and some readers break lines at U+2028."""
    try:
        data = to_json(value, inf_nan_mode="constants")
        if data.isascii():
            return data
    except ValueError:
        pass
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _ending(status: str, data: Mapping[str, Any]) -> Ending:
    return Ending(status, data, _encode(data)[1:])


def not_read(error: str) -> Ending:
    """The ending of an unreadable row's record."""
    return _ending("unreadable", {"error": error, "action": None})


def ending(stage: Stage, label: str | None, evidence: Evidence, outcome: Outcome, told: str | None = None) -> Ending:
    """The ending of a judged or failed row's record; `told` is the evidence as text, where the record keeps it."""
    verdict = merged(evidence.judgements)
    data: dict[str, Any] = {
        "stage": stage,
        "action": outcome.action,
        "failed": outcome.failed,
        "verdict": {
            "user": verdict.user,
            "response": verdict.response,
            "categories": verdict.categories,
            "unknown_categories": verdict.unknown_categories,
            "p_unsafe": verdict.p_unsafe,
            "failure": verdict.failure,
            "cause": verdict.cause,
            "model": verdict.model,
        },
        "reasons": [
            {
                "kind": reason.kind,
                "category": reason.category,
                "rule": reason.rule,
                "action": reason.action,
                "cause": reason.cause,
            }
            for reason in outcome.reasons
        ],
        "not_judged": [
            {"kind": entry.kind, "detail": entry.detail, "cause": entry.cause}
            for entry in evidence.coverage.not_judged
            if entry.counts
        ],
    }
    if label is not None:
        data["label"] = label
    if told is not None:
        data["evidence"] = told
    return _ending("failed" if verdict.failure is not None else "judged", data)


def line(number: int, name: str | None, told: Ending) -> bytes:
    """The whole record. It begins as the ledger expects."""
    return b'{"row":%d,"status":"%s","id":%s,%s\n' % (number, told.status.encode(), _encode(name), told.rest)


@dataclass(slots=True)
class Summary:
    """What a finished output holds. `problems` are sentences about the first rows that went wrong."""

    finished: Finished | None = None
    actions: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    uncheckable: int = 0
    labelled: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def count(self, row: int, status: str, record: Mapping[str, Any]) -> None:
        """Count one record."""
        self.statuses[status] += 1
        if status == "unreadable":
            self._tell(record["error"])
            return
        self.actions[record["action"]] += 1
        verdict = record["verdict"]
        self.categories.update(verdict["categories"])
        self.categories.update(verdict["unknown_categories"])
        if status == "failed":
            self._tell(f"row {row:,}: the moderator failed: {verdict['failure']} ({verdict['cause']})")
        if record["not_judged"]:
            self.uncheckable += 1
            first = record["not_judged"][0]
            self._tell(f"row {row:,}: {first['kind']} not judged: {first['cause']}")
        if "label" in record:
            side = "response" if record["stage"] in ("output", "tool_call") else "user"
            self.labelled[f"{record['label']} called {verdict[side] or 'nothing'}"] += 1

    def _tell(self, sentence: str) -> None:
        if len(self.problems) < SHOWN:
            self.problems.append(sentence)

    @property
    def complete(self) -> bool:
        """Whether all of every row was judged."""
        return not (self.statuses["failed"] or self.statuses["unreadable"] or self.uncheckable)


def summarise(lines: Iterable[bytes]) -> Summary:
    """Read an output once and count."""
    summary = Summary()
    for text in lines:
        found = json.loads(text)
        summary.count(found["row"], found["status"], found)
    return summary
