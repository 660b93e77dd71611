"""`turnguard eval`: measure the moderator through the guard that will run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from turnguard.cli._bulk import DEADLINE_HELP

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.evaluation.benchmarks import Benchmark
    from turnguard.evaluation.evaluating import Evaluated
    from turnguard.evaluation.examples import Example
    from turnguard.guard import Guard

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
    compare: tuple[Path, Path] | None = typer.Option(
        None, "--compare", metavar="A B", help="Two configurations, side by side; instead of --config."
    ),
    deadline: str | None = typer.Option(None, "--deadline", metavar="TIME", help=DEADLINE_HELP),
) -> int:
    """Measure accuracy, harmful F1 and false-positive rate, beside the model card's figures; or compare two set-ups.

    Exit: 0; 2 usage; 3 more than 2 % of the rows have no verdict.
    """
    import asyncio

    from turnguard.cli import output
    from turnguard.cli._bulk import exit_code, need_all
    from turnguard.evaluation.bulk import ServerGone
    from turnguard.evaluation.ledger import LedgerError

    if listed:
        output.line(listing())
        return output.PASSED
    if not names:
        raise output.UsageError("name a benchmark (turnguard eval --list), or a file or folder of your own")
    tasks, absent = tasks_of(names, data, fetch=fetch)
    need_all()
    run = (
        _measure(tasks, absent, config, out, concurrency, deadline, content)
        if compare is None
        else _compare(tasks, absent, compare, out, concurrency, deadline, content)
    )
    try:
        lines, unjudged = asyncio.run(run)
    except LedgerError as error:
        raise output.UsageError(str(error)) from None
    except ServerGone as error:
        output.note(str(error))
        return output.FAILED
    for text in lines:
        output.line(text)
    return exit_code(unjudged)


async def _measure(
    tasks: list[Task],
    absent: list[str],
    config: Path,
    out: Path,
    concurrency: int | None,
    deadline: str | None,
    content: bool,
) -> tuple[list[str], Mapping[str, Any]]:
    """Measure every set; gives what to print and the rows without a verdict."""
    from turnguard.cli._bulk import open_guard
    from turnguard.evaluation.evaluating import server_name
    from turnguard.evaluation.report import Report, Section, write

    guard, settings = open_guard(config, deadline)
    async with guard:
        at_once = concurrency or settings.moderator.max_in_flight
        report = Report.of(settings, absent, [await server_name(settings)], at_once)
        for task in tasks:
            done = await _judged(guard, settings, task, out / f"{task.name}.jsonl", concurrency)
            report.add(Section(task.name, task.benchmark, task.examples, done), content=content)
    return write(report, out), report.unjudged


async def _compare(
    tasks: list[Task],
    absent: list[str],
    configs: tuple[Path, Path],
    out: Path,
    concurrency: int | None,
    deadline: str | None,
    content: bool,
) -> tuple[list[str], Mapping[str, Any]]:
    """Judge every set with both, one after the other, and compare."""
    from turnguard.cli import output
    from turnguard.cli._bulk import open_guard
    from turnguard.evaluation.evaluating import server_name
    from turnguard.evaluation.report.comparison import Comparison, write_comparison

    for sentence in absent:
        output.note(f"not run: {sentence}")
    opened = [open_guard(config, deadline) for config in configs]
    async with opened[0][0], opened[1][0]:
        settings = [found for _, found in opened]
        report = Comparison.of(list(map(str, configs)), settings, [await server_name(found) for found in settings])
        for task in tasks:
            first, second = [
                (await _judged(guard, found, task, out / f"{task.name}.{letter}.jsonl", concurrency)).results
                for (guard, found), letter in zip(opened, "ab", strict=True)
            ]
            title = task.benchmark.title if task.benchmark else task.name
            report.add(task.name, title, task.examples, first, second, content=content)
    return write_comparison(report, out), report.unjudged


async def _judged(guard: Guard, settings: Config, task: Task, out: Path, concurrency: int | None) -> Evaluated:
    from turnguard.cli import output
    from turnguard.cli._bulk import bar
    from turnguard.evaluation.evaluating import evaluate as judge

    output.note(f"{task.name}: {task.note}")
    with bar() as progress:
        return await judge(guard, settings, task.examples, out, concurrency=concurrency, progress=progress)


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
