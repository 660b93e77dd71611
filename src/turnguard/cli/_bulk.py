"""Shared by the bulk commands: open the guard, show progress."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.evaluation.bulk import Progress
    from turnguard.guard import Guard

SILENT_SECONDS = 30.0
"""Where nobody watches a terminal: one line this often."""


BULK_DEADLINE = 60.0
"""Seconds that a row may take at least: bulk runs fill the server's queue, and nobody waits for a single row."""
DEADLINE_HELP = "What a row may take, such as 90s; else 60s, or the file's own where that is longer."
FAILS_ABOVE = 0.02
"""The share of rows without a verdict above which `eval` and `calibrate` exit with 3."""


def exit_code(unjudged: Mapping[str, Any]) -> int:
    """Return the exit code of an evaluation, and warn on stderr where rows have no verdict."""
    from turnguard.cli import output
    from turnguard.evaluation.report.write import in_no_rate

    if not unjudged["rows"]:
        return output.PASSED
    output.note(in_no_rate(unjudged))
    if unjudged["share"] <= FAILS_ABOVE:
        return output.PASSED
    output.note(
        f"more than {FAILS_ABOVE:.0%} of the rows have no verdict, so the figures may not be those of the whole set; "
        "the same command asks failed rows again"
    )
    return output.FAILED


def bulk_settings(path: Path, deadline: str | None = None, moderators: str | None = None) -> Config:
    """Return the configuration of a file for bulk work: other endpoints where they are named, and more time for a row.

    `deadline` is a duration such as `60s`. `moderators` are URLs with commas between them.
    """
    from turnguard.cli import output
    from turnguard.config.files import load
    from turnguard.config.settings import ModeratorSettings
    from turnguard.core.validate import read

    if not path.exists():
        raise ConfigError(f"{path}: no such file here; 'turnguard init' writes one, --config FILE names another")
    settings = load(path)
    found = dict(settings.moderator)
    if moderators is not None:
        found |= {"base_url": [url.strip() for url in moderators.split(",") if url.strip()], "checkpoint": None}
    found["deadline"] = deadline if deadline is not None else max(settings.moderator.deadline, BULK_DEADLINE)
    moderator, problems = read(ModeratorSettings, found)
    if moderator is None:
        given = {"deadline": "--deadline", "base_url": "--moderators"}
        told = [f"{given.get(str(problem.path[0]), problem.where)}: {problem.message}" for problem in problems]
        raise output.UsageError("; ".join(told))
    longer = moderator.deadline if deadline is not None else max(settings.media.deadline, BULK_DEADLINE)
    media = settings.media.model_copy(update={"deadline": longer})
    return replace(settings, moderator=moderator, media=media)


def open_guard(path: Path, deadline: str | None = None) -> tuple[Guard, Config]:
    """Return the guard and the configuration of a file, as `bulk_settings` gives it."""
    from turnguard.guard import Guard

    settings = bulk_settings(path, deadline)
    return Guard.from_config(settings), settings


def need_all() -> None:
    """Raise before the run, not after hours of judging, where a package for the report is missing."""
    from turnguard.evaluation.rows import need

    for module in ("numpy", "sklearn", "jinja2", "markupsafe"):
        need(module)


@contextmanager
def few_collections() -> Iterator[None]:
    """Collect garbage less often: bulk runs make few cycles, and collecting took a tenth of their time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def bar() -> Iterator[Progress]:
    """Show rows, rate and time left on stderr. Without a terminal, print a line now and then."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        from turnguard.cli import output

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=output.console(stderr=True)) as shown:
            task = shown.add_task("judging", total=1.0, rows=0, rate=0.0)
            pace = _Pace()

            def update(rows: int, share: float, phase: str) -> None:
                if pace.due(0.1):
                    shown.update(task, completed=share, rows=rows, rate=pace.rate(rows, phase), description=phase)

            yield update
        return
    pace = _Pace()

    def write(rows: int, share: float, phase: str) -> None:
        if pace.due(SILENT_SECONDS):
            rate = pace.rate(rows, phase)
            sys.stderr.write(f"turnguard: {phase}: {rows:,} rows ({share:.0%}), {rate:,.0f}/s\n")

    yield write


class _Pace:
    """Says when to update the display, and the rate since the phase began."""

    def __init__(self) -> None:
        self._shown = time.monotonic()
        self._phase = ""
        self._since = (0, self._shown)

    def due(self, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._shown < seconds:
            return False
        self._shown = now
        return True

    def rate(self, rows: int, phase: str) -> float:
        if phase != self._phase:
            self._phase, self._since = phase, (rows, time.monotonic())
            return 0.0
        first, when = self._since
        return (rows - first) / max(time.monotonic() - when, 1e-9)
