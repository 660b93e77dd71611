"""`turnguard records`: what was decided, why, and what another policy would have done."""

from __future__ import annotations

import typer

from turnguard.cli.records.explain import why
from turnguard.cli.records.files import export, import_files
from turnguard.cli.records.overview import listing, top
from turnguard.cli.records.prune import prune
from turnguard.cli.records.replay import replay

records = typer.Typer(help="Explain past decisions, count them, and decide them again.", no_args_is_help=True)
records.command()(why)
records.command()(top)
records.command("list")(listing)
records.command()(replay)
records.command()(export)
records.command()(prune)
records.command("import")(import_files)
