"""docs/attacks.md: the attacks that the tests here run."""

from __future__ import annotations

from pathlib import Path

from tests.attacks import machine, words, world
from tests.attacks.kit import ATTACKS

MODULES = (words, world, machine)
"""Importing them fills the table."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"


def document() -> str:
    """The attacks as a page."""
    lines = [
        "# Attacks",
        "",
        "`make docs-tables` writes this page. Every row is a test of `tests/attacks` that fails when the attack gets through.",
        "The moderator of these tests is scripted: they prove that nothing hides content from the moderator or a verdict from",
        "the policy, not that a model recognises what it is shown. `SECURITY.md` says what remains open.",
        "",
        f"{len(ATTACKS)} attacks.",
        "",
    ]
    for family in dict.fromkeys(attack.family for attack in ATTACKS):
        lines += [f"## {family[0].upper()}{family[1:]}", "", "| attack | what holds |", "| --- | --- |"]
        lines += [f"| {attack.name} | {attack.defence} |" for attack in ATTACKS if attack.family == family]
        lines.append("")
    return "\n".join(lines)
