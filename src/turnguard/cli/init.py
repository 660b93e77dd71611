"""`turnguard init`: write a commented starter policy."""

from __future__ import annotations

from pathlib import Path

import typer

NAME = "turnguard.yaml"


def init(
    path: Path = typer.Argument(
        Path(NAME), metavar="[PATH]", help="The file to write, or a folder for turnguard.yaml."
    ),
    style: str = typer.Option("balanced", "--style", metavar="STYLE", help="strict, balanced, observe-only, or full."),
) -> int:
    """Write a commented starter policy. Never overwrites a file."""
    from turnguard.cli import output
    from turnguard.config.starters import STYLES, starter

    wanted = style.strip().lower().replace("_", "-")
    if wanted not in STYLES:
        raise output.UsageError(f"--style: unknown style {style!r}. One of: {', '.join(STYLES)}")
    file = path / NAME if path.is_dir() else path
    try:
        with file.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(starter(wanted))
    except FileExistsError:
        raise output.UsageError(f"{file} exists and was left as it is; give another PATH, or remove it first") from None
    output.line(f"wrote {file} ({wanted}: {STYLES[wanted]})")
    output.line(f"next: turnguard policy show {file}")
    return output.PASSED
