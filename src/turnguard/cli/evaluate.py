"""`turnguard eval`: measure the moderator through the guard that will run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from turnguard.evaluation.benchmarks import Benchmark
    from turnguard.evaluation.examples import Example

CONFIG = Path("turnguard.yaml")
OUT = Path("turnguard-eval")


def evaluate(
    names: list[str] = typer.Argument(
        None, metavar="BENCHMARK...", help="Names (see --list), card-harmful, card-safe, or files and folders of yours."
    ),
    data: Path = typer.Option(Path(), "--data", "-d", metavar="DIR", help="Where the official files are."),
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The policy and the moderator."),
    out: Path = typer.Option(OUT, "--out", "-o", metavar="DIR", help="Where the report and the results go."),
    fetch: bool = typer.Option(False, "--fetch", help="Fetch from the official source through the datasets library."),
    listed: bool = typer.Option(False, "--list", help="List the benchmarks, their files, licences and sizes."),
    content: bool = typer.Option(True, help="Show mistaken rows in the report, pictures blurred."),
    concurrency: int | None = typer.Option(
        None, "--concurrency", min=1, metavar="N", help="Rows under way at once; else moderator.max_in_flight."
    ),
) -> int:
    """Measure accuracy, harmful F1 and false-positive rate, beside the model card's figures.

    Exit: 0; 2 usage; 3 more than 2 % of the rows have no verdict.
    """
    import asyncio

    from turnguard.cli import output
    from turnguard.cli._bulk import bar, exit_code, need_all, open_guard
    from turnguard.evaluation.bulk import ServerGone
    from turnguard.evaluation.evaluating import evaluate as judge
    from turnguard.evaluation.evaluating import server_name
    from turnguard.evaluation.ledger import LedgerError
    from turnguard.evaluation.report import Report, Section, write

    if listed:
        output.line(listing())
        return output.PASSED
    if not names:
        raise output.UsageError("name a benchmark (turnguard eval --list), or a file or folder of your own")
    tasks, absent = tasks_of(names, data, fetch=fetch)
    need_all()
    guard, settings = open_guard(config)

    async def work() -> Report:
        async with guard:
            at_once = concurrency or settings.moderator.max_in_flight
            report = Report.of(settings, absent, [await server_name(settings.moderator)], at_once)
            for task in tasks:
                output.note(f"{task.name}: {task.note}")
                with bar() as progress:
                    done = await judge(
                        guard,
                        settings,
                        task.examples,
                        out / f"{task.name}.jsonl",
                        concurrency=concurrency,
                        progress=progress,
                    )
                report.add(Section(task.name, task.benchmark, task.examples, done), content=content)
            return report

    try:
        report = asyncio.run(work())
    except LedgerError as error:
        raise output.UsageError(str(error)) from None
    except ServerGone as error:
        output.note(str(error))
        return output.FAILED
    for text in write(report, out):
        output.line(text)
    return exit_code(report.unjudged)


@dataclass(frozen=True, slots=True)
class Task:
    """One set to judge."""

    name: str
    examples: Callable[[], Iterable[Example]]
    note: str
    benchmark: Benchmark | None = None


def tasks_of(names: list[str], data: Path, *, fetch: bool) -> tuple[list[Task], list[str]]:
    """Return the sets that the names stand for, and a sentence for each benchmark of a table whose files are missing.

    The name of a benchmark wins over a folder of that name: benchmark files lie in DIR/NAME. `./NAME` is the folder.
    """
    from turnguard.core.errors import ConfigError
    from turnguard.evaluation.benchmarks import BENCHMARKS, find
    from turnguard.evaluation.card import TABLES

    tasks: list[Task] = []
    absent: list[str] = []
    for name in names:
        if name in TABLES:
            for member in TABLES[name]:
                try:
                    tasks.append(_benchmark(find(member), data, fetch=fetch))
                except ConfigError as error:
                    absent.append(f"{member}: {error}")
        elif name.lower() not in BENCHMARKS and ("/" in name or "." in name or Path(name).exists()):
            tasks.append(_own(Path(name)))
        else:
            tasks.append(_benchmark(find(name), data, fetch=fetch))
    if not tasks:
        raise ConfigError(*absent)
    return tasks, absent


def _own(path: Path) -> Task:
    from turnguard.evaluation.evaluating import labelled
    from turnguard.evaluation.rows import open_rows

    rows = open_rows(path)
    return Task(path.stem or path.resolve().name, lambda: labelled(rows), "your own data")


def _benchmark(benchmark: Benchmark, data: Path, *, fetch: bool) -> Task:
    from turnguard.core.errors import ConfigError
    from turnguard.evaluation.benchmarks.registry import folder_of
    from turnguard.evaluation.fetching import fetched

    note = f"{benchmark.title}, licence: {benchmark.licence}; {benchmark.home}"
    if fetch:
        return Task(benchmark.name, fetched(benchmark), note, benchmark)
    folder = folder_of(benchmark, data)
    if next(iter(benchmark.load(folder)), None) is None:  # the files are there and begin as they should
        raise ConfigError(f"{folder}: the files of {benchmark.name} hold no rows")
    return Task(benchmark.name, lambda: benchmark.load(folder), note, benchmark)


def listing() -> str:
    """The benchmarks, for a person."""
    from turnguard.evaluation.benchmarks import BENCHMARKS
    from turnguard.evaluation.card import TABLES

    lines = []
    for benchmark in BENCHMARKS.values():
        lines.append(f"{benchmark.name:16}{benchmark.title}, {benchmark.size or 'size not stated'} rows")
        lines.append(f"{'':16}files: {benchmark.files}")
        lines.append(f"{'':16}from {benchmark.home}; licence: {benchmark.licence}")
        lines.append(f"{'':16}truth: {benchmark.rule}")
        if benchmark.gated:
            lines.append(f"{'':16}gated: {benchmark.gated}")
        if benchmark.source:
            lines.append(f"{'':16}--fetch: {benchmark.source.repository}, split {benchmark.source.split}")
    lines += [f"{name:16}{', '.join(members)}" for name, members in TABLES.items()]
    return "\n".join(lines)
