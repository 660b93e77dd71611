"""`turnguard policy show`: the effective rule for every stage and category."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from turnguard.core.policy import Policy
    from turnguard.core.rules import Rule, StagePolicy
    from turnguard.core.step import Kind


NAME = 18
"""Columns of a category's name."""


def show(
    file: Path = typer.Argument(Path("turnguard.yaml"), metavar="[FILE]", help="The YAML to show."),
    name: str | None = typer.Option(None, "--policy", metavar="NAME", help="One of the named policies."),
    family: str | None = typer.Option(
        None, "--family", metavar="FAMILY", help="Show instead what a family can do and what its categories become."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print every rule with its place in the YAML, as JSON."),
) -> int:
    """Show which rule decides at each stage for each category, after every default and override."""
    from turnguard.cli import output
    from turnguard.config.files import load

    if family is not None:
        return _show_family(family, as_json=as_json)
    config = load(file)
    if name is not None and name not in config.policies:
        raise output.UsageError(f"--policy: {file} names no policy {name!r}: {', '.join(config.policies) or 'none'}")
    policy = config.policy if name is None else config.policies[name]
    if as_json:
        output.data(effective(policy))
    else:
        output.show(table(policy, narrow=output.console().width < 90))
    return output.PASSED


def _show_family(name: str, *, as_json: bool) -> int:
    from turnguard.cli import output
    from turnguard.cli.policy import family

    can = family.named(name)
    if as_json:
        output.data(family.plain(can))
        return output.PASSED
    output.show(family.table(can))
    for line in family.traits(can):
        output.line(fill(line, min(80, output.console().width), subsequent_indent="  ", break_on_hyphens=False))
    return output.PASSED


def effective(policy: Policy) -> dict[str, Any]:
    """Every effective rule, JSON-ready: by stage its categories, default, unsafe_above and what stands without one."""
    return {
        "policy": policy.digest,
        "stages": {
            stage: {
                "categories": {name: _plain(own.rule(name)) for name in policy.categories},
                "default": _plain(own.default),
                "unsafe_above": own.unsafe_above,
                "on_failure": _plain(own.on_failure),
                "on_uncheckable": {kind: _plain(rule) for kind, rule in own.on_uncheckable.items()},
                "on_reduced": {kind: _plain(rule) for kind, rule in own.on_reduced.items()},
            }
            for stage, own in policy.stages.items()
        },
    }


def _plain(rule: Rule) -> dict[str, Any]:
    data: dict[str, Any] = {"action": rule.action, "rule": rule.path}
    if rule.action == "rewrite":
        data["with"] = rule.way
    if rule.above is not None:
        data["above"] = rule.above
        data["otherwise"] = _plain(rule.otherwise) if rule.otherwise else None
    return data


def table(policy: Policy, *, narrow: bool = False) -> Table:
    """Show categories down and stages across; what follows the stage's default is dim. `narrow`: 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli.check import STYLES

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # names wrap, so that no stage falls off a terminal of 80 columns
    shown.add_column("", min_width=NAME, overflow="fold")
    for stage in policy.stages:
        shown.add_column(stage, no_wrap=True)

    stages: list[StagePolicy] = list(policy.stages.values())

    def row(name: str, rules: list[Rule], *, bold: bool = False) -> None:
        cells = []
        for rule, own in zip(rules, stages, strict=True):
            follows = rule.path == own.default.path and not bold
            cells.append(Text(rule_in_words(rule), "dim" if follows else STYLES[rule.action]))
        shown.add_row(Text(folded(name) if narrow else name, "bold" if bold else ""), *cells)

    for name in policy.categories:
        row(name, [own.rule(name) for own in stages])
    shown.add_section()
    row("any other, or none", [own.default for own in stages], bold=True)
    if any(own.unsafe_above is not None for own in stages):
        limits = ["label" if own.unsafe_above is None else f"P > {own.unsafe_above:g}" for own in stages]
        shown.add_row(Text("unsafe by", "bold"), *limits)
    row("moderator failed", [own.on_failure for own in stages], bold=True)
    for name, rules in _uncheckable(stages):
        row(name, rules, bold=True)
    for kind in stages[0].on_reduced:
        row(f"coarse {kind}", [own.on_reduced[kind] for own in stages], bold=True)
    return shown


def _uncheckable(stages: list[StagePolicy]) -> list[tuple[str, list[Rule]]]:
    """Return a row per set of kinds with the same rules; the one of all `other` kinds comes last, unnamed."""
    alike: dict[tuple[str, ...], list[Kind]] = {}
    rules = {kind: [own.on_uncheckable[kind] for own in stages] for kind in stages[0].on_uncheckable}
    for kind, of_kind in rules.items():
        alike.setdefault(tuple(map(rule_in_words, of_kind)), []).append(kind)
    *named, rest = sorted(alike.values(), key=lambda kinds: ("other" in kinds, len(kinds)))
    rows = [(f"uncheckable {', '.join(kinds)}", rules[kinds[0]]) for kinds in named]
    return [*rows, ("uncheckable", rules[rest[0]])]


def folded(name: str) -> str:
    """Break a name's long words after a slash rather than anywhere."""
    return " ".join(word if len(word) <= NAME else word.replace("/", "/\n") for word in name.split(" "))


def rule_in_words(rule: Rule) -> str:
    """A rule on a few short lines: the way for a rewrite that is not a replacement, else the action."""
    text: str = rule.way if rule.action == "rewrite" and rule.way != "replace" else rule.action
    if rule.above is not None and rule.otherwise is not None:
        text = f">{rule.above!r}\n{text}\nelse\n{rule_in_words(rule.otherwise)}"
    return text
