"""`turnguard batch`: a record per row, deterministic, in input order.

Nothing in a record varies between runs: no times, no ids of decisions, no mark of memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnguard.config.document import Config
from turnguard.core.decision import Decision
from turnguard.evaluation.bulk import Finished, Progress, Run, run
from turnguard.evaluation.examples import BadRow, Example, from_row
from turnguard.evaluation.ledger import Ledger
from turnguard.evaluation.rows import Row, Rows
from turnguard.guard import Guard

FORMAT = "turnguard batch 1"
SHOWN = 5
"""How many sentences about single rows a summary repeats."""


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

    @property
    def complete(self) -> bool:
        """Whether all of every row was judged."""
        return not (self.statuses["failed"] or self.statuses["unreadable"] or self.uncheckable)


def settings_digest(config: Config) -> str:
    """Over what shapes a record: model, family, limits, media and policy; not where the server is, nor how long it
    may take.
    """
    moderator = config.moderator.model_dump(
        mode="json", include={"model", "family", "categories", "max_input_tokens", "max_windows"}
    )
    fallback = config.moderator.fallback
    shaping = {
        "moderator": moderator,
        "fallback": fallback.model_dump(mode="json", exclude={"api_key", "base_url"}) if fallback else None,
        "media": config.media.model_dump(mode="json", exclude={"deadline"}),
        "policy": config.policy.digest,
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


async def moderate(
    guard: Guard,
    config: Config,
    rows: Rows,
    out: Path,
    *,
    concurrency: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Judge every row of `rows` into `out` (JSON lines). Goes on where an interrupted run with the same settings
    stopped.
    """
    origin = {"format": FORMAT, "input": rows.fingerprint(), "settings": settings_digest(config)}

    async def record(row: Row) -> bytes:
        try:
            example = example_of(row, rows)
            step = example.step()
        except BadRow as problem:
            return unreadable(row, str(problem))
        decision = await guard.acheck(step, hold=False)
        return line(row.number, example, decision)

    job = Run(lambda: rows, record, concurrency or guard.moderator_settings.max_in_flight, rows.progress)
    if progress is not None:
        job.progress = progress
    with Ledger(out, origin) as ledger:
        finished = await run(job, ledger)
        summary = summarise(ledger.lines())
    summary.finished = finished
    return summary


def example_of(row: Row, rows: Rows) -> Example:
    """The row as an example. Raises `BadRow`."""
    if row.data is None or row.problem is not None:
        raise BadRow(row.problem or "cannot be read")
    return from_row(row.data, rows.base, row.number, anywhere=rows.anywhere)


def unreadable(row: Row, problem: str) -> bytes:
    """The record of a row that could not even be asked about. It passes nothing: it has no action."""
    name = row.data.get("id") if row.data else None
    data = {
        "row": row.number,
        "status": "unreadable",
        "id": str(name) if isinstance(name, (str, int, float)) else None,
        "error": f"row {row.number:,}: {problem}",
        "action": None,
    }
    return _encoded(data)


def line(number: int, example: Example, decision: Decision) -> bytes:
    """The record of a judged (or failed) row."""
    verdict = decision.verdict
    data: dict[str, Any] = {
        "row": number,
        "status": "failed" if verdict.failure is not None else "judged",
        "id": example.id,
        "stage": example.stage,
        "action": decision.action,
        "failed": decision.failed,
        "verdict": {
            "user": verdict.user,
            "response": verdict.response,
            "categories": list(verdict.categories),
            "unknown_categories": list(verdict.unknown_categories),
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
            for reason in decision.reasons
        ],
        "not_judged": [
            {"kind": entry.kind, "detail": entry.detail, "cause": entry.cause}
            for entry in decision.coverage.not_judged
            if entry.counts
        ],
    }
    if example.label is not None:
        data["label"] = example.label
    return _encoded(data)


def _encoded(data: Mapping[str, Any]) -> bytes:
    # ASCII only: an id with half a surrogate pair must not stop the run
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def summarise(lines: Any) -> Summary:
    """Read an output once and count."""
    summary = Summary()
    for text in lines:
        record = json.loads(text)
        summary.statuses[record["status"]] += 1
        if record["status"] == "unreadable":
            _tell(summary, record["error"])
            continue
        summary.actions[record["action"]] += 1
        verdict = record["verdict"]
        summary.categories.update(verdict["categories"] + verdict["unknown_categories"])
        if record["status"] == "failed":
            _tell(summary, f"row {record['row']:,}: the moderator failed: {verdict['failure']} ({verdict['cause']})")
        if record["not_judged"]:
            summary.uncheckable += 1
            first = record["not_judged"][0]
            _tell(summary, f"row {record['row']:,}: {first['kind']} not judged: {first['cause']}")
        if "label" in record:
            side = "response" if record["stage"] in ("output", "tool_call") else "user"
            summary.labelled[f"{record['label']} called {verdict[side] or 'nothing'}"] += 1
    return summary


def _tell(summary: Summary, sentence: str) -> None:
    if len(summary.problems) < SHOWN:
        summary.problems.append(sentence)
