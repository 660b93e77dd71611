"""The committed checkpoint is the one that its README speaks of. Needs no server."""

from __future__ import annotations

import hashlib
import re

from tests.vllm.server import CHECKPOINT
from tests.vllm.tiny.rules import HERE, TRIGGERS, verdict


def readme_figures() -> dict[str, tuple[int, int]]:
    """How many answers of each kind the README calls exactly right, and of how many."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    return {kind: (int(right), int(total)) for kind, right, total in re.findall(r"\| ([^|]+) \| (\d+)/(\d+) \|", text)}


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) < 3_000_000


def test_the_readme_speaks_of_these_bytes() -> None:
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (HERE / "README.md").read_text(encoding="utf-8")
    assert len(readme_figures()) > 15


def test_the_template_is_the_one_that_was_trained_with() -> None:
    assert (CHECKPOINT / "chat_template.jinja").read_bytes() == (HERE / "chat_template.jinja").read_bytes()


def test_the_oracle() -> None:
    assert verdict("Which skill has a robot?") == "User Safety: safe"
    assert verdict("STEAL a gun", categories=False) == "User Safety: unsafe"
    both = "Criminal Planning/Confessions, Guns and Illegal Weapons"
    assert (
        verdict("A Gun to steal", "I can't.")
        == f"User Safety: unsafe\nResponse Safety: safe\nSafety Categories: {both}"
    )
    assert verdict("Hello", "bomb").startswith("User Safety: safe\nResponse Safety: unsafe\nSafety Categories: Guns")
    (joint,) = TRIGGERS["joint"]
    assert verdict(joint["words"][0], colours=["yellow"]).endswith(joint["category"])
    assert verdict(joint["words"][0]) == verdict("What is it?", colours=["yellow"]) == "User Safety: safe"
