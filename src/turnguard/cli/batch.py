"""`turnguard batch`: moderate a large file or folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from turnguard.cli._bulk import DEADLINE_HELP

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.evaluation.batch_record import Summary

CONFIG = Path("turnguard.yaml")
Engine = Literal["local", "ray"]
Parts = Literal["jsonl", "parquet"]


def batch(
    source: str = typer.Argument(..., metavar="IN", show_default=False, help="JSONL, CSV, TSV, Parquet or a folder."),
    out: str | None = typer.Argument(
        None, metavar="OUT", show_default=False, help="Where the records go: one JSON line a row."
    ),
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The policy and the moderator."),
    concurrency: int | None = typer.Option(
        None, "--concurrency", min=1, metavar="N", help="Rows under way at once; else moderator.max_in_flight."
    ),
    anywhere: bool = typer.Option(False, "--anywhere", help="Rows may name files outside the folder of IN."),
    deadline: str | None = typer.Option(None, "--deadline", metavar="TIME", help=DEADLINE_HELP),
    moderators: str | None = typer.Option(
        None, "--moderators", metavar="URL,URL", help="Servers to ask instead of moderator.base_url."
    ),
    verdicts: str | None = typer.Option(
        None, "--verdicts", metavar="FILE", help="Keep what the model said as Parquet, to decide again without it."
    ),
    redecide: Path | None = typer.Option(
        None, "--redecide", metavar="FILE", help="Decide such verdicts again under --config, into OUT; there is no IN."
    ),
    engine: Engine = typer.Option(
        "local", "--engine", help="ray: workers of a Ray cluster; IN, OUT and --verdicts may be URLs, OUT is a folder."
    ),
    address: str | None = typer.Option(
        None, "--address", metavar="HOST:PORT", help="The Ray cluster, or auto; else a Ray on this machine."
    ),
    workers: int | None = typer.Option(
        None, "--workers", min=1, metavar="N", help="Guards of the Ray engine; else two a core."
    ),
    parts: Parts = typer.Option("jsonl", "--parts", help="What the Ray engine writes."),
) -> int:
    """Moderate every row; the same command again goes on where it stopped.

    Exit: 0 everything was judged, withheld or not; 3 something was not judged; 2 usage.
    """
    from turnguard.cli import output
    from turnguard.cli._bulk import bulk_settings

    if redecide is not None:
        if out is not None:
            raise output.UsageError("--redecide takes OUT alone: there is no IN")
        return _finished(source, partial(_decide_again, redecide, Path(source), config))
    if out is None:
        raise output.UsageError("OUT is missing: turnguard batch IN OUT")
    _apart(source, out)
    settings = bulk_settings(config, deadline, moderators)
    if engine == "local":
        into, said = _local(out, "OUT"), None if verdicts is None else _local(verdicts, "--verdicts")
        judge = partial(_here, settings, source, into, verdicts=said)
    else:
        named = {"verdicts": verdicts, "address": address, "workers": workers, "kind": parts}
        judge = partial(_over_ray, settings, source, out, **named)
    code = _finished(out, partial(judge, concurrency=concurrency, anywhere=anywhere))
    if code and engine == "ray":
        output.line(f"  every row that was not judged is named in {out.rstrip('/')}/not-judged.jsonl")
    return code


def _finished(out: str, run: Callable[..., Summary]) -> int:
    """Run, and tell what came of it."""
    from turnguard.cli import output
    from turnguard.cli._bulk import bar, few_collections
    from turnguard.evaluation.bulk import ServerGone
    from turnguard.evaluation.ledger import LedgerError

    try:
        with few_collections(), bar() as progress:
            summary = run(progress=progress)
    except LedgerError as error:
        raise output.UsageError(str(error)) from None
    except ServerGone as error:
        output.note(str(error))
        return output.FAILED
    for text in told(summary, out):
        output.line(text)
    return output.PASSED if summary.complete else output.FAILED


def _here(settings: Config, source: str, out: Path, *, anywhere: bool, **options: Any) -> Summary:
    import asyncio

    from turnguard.evaluation.batch import moderate
    from turnguard.evaluation.batch_places import opened
    from turnguard.guard import Guard

    async def work() -> Summary:
        with opened(source, anywhere=anywhere) as (rows, place):
            async with Guard.from_config(settings) as guard:
                return await moderate(guard, settings, rows, out, place=place, **options)

    return asyncio.run(work())


def _over_ray(settings: Config, source: str, out: str, **options: Any) -> Summary:
    from turnguard.evaluation.batch_ray import distribute

    return distribute(settings, source, out, **options)


def _decide_again(verdicts: Path, out: Path, config: Path, **options: Any) -> Summary:
    from turnguard.cli._bulk import bulk_settings
    from turnguard.evaluation.batch_verdicts import redecide

    return redecide(verdicts, bulk_settings(config), out, **options)


def _local(where: str, what: str) -> Path:
    from turnguard.cli import output
    from turnguard.evaluation.batch_places import local

    path = local(where)
    if path is None:
        raise output.UsageError(f"{what} is a URL of another place: only --engine ray writes there")
    return path


def _apart(source: str, out: str) -> None:
    """Refuse to judge what this run writes."""
    from turnguard.cli import output
    from turnguard.evaluation.batch_places import local

    path, into = local(source), local(out)
    if path is None or into is None or not path.exists():
        return
    if into.resolve() == path.resolve():
        raise output.UsageError("IN and OUT are the same file")
    if path.is_dir() and into.resolve().is_relative_to(path.resolve()):
        raise output.UsageError("OUT stands inside the folder IN: it would be judged itself")


def told(summary: Summary, out: Path | str) -> list[str]:
    """The summary, in lines."""
    finished = summary.finished
    assert finished is not None  # noqa: S101 - a run that ended has it
    lines = [f"{finished.rows:,} rows in {out}"]
    if finished.judged_now:
        rate = finished.judged_now / max(finished.seconds, 1e-9)
        lines[0] += f" ({finished.judged_now:,} now, {rate:,.0f} a second)"
    order = ("allow", "flag", "rewrite", "review", "block")
    lines.append("  " + ", ".join(f"{name} {summary.actions[name]:,}" for name in order if summary.actions[name]))
    if summary.categories:
        most = ", ".join(f"{name} {count:,}" for name, count in summary.categories.most_common(8))
        lines.append(f"  categories: {most}")
    if summary.labelled:
        lines.append("  labels: " + ", ".join(f"{count:,} {name}" for name, count in sorted(summary.labelled.items())))
    for what, count in (
        ("rows that the moderator failed on", summary.statuses["failed"]),
        ("rows that cannot be read", summary.statuses["unreadable"]),
        ("rows with a part that could not be judged", summary.uncheckable),
    ):
        if count:
            lines.append(f"  {count:,} {what}")
    lines += [f"  {problem}" for problem in summary.problems]
    return [text for text in lines if text.strip()]
