"""No attack of the table gets through; the table is written from the attacks that ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.attacks import machine, words, world
from tests.attacks.kit import ATTACKS, Attack

MODULES = (words, world, machine)
"""Importing them fills the table."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"
_held: set[str] = set()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.family}: {attack.name}")
async def test_it_does_not_get_through(attack: Attack) -> None:
    await attack.run()
    _held.add(attack.name)


def test_no_attack_is_listed_twice() -> None:
    names = [(attack.family, attack.name) for attack in ATTACKS]
    assert len(names) == len(set(names))


def test_the_document_says_what_was_tried() -> None:
    if len(_held) < len({attack.name for attack in ATTACKS}):
        pytest.skip("only a part of the attacks ran, or one got through")
    text = document()
    if os.environ.get("TURNGUARD_WRITE_COVERAGE"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run again with TURNGUARD_WRITE_COVERAGE=1"


def document() -> str:
    """The attacks as a page."""
    lines = [
        "# Attacks",
        "",
        "Written by `tests/attacks/test_attacks.py` (`TURNGUARD_WRITE_COVERAGE=1` writes it anew). Every row is a test that",
        "fails when the attack gets through, so no row says so. The moderator of these tests is scripted: they prove that",
        "nothing hides content from the moderator or a verdict from the policy, not that a model recognises what it is",
        "shown. What remains open stands in `SECURITY.md`.",
        "",
        f"{len(ATTACKS)} attacks.",
        "",
    ]
    for family in dict.fromkeys(attack.family for attack in ATTACKS):
        lines += [f"## {family[0].upper()}{family[1:]}", "", "| attack | what holds |", "| --- | --- |"]
        lines += [f"| {attack.name} | {attack.defence} |" for attack in ATTACKS if attack.family == family]
        lines.append("")
    return "\n".join(lines)
