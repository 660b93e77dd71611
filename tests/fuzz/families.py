"""What must hold of any text that a model of a family may write: `python scripts/fuzz_families.py` tries many."""

from __future__ import annotations

import random

from tests.families.grammar import ANSWERED, ASKED, GRAMMARS, nearly
from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import MAX_REASONING
from turnguard.moderators.families import Asking, family


def read(name: str, text: str, exchange: Exchange) -> str:
    """Read one reply: `safe`, `unsafe` or `unparseable`. Raises where a reply that is not a legal verdict was read as
    safe, and for anything but a verdict or `Unparseable`.
    """
    reply = {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    try:
        verdict = family(name).verdict([reply], exchange, Asking())
    except Unparseable as error:
        assert error.cause.isprintable()
        return "unparseable"
    labels = {verdict.user, verdict.response} - {None}
    assert labels <= {"safe", "unsafe"}
    assert (verdict.user if exchange.response is None else verdict.response) is not None
    assert len(verdict.reasoning or "") <= MAX_REASONING
    assert all(name.isprintable() and len(name) <= 80 for name in verdict.unknown_categories)
    if "unsafe" in labels:
        return "unsafe"
    assert not verdict.categories
    assert GRAMMARS[name].says_safe(text, exchange), f"{name} read {text!r} as safe"
    return "safe"


def run(name: str, count: int, seed: int) -> dict[str, int]:
    """Read `count` replies, half of them about a response, and count what they were read as."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    grammar = GRAMMARS[name]
    found = {"safe": 0, "unsafe": 0, "unparseable": 0}
    for number in range(count):
        found[read(name, nearly(grammar, draw), ANSWERED if number % 2 else ASKED)] += 1
    return found
