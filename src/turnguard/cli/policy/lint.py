"""`turnguard policy lint`: report mistakes in a policy, and warn of what is legal but probably not meant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from turnguard.config.document import Config


def lint(
    file: Path = typer.Argument(Path("turnguard.yaml"), metavar="[FILE]", help="The YAML to check."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> int:
    """Name every mistake with its line and its remedy. Exit code: 0 it loads (warnings or not), 2 it does not."""
    from turnguard.cli import output
    from turnguard.core.errors import ConfigError

    problems: tuple[str, ...] = ()
    warnings: list[str] = []
    try:
        warnings = list(warned(file))
    except ConfigError as error:
        problems = error.problems
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
    from turnguard.config.files import load
    from turnguard.config.yaml import located, read_yaml
    from turnguard.core.validate import Problem
    from turnguard.media import Media

    config = load(file)
    Media(config.media)  # which reads the addresses that may be fetched, and refuses what is none
    data, lines = read_yaml(file.read_text(encoding="utf-8"), str(file))
    for path, sentence in _advice(config, data):
        yield located(Problem(path, sentence), str(file), lines)


Advice = Iterator[tuple[tuple["str | int", ...], str]]


def _advice(config: Config, data: Mapping[str, Any]) -> Advice:
    yield from _about_moderator(config, data)
    yield from _about_gaps(data)
    for role in config.checks.trusted_roles:
        if role.lower() in ("user", "human", "tool", "function", "assistant", "ai"):
            yield (
                ("checks", "trusted_roles"),
                f"messages of the role {role!r} are never judged; trust only roles that your own application writes",
            )
    if config.audit.path and config.audit.content:
        yield ("audit", "content"), "the audit file will hold what people wrote; keep it as you keep the conversations"
    if config.media.tiles == "never":
        yield ("media", "tiles"), "small print in large screenshots will not be seen; 'auto' judges them in tiles too"


def _about_moderator(config: Config, data: Mapping[str, Any]) -> Advice:
    settings = config.moderator
    for url in settings.base_urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not _inside(parts.hostname or ""):
            yield (
                ("moderator", "base_url"),
                f"everything that is judged travels to {parts.hostname} in the clear; use https",
            )
    for section, name, variable in (("moderator", "api_key", "API_KEY"), ("audit", "key", "AUDIT_KEY")):
        written = (data.get(section) or {}).get(name)
        if isinstance(written, str) and written and "${" not in written:
            yield (section, name), f"a key in a file ends up in version control; write ${{TURNGUARD_{variable}:-}}"
    if settings.attempt_timeout is not None and settings.attempt_timeout >= settings.deadline:
        yield ("moderator", "attempt_timeout"), "the deadline passes first; use less than moderator.deadline"


def _about_gaps(data: Mapping[str, Any]) -> Advice:
    """Yield settings that let unjudged or unsafe content pass."""
    rules = data.get("policy") or {}
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("policy",), rules)]
    places += [(("policy", "stages", stage), own or {}) for stage, own in (rules.get("stages") or {}).items()]
    for at, own in places:
        if own.get("on_failure") in ("allow", "flag"):
            yield (
                (*at, "on_failure"),
                "while the moderator is down, everything goes on unjudged; block or review holds it",
            )
        uncheckable = own.get("on_uncheckable")
        kinds = uncheckable if isinstance(uncheckable, Mapping) else {"": uncheckable}
        for kind, action in kinds.items():
            if action in ("allow", "flag") and kind != "encrypted":  # nobody but the provider can make such content
                what = f"{kind} content" if kind else "content"
                path = (*at, "on_uncheckable", kind) if kind else (*at, "on_uncheckable")
                yield (
                    path,
                    f"{what} that cannot be judged goes on; whoever wants something through makes it uncheckable",
                )
        reduced = own.get("on_reduced")
        if reduced in ("allow", "flag"):
            told = "small print in a picture that is judged coarsely goes on unread; block or review holds it"
            yield (*at, "on_reduced"), told
        default = own.get("default")
        if default == "allow" or (isinstance(default, Mapping) and default.get("action") == "allow"):
            yield (*at, "default"), "unsafe content goes on without a trace; 'flag' lets it go on too, and records it"


def _inside(host: str) -> bool:
    """Return whether the name is of a host on this machine or in a private network."""
    if host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".lan", ".svc")):
        return ":" not in host or _private(host)
    return _private(host)


def _private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
