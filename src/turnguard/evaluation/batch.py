"""`turnguard batch` on one machine: a record per row, deterministic, in input order."""

from __future__ import annotations

from pathlib import Path

from turnguard.config.document import Config
from turnguard.evaluation.batch_places import Place
from turnguard.evaluation.batch_record import Summary, record, summarise
from turnguard.evaluation.batch_verdicts import write
from turnguard.evaluation.bulk import Progress, Run, pace_of, run
from turnguard.evaluation.ledger import Ledger
from turnguard.evaluation.rows import Row, Rows
from turnguard.evaluation.shaping import settings_digest
from turnguard.guard import Guard

FORMAT = "turnguard batch 2"


async def moderate(
    guard: Guard,
    config: Config,
    rows: Rows,
    out: Path,
    *,
    place: Place | None = None,
    verdicts: Path | None = None,
    concurrency: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Judge every row of `rows` into `out` (JSON lines). Goes on where an interrupted run with the same settings
    stopped. `place` is where the files are that rows name, else the folder of `rows`. `verdicts` is a Parquet file to
    write what the model said to.
    """
    origin = {
        "format": FORMAT,
        "input": rows.fingerprint(),
        "settings": settings_digest(config),
        "evidence": verdicts is not None,
    }

    files = place or Place(rows.base, rows.anywhere)

    async def judged(row: Row) -> bytes:
        return await record(guard, row, files, evidence=verdicts is not None)

    job = Run(lambda: rows, judged, pace_of(guard, concurrency), rows.progress)
    if progress is not None:
        job.progress = progress
    with Ledger(out, origin) as ledger:
        finished = await run(job, ledger)
        summary = summarise(ledger.lines())
        if verdicts is not None:
            write(verdicts, ledger.lines(), config)
    summary.finished = finished
    return summary
