"""`turnguard policy`: look at a policy before it decides anything."""

from __future__ import annotations

import typer

from turnguard.cli.policy.diff import diff
from turnguard.cli.policy.lint import lint
from turnguard.cli.policy.schema import schema
from turnguard.cli.policy.show import show

policy = typer.Typer(help="Check a policy, see what it does, or make your editor understand it.", no_args_is_help=True)
policy.command()(lint)
policy.command()(show)
policy.command()(diff)
policy.command()(schema)
