"""`turnguard calibrate`: from labelled rows to a calibrated P(unsafe) and thresholds for a stated goal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from turnguard.cli._bulk import DEADLINE_HELP

if TYPE_CHECKING:
    from turnguard.evaluation.evaluating import Evaluated
    from turnguard.evaluation.thresholds import Goal

CONFIG = Path("turnguard.yaml")
OUT = Path("turnguard-calibration")


def calibrate(
    source: Path = typer.Argument(
        None, metavar="[DATA]", show_default=False, help="Labelled rows: JSONL, CSV, folder."
    ),
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The policy and the moderator."),
    out: Path = typer.Option(OUT, "--out", "-o", metavar="DIR", help="Where the curves and the report go."),
    recall: list[str] = typer.Option([], "--recall", metavar="STAGE=SHARE", help="Catch at least this share."),
    false_positives: list[str] = typer.Option(
        [], "--false-positives", metavar="STAGE=SHARE", help="Withhold at most this share of safe rows."
    ),
    precision: list[str] = typer.Option(
        [], "--precision", metavar="CATEGORY=SHARE", help="Be right at least so often in this category."
    ),
    from_reviews: str | None = typer.Option(
        None, "--from-reviews", metavar="NAME", help="Instead of DATA: what people answered; NAME reads it."
    ),
    concurrency: int | None = typer.Option(
        None, "--concurrency", min=1, metavar="N", help="Rows under way at once; else moderator.max_in_flight."
    ),
    deadline: str | None = typer.Option(None, "--deadline", metavar="TIME", help=DEADLINE_HELP),
) -> int:
    """Fit curves and find thresholds for the goals; where a goal is out of reach, report what can be reached.

    Exit: 0; 2 usage, too few rows, or a goal out of reach; 3 more than 2 % of the rows have no verdict.
    """
    import asyncio

    from turnguard.cli import output
    from turnguard.cli._bulk import bar, exit_code, need_all, open_guard
    from turnguard.evaluation.bulk import ServerGone
    from turnguard.evaluation.calibrating import calibrate as fit
    from turnguard.evaluation.evaluating import evaluate, labelled, server_name
    from turnguard.evaluation.ledger import LedgerError
    from turnguard.evaluation.measuring import unjudged
    from turnguard.evaluation.report.calibration import write_calibration
    from turnguard.evaluation.rows import open_rows
    from turnguard.evaluation.thresholds import Refused

    goals = goals_of(recall, false_positives, precision)
    need_all()
    if (source is None) == (from_reviews is None):
        raise output.UsageError("name the labelled rows, or take what people answered: --from-reviews NAME")
    if from_reviews is not None:
        from turnguard.cli.reviews import export

        out.mkdir(parents=True, exist_ok=True)
        source = out / "reviews.jsonl"
        export(source, from_reviews, config)
    rows = open_rows(source)
    guard, settings = open_guard(config, deadline)

    async def work() -> tuple[Evaluated, list[str]]:
        async with guard:
            answered = [await server_name(settings)]
            with bar() as progress:
                found = await evaluate(
                    guard,
                    settings,
                    lambda: labelled(rows),
                    out / "results.jsonl",
                    concurrency=concurrency,
                    progress=progress,
                )
            return found, answered

    try:
        judged, answered = asyncio.run(work())
        moderator = settings.moderator
        found = fit(judged.results, goals, family=moderator.family, model=answered[0])
        for text in write_calibration(found, judged.results, settings, answered, source.name, out):
            output.line(text)
    except (LedgerError, Refused) as error:
        raise output.UsageError(str(error)) from None
    except ServerGone as error:
        output.note(str(error))
        return output.FAILED
    code = exit_code(unjudged(judged.results))
    for missed in found.unreached:
        output.note(f"{missed['why']}; the report shows what can be reached")
    return code or (output.USAGE if found.unreached else output.PASSED)


def goals_of(recall: list[str], false_positives: list[str], precision: list[str]) -> list[Goal]:
    """Parse the goals."""
    from turnguard.cli import output
    from turnguard.evaluation.thresholds import Goal

    try:
        return [
            *(Goal.parse("recall", text) for text in recall),
            *(Goal.parse("false_positives", text) for text in false_positives),
            *(Goal.parse("precision", text) for text in precision),
        ]
    except ValueError as error:
        raise output.UsageError(str(error)) from None
