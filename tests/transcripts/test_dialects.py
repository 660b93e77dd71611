"""Every place of every dialect is judged at its stage, and what is withheld leaves messages that the provider accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transcripts.dialects import DIALECTS, places
from turnguard import Decision, Guard, Policy
from turnguard.testing import FakeModerator

MARK = "UNSAFE"
CASES = [(dialect, place) for dialect in DIALECTS for place in places(dialect)]
STAGES = {
    "user": "input", "next": "input", "plain": "input", "file": "input", "data": "input", "document": "input",
    "assistant": "output", "answer": "output", "reasoning": "output", "thinking": "output", "thought": "output",
    "citation": "output", "source": "output",
    "search query": "tool_call", "tool name": "tool_call", "tool argument": "tool_call", "code": "tool_call",
    "tool result": "tool_result", "second": "tool_result", "search title": "tool_result", "mcp": "tool_result",
    "json": "tool_result", "code output": "tool_result", "structured": "tool_result", "resource": "tool_result",
    "link": "tool_result", "artifact": "tool_result", "document data": "tool_result", "tool plan": "output",
}  # fmt: skip


def stage(place: str) -> str:
    return max(((len(start), at) for start, at in STAGES.items() if place.startswith(start)))[1]


def conversation(dialect: str, marked: str | None) -> list[dict[str, Any]]:
    return DIALECTS[dialect].conversation(lambda place: f"a {MARK} thing" if place == marked else f"the {place}")


def policy(action: str) -> Policy:
    rule = {"action": "rewrite", "with": "redact"} if action == "rewrite" else action
    return Policy.from_dict({"default": rule, "on_uncheckable": {"encrypted": "flag", "other": "flag"}})


def guard_that(action: str) -> Guard:
    return Guard(policy(action), FakeModerator(unsafe=[MARK]))


def text_of(messages: Any) -> str:
    return json.dumps(messages, default=lambda value: value.decode("utf-8", "replace"), ensure_ascii=False)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_safe_conversation_passes_as_the_very_same_messages(dialect: str) -> None:
    messages = conversation(dialect, None)
    new, decisions = await guard_that("block").aguard_messages(messages)
    assert {decision.action for decision in decisions} <= {"allow", "flag"}
    assert all(after is before for after, before in zip(new, messages, strict=True))
    DIALECTS[dialect].valid(messages)


@pytest.mark.parametrize(("dialect", "place"), CASES)
async def test_each_place_is_judged_at_its_stage(dialect: str, place: str) -> None:
    decisions = await guard_that("block").acheck_messages(conversation(dialect, place))
    stages = {decision.stage for decision in decisions if decision.action == "block"}
    assert stages == {stage(place)} or (place == "tool name" and stages == {"tool_call", "tool_result"})


@pytest.mark.pairwise
@pytest.mark.parametrize("action", ["block", "review", "rewrite", "flag"])
@pytest.mark.parametrize(("dialect", "place"), CASES)
async def test_what_is_passed_on_is_valid_and_without_the_unsafe_part(dialect: str, place: str, action: str) -> None:
    messages = conversation(dialect, place)
    kept = json.loads(text_of(messages)) if dialect != "bedrock" else None
    new, decisions = await guard_that(action).aguard_messages(messages)
    assert action in {decision.action for decision in decisions} or "block" in {d.action for d in decisions}
    if action != "flag":
        assert MARK not in text_of(new)
    else:
        assert all(after is before for after, before in zip(new, messages, strict=True))
    DIALECTS[dialect].valid(new)
    assert kept is None or json.loads(text_of(messages)) == kept  # the input is never changed
    again = await guard_that(action).acheck_messages(new)
    assert action == "flag" or {decision.action for decision in again} <= {"allow", "flag"}


@pytest.mark.parametrize("dialect", ["openai chat", "anthropic", "gemini", "bedrock", "openai responses"])
async def test_an_output_answers_the_person_and_never_a_tool(dialect: str) -> None:
    moderator = FakeModerator()
    await Guard(policy("block"), moderator).acheck_messages(conversation(dialect, None))
    answers = [exchange for exchange in moderator.asked if exchange.response and "the answer" in exchange.response]
    assert answers
    assert all("user text" in exchange.prompt and "result" not in exchange.prompt for exchange in answers)


def describe(decision: Decision) -> str:
    return f"{decision.stage} {decision.action} {decision.where}"
