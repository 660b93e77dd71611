"""`turnguard doctor`: check that the server is set up right."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from turnguard.doctor import Examination, Report

CONFIG = Path("turnguard.yaml")


def doctor(
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The set-up to examine."),
    accept_sandbox: bool = typer.Option(
        False, "--accept-sandbox", help="The sandbox instead of the model is a note, not a failure."
    ),
    service: str | None = typer.Option(
        None,
        "--service",
        metavar="URL",
        help="Examine this Turnguard service too; its key is in TURNGUARD_SERVICE_KEY.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> int:
    """Send canaries that prove the set-up. Exit code: 0 all good, 1 something failed, 2 usage or configuration error, 3
    nothing answers."""
    import asyncio

    from turnguard.cli import output
    from turnguard.config.files import load
    from turnguard.core.errors import ConfigError
    from turnguard.doctor import Place, examine

    at = None if service is None else Place(service, os.environ.get("TURNGUARD_SERVICE_KEY", ""))
    absent = config == CONFIG and not config.exists()
    if absent and at is None:
        raise ConfigError(f"{config}: no such file here; 'turnguard init' writes one, --config FILE names another")
    settings = None if absent else load(config)  # a client of the service needs no configuration
    with _waiting():
        report = asyncio.run(examine(settings, accept_sandbox=accept_sandbox, at=at))
    if as_json:
        output.data(report.to_dict())
    else:
        output.show(*(_shown(examination) for examination in report.examinations), _verdict(report))
    return report.exit_code


def _waiting() -> AbstractContextManager[object]:
    """Show a spinner on a terminal."""
    import sys
    from contextlib import nullcontext

    from turnguard.cli import output

    return output.console(stderr=True).status("sending canaries") if sys.stderr.isatty() else nullcontext()


_STYLES = {"ok": "green", "note": "yellow", "failed": "red", "skipped": "dim"}


def _shown(examination: Examination) -> Group:
    """Draw one endpoint: a line per finding, and what to change below a failed one."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli.output import plain

    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for finding in examination.findings:
        style = _STYLES[finding.status]
        shown = finding.status.upper() if finding.status == "failed" else finding.status
        rows.add_row(Text(shown, style), Text(finding.canary, "bold"), Text(plain(finding.what)))
        if finding.change is not None:
            rows.add_row("", Text("change", "dim"), Text(plain(finding.change), "cyan"))
    title = Text(plain(f"{examination.role} {examination.base_url}"), "bold")
    return Group(title, Padding(rows, (0, 0, 1, 2)))


def _verdict(report: Report) -> str:
    counts = dict.fromkeys(_STYLES, 0)
    for examination in report.examinations:
        for finding in examination.findings:
            counts[finding.status] += 1
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{told}; {report.seconds:.1f} s"
