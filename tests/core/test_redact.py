"""`redact` cuts text at white space only, so that no address or number falls into pieces that are safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnguard import Guard, Policy, Step, Verdict
from turnguard.checking.redact import _PIECE
from turnguard.core.exchange import Exchange
from turnguard.core.step import Text, ToolDefinition
from turnguard.testing import FakeModerator

REDACT = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}


def guard(*unsafe: str) -> Guard:
    """A guard whose moderator finds personal data only where a whole address or number stands."""
    return Guard(Policy.from_dict(REDACT), FakeModerator(unsafe={word: ["PII/Privacy"] for word in unsafe}))


WHOLE = {
    "Write to jane.doe@example.com": ("jane.doe@example.com", "[redacted]"),
    "Hello. Write to jane.doe@example.com. Thanks!": ("jane.doe@example.com", "Hello. [redacted] Thanks!"),
    "Call me. It is 0171.555.1234 today. Bye.": ("0171.555.1234", "Call me. [redacted] Bye."),
    "Born; 24.12.1990;male. That is all.": ("24.12.1990", "Born; [redacted] That is all."),
    "See https://a.example/?u=jane&p=1;2! It works.": ("u=jane&p=1;2", "[redacted] It works."),
    "Ask Bo (bo@x.example.) Then go.": ("bo@x.example", "[redacted] Then go."),
    "one\njane.doe@example.com\nthree": ("jane.doe@example.com", "one\n[redacted]\nthree"),
    "これは秘密です。電話は0171.555です。\nさようなら。": ("0171.555", "[redacted]\nさようなら。"),
}


@pytest.mark.parametrize("text", WHOLE)
async def test_an_address_is_masked_whole(text: str) -> None:
    secret, expected = WHOLE[text]
    async with guard(secret) as guarded:
        decision = await guarded.acheck(Step.input(text, language="en"))
    assert (decision.action, decision.text) == ("rewrite", expected)


async def test_a_stretch_that_is_unsafe_only_as_a_whole_is_masked_in_a_longer_text() -> None:
    def script(exchange: Exchange) -> Verdict:
        bad = "first half" in exchange.prompt and "second half" in exchange.prompt
        return Verdict("unsafe" if bad else "safe", categories=("PII/Privacy",) if bad else ())

    text = "".join(f"Sentence {number}. " for number in range(12)) + "A first half. A second half. The end."
    async with Guard(Policy.from_dict(REDACT), FakeModerator(script=script)) as guarded:
        decision = await guarded.acheck(Step.input(text, language="en"))
    assert decision.action == "rewrite"
    assert "half" not in decision.text
    assert decision.text.startswith("Sentence 0. Sentence 1. ")


@given(st.text())
def test_pieces_leave_nothing_out_and_end_at_white_space(text: str) -> None:
    pieces = _PIECE.findall(text)
    assert "".join(pieces) == text
    assert all(piece[-1].isspace() for piece in pieces[:-1])


async def test_a_definition_keeps_its_name_and_shape() -> None:
    definition = {
        "name": "mail",
        "description": "Sends mail. Write to jane.doe@example.com first. It is quick.",
        "parameters": {"type": "object", "properties": {"to": {"type": "string", "default": "jane.doe@example.com"}}},
    }
    async with guard("jane.doe@example.com") as guarded:
        decision = await guarded.acheck(Step.tools([definition]))
        named = await guarded.acheck(Step.tools([{**definition, "name": "jane.doe@example.com"}]))
    assert decision.action == "rewrite"
    (part,) = decision.content
    assert isinstance(part, ToolDefinition)
    assert part.definition == {
        "name": "mail",
        "description": "Sends mail. [redacted] It is quick.",
        "parameters": {"type": "object", "properties": {"to": {"type": "string", "default": "[redacted]"}}},
    }
    assert (named.action, named.content) == ("block", ())


async def test_only_the_unsafe_part_changes() -> None:
    step = Step("input", (Text("I like tea."), Text("Mail jane.doe@example.com now. Bye.")), language="en")
    async with guard("jane.doe@example.com") as guarded:
        decision = await guarded.acheck(step)
    assert decision.parts == (Text("I like tea."), Text("[redacted] Bye."))
