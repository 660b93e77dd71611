"""`turnguard records prune`: erase records by age or by user."""

from __future__ import annotations

from typing import Annotated

import typer

from turnguard.cli.records.asking import CONFIG, Config, moment, opened


def prune(
    before: Annotated[str | None, typer.Option("--before", metavar="TIME", help="Such as 90d or 2026-09-01.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this person's.")] = None,
    config: Config = CONFIG,
) -> int:
    """Erase records, and the reviews that belong to them. It cannot be undone."""
    from turnguard.cli import output
    from turnguard.records.retention import prune as erased

    if before is None and user is None:
        raise output.UsageError("say which: --before TIME, --user NAME, or both")
    with opened(config) as store:
        gone = erased(store, before=None if before is None else moment(before), user=user)
    output.line(f"{gone:,} records erased")
    return output.PASSED
