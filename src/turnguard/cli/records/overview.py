"""`turnguard records top` and `list`: counts, and the newest records."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import typer

from turnguard.cli.records.asking import CONFIG, AsJson, Config, filtered, opened, shown_time

By = Literal["rule", "category", "stage", "tenant", "action", "policy", "model", "user"]


@filtered
def top(
    wanted: Any,
    by: Annotated[str, typer.Option("--by", help=", ".join(get_args(By)))] = "rule",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Lines of the table.")] = 20,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Count decisions: which rule fires most, how often the moderator fails, how long checks take."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from turnguard.cli import output
    from turnguard.records import query
    from turnguard.records.top import top as counted

    if by not in get_args(By):
        raise output.UsageError(f"--by {by!r}: one of {', '.join(get_args(By))}")
    with opened(config) as store:
        found = counted(store, wanted, by)  # type: ignore[arg-type]  # looked at above
        lost = query.lost(store, wanted.since)
    if as_json:
        output.data({**found, "lost": lost})
        return output.PASSED
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(by, overflow="fold")
    for name in ("count", "share", "failed", "p50", "p95", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in found["groups"][:limit]:
        table.add_row(*_cells(group, "none" if group["name"] is None else output.plain(group["name"])))
    table.add_section()
    table.add_row(*_cells(found["all"], "all decisions"))
    output.show(table)
    if lost:
        output.line(f"{lost:,} records were lost; the log of the application says why")
    return output.PASSED


def _cells(group: dict[str, Any], name: str) -> list[str]:
    times = ["–" if group[p] is None else f"{group[p] * 1000:.1f} ms" for p in ("p50", "p95", "p99")]
    return [name, f"{group['count']:,}", f"{group['share']:.1%}", f"{group['failed']:,}", *times]


@filtered
def listing(
    wanted: Any,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest first.")] = 30,
    event: Annotated[str, typer.Option("--event", help="check, content_seen, approved, ...; or all.")] = "check",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """List records, the newest first."""
    from dataclasses import replace

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli import output
    from turnguard.cli.check import STYLES
    from turnguard.records.query import find

    with opened(config) as store:
        rows = find(store, replace(wanted, event=None if event == "all" else event), limit)
    if as_json:
        output.data([_plain(row) for row in rows])
        return output.PASSED
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", "time", "stage", "action"):
        table.add_column(name, no_wrap=True)
    table.add_column("because of", overflow="fold")
    table.add_column("user", overflow="fold")
    for row in rows:
        because = "the moderator failed" if row.failed else row.category or row.rule or ""
        said = row.action if row.shadow in (None, row.asked) else f"{row.action} ({row.shadow})"
        because = because if row.event == "check" else row.event.replace("_", " ")
        cells = (row.id[:10], shown_time(row.time), row.stage, Text(said, STYLES[row.action]))
        table.add_row(*cells, output.plain(because), output.plain(row.user or ""))
    output.show(table)
    return output.PASSED


def _plain(row: Any) -> dict[str, Any]:
    from turnguard.records.export import as_data

    return as_data(row._asdict())
