"""`turnguard bench`: how long checks take against your own endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from turnguard.evaluation.bench import Measurement

CONFIG = Path("turnguard.yaml")


def bench(
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The endpoint and its settings."),
    stage: list[str] = typer.Option([], "--stage", "-s", metavar="STAGE", help="Only these stages."),
    concurrency: str = typer.Option("1,4,16,64", "--concurrency", metavar="N,N,...", help="Checks in flight at once."),
    checks: int = typer.Option(100, "--checks", "-n", min=1, max=100_000, help="Checks per row."),
    images: bool = typer.Option(True, "--images/--no-images", help="Measure inputs with a picture too."),
    seed: int | None = typer.Option(
        None, "--seed", help="The same texts again; by default each run sends new ones, past the server's caches."
    ),
    plot: Optional[Path] = typer.Option(None, "--plot", metavar="FILE.svg", help="Write a picture of the table."),  # noqa: UP045
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON, in milliseconds."),
) -> int:
    """Measure mean, median, p95, P99 and rate by stage and concurrency, cold and from memory.

    Exit code: 0 measured, 2 usage or configuration error, 3 checks failed.
    """
    import asyncio
    import time

    from turnguard.cli import output
    from turnguard.core.errors import ConfigError
    from turnguard.core.step import STAGES
    from turnguard.evaluation import bench as benching
    from turnguard.guard import Guard

    if config == CONFIG and not config.exists():
        raise ConfigError(f"{config}: no such file here; 'turnguard init' writes one, --config FILE names another")
    wrong = [name for name in stage if name not in STAGES]
    if wrong:
        raise output.UsageError(f"unknown stage {wrong[0]!r}; one of: {', '.join(STAGES)}")
    rows = benching.cases([name for name in STAGES if name in (stage or STAGES)], _levels(concurrency), images)
    guard = Guard.from_yaml(config)
    chosen = time.time_ns() if seed is None else seed

    async def run() -> list[Measurement]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = output.console(stderr=True)
        async with guard:
            first = await benching.measure(guard, rows[0], 1, seed=chosen - 1)  # opening a connection is not measured
            if first.silent:
                return [first]
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("", total=len(rows) * checks)
                measured = []
                for row in rows:
                    progress.update(task, description=benching.label(row))
                    step = lambda: progress.advance(task)  # noqa: E731
                    measured.append(await benching.measure(guard, row, checks, seed=chosen, done=step))
                    if measured[-1].silent:
                        break
                return measured

    measured = asyncio.run(run())
    if plot is not None:
        plot.write_text(benching.plot(measured), encoding="utf-8")
    if as_json:
        output.data({"rows": [row.to_dict() for row in measured]})
    else:
        output.show(_table(measured))
    if measured[-1].silent:
        output.note("stopped: the moderator answers no check ('turnguard doctor' says why)")
    failed = [row for row in measured if row.failed]
    for cause in dict.fromkeys(cause for row in failed for cause in row.causes):
        output.note(f"checks failed: {output.plain(cause)}")
    return output.FAILED if failed else output.PASSED


def _levels(text: str) -> list[int]:
    from turnguard.cli import output

    try:
        levels = [int(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(1 <= level <= 1024 for level in levels):
        raise output.UsageError("--concurrency takes numbers from 1 to 1024 with commas, such as 1,4,16,64")
    return levels


def _table(measured: Sequence[Measurement]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="Latency of a check, in milliseconds", title_justify="left")
    for name in ("stage", "what"):
        table.add_column(name)
    for name in ("in flight", "mean", "median", "p95", "P99", "checks/s", "failed"):
        table.add_column(name, justify="right")
    for row in measured:
        what = "from memory" if row.case.warm else "picture" if row.case.images else "text"
        figures = [f"{value * 1000:.2f}" if value is not None else "-" for value in row.figures().values()]
        cells = (row.case.stage, what, str(row.case.in_flight), *figures, f"{row.rate:.0f}", str(row.failed or ""))
        table.add_row(*cells, style="red" if row.failed else None)
    return table
