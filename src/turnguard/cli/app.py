"""The list of commands. A command's module imports nothing heavy until the command runs."""

from __future__ import annotations

import typer

from turnguard.cli.batch import batch
from turnguard.cli.bench import bench
from turnguard.cli.calibrate import calibrate
from turnguard.cli.check import check
from turnguard.cli.demo import demo
from turnguard.cli.doctor import doctor
from turnguard.cli.evaluate import evaluate
from turnguard.cli.init import init
from turnguard.cli.policy import policy
from turnguard.cli.records import records
from turnguard.cli.reviews import reviews
from turnguard.cli.sandbox import sandbox
from turnguard.cli.serve import serve

app = typer.Typer(
    name="turnguard",
    help="Guards every step of an agent's turn with a content-safety model that you host yourself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables, and those hold content
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from turnguard._version import __version__
        from turnguard.cli import output

        output.line(f"turnguard {__version__}")
        raise typer.Exit(0)


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(batch)
app.command()(bench)
app.command()(calibrate)
app.command()(check)
app.command()(demo)
app.command()(doctor)
app.command("eval")(evaluate)
app.command()(init)
app.add_typer(policy, name="policy")
app.add_typer(records, name="records")
app.add_typer(reviews, name="reviews")
app.command()(sandbox)
app.command()(serve)
