"""`turnguard policy diff`: what two policies decide differently, as a matrix of stage and category."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from turnguard.cli.policy.show import NAME, folded, rule_in_words

if TYPE_CHECKING:
    from rich.table import Table

    from turnguard.core.policy import Policy
    from turnguard.core.rules import StagePolicy
    from turnguard.core.step import Stage

DIFFERENT = 1
"""The exit code where the policies differ."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell of the matrix: what each policy does. `stage` None: of the policy as a whole."""

    stage: Stage | None
    what: str
    before: str
    after: str


def diff(
    before: Path = typer.Argument(..., metavar="A", help="A turnguard.yaml, or a file that holds a policy."),
    after: Path = typer.Argument(..., metavar="B", help="Another one."),
    as_json: bool = typer.Option(False, "--json", help="Print the differences as JSON."),
) -> int:
    """Show what B decides differently from A. Exit code: 0 nothing, 1 something, 2 a file that cannot be used."""
    from dataclasses import asdict

    from turnguard.cli import output
    from turnguard.config.files import load_policy

    found = differences(load_policy(before), load_policy(after))
    if as_json:
        output.data({"differs": bool(found), "differences": [asdict(each) for each in found]})
    elif not found:
        output.line(f"{after} decides as {before} does")
    else:
        output.show(table(found))
        for each in found:
            if each.stage is None:
                output.line(output.plain(f"{each.what}: {each.before} → {each.after}"))
    return DIFFERENT if found else output.PASSED


def differences(before: Policy, after: Policy) -> list[Difference]:
    """Every cell in which the policies differ, by category and stage, then what differs for all stages."""
    from turnguard.core.taxonomy import CATEGORIES

    own = dict.fromkeys(one.name for policy in (before, after) if policy.own for one in policy.own.categories)
    cells = [
        Difference(stage, what, old, new)
        for stage in before.stages
        for (what, old), (_, new) in zip(
            _cells(before.stages[stage], (*CATEGORIES, *own)),
            _cells(after.stages[stage], (*CATEGORIES, *own)),
            strict=True,
        )
        if old != new
    ]
    return [*cells, *_apart(before, after)]


def _cells(own: StagePolicy, categories: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in categories:
        yield name, rule_in_words(own.rule(name))
    yield "any other, or none", rule_in_words(own.default)
    yield "unsafe by", "label" if own.unsafe_above is None else f"P > {own.unsafe_above!r}"
    yield "moderator failed", rule_in_words(own.on_failure)
    for kind, rule in own.on_uncheckable.items():
        yield f"uncheckable {kind}", rule_in_words(rule)
    for kind, rule in own.on_reduced.items():
        yield f"coarse {kind}", rule_in_words(rule)


def _apart(before: Policy, after: Policy) -> Iterator[Difference]:
    """What holds for all stages."""
    for name in sorted({*before.messages, *after.messages}):
        old, new = before.messages.get(name, {}), after.messages.get(name, {})
        for language in sorted({*old, *new}):
            if old.get(language) != new.get(language):
                yield Difference(None, f"message {name} ({language})", *_told(old.get(language), new.get(language)))
    old_own, new_own = _own(before), _own(after)
    for name in dict.fromkeys((*old_own, *new_own)):
        a, b = old_own.get(name), new_own.get(name)
        if a != b:
            yield Difference(
                None, name, "defined" if a else "none", "none" if not b else "defined otherwise" if a else "defined"
            )
    curves = [None if each.calibration is None else each.calibration.digest for each in (before, after)]
    if curves[0] != curves[1]:
        yield Difference(None, "calibration", *_told(*curves))


def _own(policy: Policy) -> dict[str, object]:
    """What a policy tells the model to judge by, by where it stands."""
    if policy.own is None:
        return {}
    if policy.own.text is not None:
        return {"custom_policy": policy.own.text}
    return {f"custom {one.name}": one for one in policy.own.categories}


def _told(old: object, new: object) -> tuple[str, str]:
    before, after = (
        "none" if each is None else repr(each) if isinstance(each, str) else "defined" for each in (old, new)
    )
    return before, after


def table(found: list[Difference]) -> Table:
    """Only the stages and rows in which something differs; fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_lines=True)
    shown.add_column("", min_width=NAME, overflow="fold")
    stages = list(dict.fromkeys(each.stage for each in found if each.stage is not None))
    for stage in stages:
        shown.add_column(stage, overflow="fold")
    cells: dict[str, dict[Any, Difference]] = {}
    for each in found:
        if each.stage is not None:
            cells.setdefault(each.what, {})[each.stage] = each
    for what, row in cells.items():
        texts = [
            Text.assemble((row[stage].before, "red"), "\n→\n", (row[stage].after, "green"))
            if stage in row
            else Text("")
            for stage in stages
        ]
        shown.add_row(Text(folded(what)), *texts)
    return shown
