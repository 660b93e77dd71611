"""`turnguard batch` on one machine: a record per row, deterministic, in input order."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from turnguard.config.document import Config
from turnguard.evaluation.batch_record import Summary, record, summarise
from turnguard.evaluation.bulk import Progress, Run, run
from turnguard.evaluation.ledger import Ledger
from turnguard.evaluation.rows import Row, Rows
from turnguard.guard import Guard

FORMAT = "turnguard batch 2"
PLACE_AND_PACE = frozenset(
    {
        "api_key",
        "attempt_timeout",
        "base_url",
        "deadline",
        "fallback",
        "headers",
        "max_in_flight",
        "max_waiting",
        "proxy",
        "tls",
    }
)
"""Settings of a moderator that say where it is and how fast it may be asked. All others shape a verdict."""


def settings_digest(config: Config) -> str:
    """Over what shapes a record: model, family, limits, media and policy; not where the server is, nor how long it
    may take.
    """
    return hashlib.sha256(json.dumps({**shaping(config), "policy": config.policy.digest}).encode()).hexdigest()


def shaping(config: Config) -> dict[str, Any]:
    """What shapes a verdict."""
    fallback = config.moderator.fallback
    return {
        "moderator": config.moderator.model_dump(mode="json", exclude={**_excluded(), "second_look": _excluded()}),
        "fallback": fallback.model_dump(mode="json", exclude=_excluded()) if fallback else None,
        "media": config.media.model_dump(mode="json", exclude={"deadline"}),
    }


def _excluded() -> dict[str, Any]:
    return dict.fromkeys(PLACE_AND_PACE, True)


async def moderate(
    guard: Guard,
    config: Config,
    rows: Rows,
    out: Path,
    *,
    verdicts: Path | None = None,
    concurrency: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Judge every row of `rows` into `out` (JSON lines). Goes on where an interrupted run with the same settings
    stopped. `verdicts` is a Parquet file to write what the model said to.
    """
    origin = {
        "format": FORMAT,
        "input": rows.fingerprint(),
        "settings": settings_digest(config),
        "evidence": verdicts is not None,
    }

    async def judged(row: Row) -> bytes:
        return await record(guard, row, rows, evidence=verdicts is not None)

    job = Run(lambda: rows, judged, concurrency or guard.moderator_settings.max_in_flight, rows.progress)
    if progress is not None:
        job.progress = progress
    with Ledger(out, origin) as ledger:
        finished = await run(job, ledger)
        summary = summarise(ledger.lines())
        if verdicts is not None:
            from turnguard.evaluation.batch_verdicts import write

            write(verdicts, ledger.lines(), config)
    summary.finished = finished
    return summary
