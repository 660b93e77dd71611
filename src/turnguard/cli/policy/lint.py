"""`turnguard policy lint`: report mistakes in a policy, and warn of what is legal but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from turnguard.core.errors import ConfigError


def lint(
    file: Path = typer.Argument(Path("turnguard.yaml"), metavar="[FILE]", help="The YAML to check."),
    strict: bool = typer.Option(False, "--strict", help="Count warnings as mistakes."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> int:
    """Name every mistake with its line and its remedy. Exit code: 0 it loads (warnings or not), 2 it does not."""
    from turnguard.cli import output

    problems: tuple[str, ...] = ()
    warnings: list[str] = []
    try:
        warnings = list(warned(file))
    except ConfigError as error:
        problems = error.problems
    if strict:
        problems, warnings = (*problems, *warnings), []
    if as_json:
        output.data({"file": str(file), "ok": not problems, "problems": list(problems), "warnings": warnings})
        return output.USAGE if problems else output.PASSED
    for problem in problems:
        output.line(f"error    {output.plain(problem)}")
    for warning in warnings:
        output.line(f"warning  {output.plain(warning)}")
    if problems:
        output.line(f"{len(problems)} mistake{'s' * (len(problems) != 1)}: {file} cannot be used")
        return output.USAGE
    output.line(f"{file} is sound" + (f", {len(warnings)} warning{'s' * (len(warnings) != 1)}" if warnings else ""))
    return output.PASSED


def warned(file: Path) -> Iterator[str]:
    """Yield warnings, with lines, of what is legal but probably not meant. Raises `ConfigError` for mistakes."""
    from turnguard.cli.policy.advice import advice
    from turnguard.config.files import load
    from turnguard.config.yaml import read_yaml
    from turnguard.media import Media
    from turnguard.moderators import build
    from turnguard.records.audit_file import refused

    config = load(file)
    try:
        Media(config.media)  # which reads the addresses that may be fetched, and refuses what is none
        if config.moderator.base_urls:  # without any, a guard takes a client of the application's own
            build.moderator(config.moderator, None, config.folder, config.memory)
        if (problem := refused(config.audit)) is not None:
            raise ConfigError(problem)
    except ConfigError as error:
        raise ConfigError(*map(config.located, error.problems)) from None
    data, _ = read_yaml(file.read_text(encoding="utf-8"), str(file))
    yield from advice(config, data)
