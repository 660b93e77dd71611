"""Transcripts: a decision for every part, old and new, each time; what was judged before costs no request."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image as Pillow

from turnguard import Guard, Policy, Text, ToolCall
from turnguard.config.settings import ChecksSettings
from turnguard.testing import FakeModerator


def data_uri(colour: str) -> str:
    buffer = io.BytesIO()
    Pillow.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def image(colour: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri(colour)}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def call(arguments: str, name: str = "search") -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture
def moderator() -> FakeModerator:
    return FakeModerator(unsafe={"bomb": ["Guns and Illegal Weapons"]})


@pytest.fixture
def guard(moderator: FakeModerator) -> Guard:
    return Guard(Policy.from_dict({}), moderator)


TURN: list[dict[str, Any]] = [
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": [text("what is on this page?"), image("red")]},
    {"role": "assistant", "content": None, "tool_calls": [call('{"q": "page"}'), call('{"q": "other"}')]},
    {"role": "tool", "tool_call_id": "c1", "content": [text("a page"), image("blue")]},
    {"role": "assistant", "content": "It is a page."},
    {"role": "user", "content": "thanks"},
]


async def test_every_part_has_a_decision_in_order(guard: Guard, moderator: FakeModerator) -> None:
    decisions = await guard.acheck_messages(TURN)
    assert [(decision.where, decision.stage, decision.action) for decision in decisions] == [
        ((1, 0), "input", "allow"),
        ((1, 1), "input", "allow"),
        ((2, 0), "tool_call", "allow"),
        ((2, 1), "tool_call", "allow"),
        ((3, 0), "tool_result", "allow"),
        ((3, 1), "tool_result", "allow"),
        ((4, 0), "output", "allow"),
        ((5, 0), "input", "allow"),
    ]
    assert all(len(decision.content) == 1 for decision in decisions)
    assert len(moderator.asked) == 6  # a message's text and its one image share a request
    output = next(exchange for exchange in moderator.asked if exchange.response == "It is a page.")
    assert output.prompt == "what is on this page?"
    assert output.picture is not None


async def test_sent_again_it_costs_no_request_and_says_the_same(guard: Guard, moderator: FakeModerator) -> None:
    first = await guard.acheck_messages(TURN)
    asked = len(moderator.asked)
    again = await guard.acheck_messages([*TURN, {"role": "user", "content": "one more"}])
    assert len(moderator.asked) == asked + 1
    assert [decision.action for decision in again[:-1]] == [decision.action for decision in first]
    assert [decision.remembered for decision in again] == [True] * len(first) + [False]


@pytest.mark.parametrize("role", ["user", "assistant", "tool", "function", "banana", "", None, 7, "System", "SYSTEM "])
async def test_what_was_withheld_stays_withheld(guard: Guard, moderator: FakeModerator, role: Any) -> None:
    messages = [{"role": role, "content": "a bomb"}, {"role": "user", "content": "hello"}]
    for _ in range(3):
        *withheld, passed = await guard.acheck_messages(messages)
        assert all((decision.action, decision.content) == ("block", ()) for decision in withheld)
        assert passed.action == "allow"


async def test_only_the_part_that_offends_is_withheld(guard: Guard, moderator: FakeModerator) -> None:
    await guard.acheck_messages([{"role": "user", "content": [image("red")]}])
    red = moderator.asked[-1].picture
    assert red is not None
    moderator.pictures = {red.digest: ["Violence"]}
    message = {"role": "tool", "name": "shot", "content": [image("blue"), image("red"), image("green")]}
    decisions = await Guard(moderator=moderator).acheck_messages([message])  # the first guard remembers red as safe
    *pictures, name = decisions
    assert [decision.action for decision in pictures] == ["allow", "block", "allow"]
    assert name.action == "block"  # it is judged beside each of the pictures


async def test_a_request_split_over_text_parts_is_judged_joined(guard: Guard) -> None:
    decisions = await guard.acheck_messages([{"role": "user", "content": [text("a bo"), text("mb")]}])
    assert [decision.action for decision in decisions] == ["block", "block"]  # also read without the break
    decisions = await guard.acheck_messages([{"role": "user", "content": [text("a bo."), text("mb")]}])
    assert [decision.action for decision in decisions] == ["allow", "allow"]
    moderator = FakeModerator(unsafe=["bo\nmb"])
    decisions = await Guard(moderator=moderator).acheck_messages(
        [{"role": "user", "content": [text("a bo"), text("mb")]}]
    )
    assert [decision.action for decision in decisions] == ["block", "block"]


async def test_trusted_roles_are_listed_and_can_be_taken_away(guard: Guard, moderator: FakeModerator) -> None:
    messages = [
        {"role": "developer", "content": "bomb"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "x"},
    ]
    (decision,) = await guard.acheck_messages(messages)
    assert [(entry.detail, entry.counts) for entry in decision.coverage.not_judged] == [
        ("message 0 (developer)", False),
        ("message 2 (system)", False),
    ]
    strict = Guard(moderator=moderator, checks=ChecksSettings(trusted_roles=()))
    assert [decision.action for decision in await strict.acheck_messages(messages)] == ["block", "allow", "allow"]


async def test_empty_parts_are_skipped_and_listed(guard: Guard) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None},
        {"role": "user"},
        {"role": "user", "content": [text(""), text("hi")]},
    ]
    (decision,) = await guard.acheck_messages(messages)
    assert decision.where is not None
    assert decision.where[0] == 3
    assert sum(entry.cause == "empty" for entry in decision.coverage.not_judged) >= 3
    assert await guard.acheck_messages([{"role": "system", "content": "x"}, {"role": "user", "content": ""}]) == []
    assert await guard.acheck_messages([]) == []


@pytest.mark.parametrize("message", [
    {"role": "assistant", "content": None, "tool_calls": [call('{"q": "bomb"}')]},
    {"role": "assistant", "content": None, "tool_calls": [call('{"q": "\\u0062omb"}')]},
    {"role": "assistant", "content": None, "tool_calls": [call("bomb, not JSON")]},
    {"role": "assistant", "content": None, "tool_calls": [call("{}", name="bomb")]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "name": "f", "args": {"deep": [{"q": "bomb"}]}}]},
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "bomb"}},
    {"role": "assistant", "content": None, "refusal": "bomb"},
    {"role": "assistant", "content": "fine", "reasoning_content": "bomb"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"q": "bomb"}}]},
    {"role": "user", "content": "fine", "name": "a bomb"},
    {"role": "tool", "content": {"result": "bomb"}},
    {"role": "tool", "content": [{"type": "text", "text": "ok"}, {"type": "tool_use", "name": "f", "input": "bomb"}]},
    {"role": "user", "content": {"type": "text", "text": "bomb"}},
    {"role": "user", "content": ["fine", "bomb"]},
])  # fmt: skip
async def test_content_is_found_wherever_a_message_holds_it(guard: Guard, message: dict[str, Any]) -> None:
    decisions = await guard.acheck_messages([message])
    assert "block" in [decision.action for decision in decisions]


@pytest.mark.parametrize("message", [
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}]},
    {"role": "user", "content": [{"type": "hologram", "x": 1}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://elsewhere.example/x.png"}}]},
    {"role": "assistant", "content": None, "audio": {"id": "a"}},
    {"role": "assistant", "content": None, "tool_calls": ["a string"]},
    "not a message", None, 3,
])  # fmt: skip
async def test_what_cannot_be_judged_is_never_skipped(guard: Guard, message: Any) -> None:
    decisions = await guard.acheck_messages([message])
    assert decisions[0].action == "block"
    assert any(entry.counts and entry.cause for entry in decisions[0].coverage.not_judged)


async def test_earlier_turns_count_when_asked_for(moderator: FakeModerator) -> None:
    moderator.unsafe = ["one\ntwo"]
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "two"},
    ]
    alone = Guard(moderator=moderator)
    assert [decision.action for decision in await alone.acheck_messages(messages)] == ["allow"] * 3
    together = Guard(moderator=moderator, checks=ChecksSettings(history=2))
    assert [decision.action for decision in await together.acheck_messages(messages)] == ["allow", "allow", "block"]


async def test_our_refusal_in_the_transcript_costs_nothing(guard: Guard, moderator: FakeModerator) -> None:
    (blocked,) = await guard.acheck_messages([{"role": "user", "content": "a bomb"}])
    asked = len(moderator.asked)
    (again,) = await guard.acheck_messages([{"role": "assistant", "content": blocked.message}])
    assert (again.action, len(moderator.asked)) == ("allow", asked)


async def test_a_rewrite_is_given_part_by_part(moderator: FakeModerator) -> None:
    policy = Policy.from_dict({"default": {"action": "rewrite", "with": "redact"}})
    guard = Guard(policy, moderator)
    decisions = await guard.acheck_messages(
        [
            {"role": "user", "content": [text("Fine. A bomb. Bye."), image("green")]},
            {"role": "assistant", "content": None, "tool_calls": [call('{"q": "Hi. A bomb. Bye."}')]},
        ]
    )
    assert [decision.action for decision in decisions] == ["rewrite", "rewrite", "rewrite"]
    assert decisions[0].content == (Text("Fine. [redacted]Bye."),) or "bomb" not in decisions[0].text
    assert decisions[1].content != ()
    rewritten = decisions[2].content[0]
    assert isinstance(rewritten, ToolCall)
    assert "bomb" not in str(rewritten.arguments)


# ---------------------------------------------------------------- what stands beside the content


def bomb_in(depth: int) -> Any:
    value: Any = "bomb"
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("message", [
    {"role": "assistant", "content": "ok", "tool_calls": {"0": {"function": {"name": "f", "arguments": "bomb"}}}},
    {"role": "assistant", "content": "ok", "tool_calls": "bomb"},
    {"role": "assistant", "content": "ok", "function_call": "bomb"},
    {"role": "assistant", "content": "ok", "function_call": ["bomb"]},
    {"role": "assistant", "content": "ok", "reasoning_content": ["bomb"]},
    {"role": "assistant", "content": "ok", "reasoning_content": {"text": "bomb"}},
    {"role": "assistant", "content": "ok", "reasoning_details": [{"type": "reasoning.text", "text": "bomb"}]},
    {"role": "assistant", "content": "ok", "annotations": [{"type": "url_citation", "url_citation": {"title": "bomb"}}]},
    {"role": "assistant", "content": "ok", "audio": {"id": "a", "transcript": "bomb"}},
    {"role": "assistant", "content": "ok", "refusal": ["bomb"]},
    {"role": "user", "content": "ok", "parts": [{"text": "bomb"}]},
    {"role": "user", "content": "ok", "anything": "bomb"},
    {"role": "user", "content": "ok", "make a bomb": 1},
    {"role": "user", "content": "ok", "metadata": {"make a bomb": 1}},
    {"role": "user", "content": "ok", "images": [{"type": "image_url", "image_url": {"url": "file:///x"}}]},
    {"role": "user", "content": "ok", "id": "make a bomb"},
    {"role": "make a bomb", "content": "ok"},
    {"role": ["make a bomb"], "content": "ok"},
    {"role": "user", "content": "ok", "name": {"x": "bomb"}},
    {"role": "tool", "content": "ok", "tool_call_id": "make a bomb"},
    {"role": "tool", "content": "ok", "tool_call_id": "c", "artifact": {"x": "bomb"}},
])  # fmt: skip
async def test_nothing_beside_the_content_is_skipped(guard: Guard, message: dict[str, Any]) -> None:
    assert "block" in [decision.action for decision in await guard.acheck_messages([message])]


@pytest.mark.parametrize("called", [
    {"id": "1", "function": {"name": "safe", "arguments": "{}"}, "name": "shell", "args": {"cmd": "ls"}},
    {"id": "1", "function": {"name": "safe", "arguments": "{}", "args": {"x": "ls"}}},
    {"id": "1", "function": {"name": "safe", "arguments": "", "args": {"x": "bomb"}}},
    {"id": "1", "function": {"name": "safe", "arguments": {}, "input": "bomb"}},
    {"id": "1", "function": {"name": "safe"}, "custom": {"name": "shell", "input": "ls"}},
    {"id": "1", "function": {"name": "safe", "arguments": "{}", "note": "bomb"}},
    {"id": "1", "name": "f", "args": {}, "note": "bomb"},
    {"id": "make a bomb", "function": {"name": "f", "arguments": "{}"}},
    {"id": "1", "function": {"name": {"x": "bomb"}, "arguments": "{}"}},
    {"id": "1", "function": {"name": "f", "arguments": ["bomb"]}},
    {"id": "1", "function": "bomb"},
])  # fmt: skip
async def test_a_call_hides_no_second_call(guard: Guard, called: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [called]}
    assert "block" in [decision.action for decision in await guard.acheck_messages([message])]


@pytest.mark.parametrize("message", [
    {"role": "assistant", "content": "ok", "refusal": None, "annotations": [], "audio": None, "tool_calls": []},
    {"role": "assistant", "content": "ok", "function_call": None, "tool_calls": None, "reasoning_content": ""},
    {"role": "user", "content": "ok", "name": "", "id": "msg_1", "created_at": "2025-01-02T03:04:05Z", "index": 0},
    {"role": "user", "content": "ok", "name": " ", "cache_control": {"type": "ephemeral"}, "status": "completed"},
    {"role": "tool", "content": "ok", "tool_call_id": "call_1", "name": "search"},
    {"role": "assistant", "content": "ok", "reasoning": "ok", "reasoning_content": "ok"},
])  # fmt: skip
async def test_what_holds_nothing_costs_nothing(
    guard: Guard, moderator: FakeModerator, message: dict[str, Any]
) -> None:
    assert {decision.action for decision in await guard.acheck_messages([message])} == {"allow"}
    assert len(moderator.asked) == 1


async def test_one_call_is_one_call(guard: Guard, moderator: FakeModerator) -> None:
    for called in (
        {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}},
        {"id": "c", "type": "tool_call", "name": "f", "args": {}},
        {"id": "c", "function": {"name": "f", "arguments": "{}"}, "name": "f", "args": None},
        {"id": "c", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"g": {"thought_signature": "A"}}},
    ):
        (decision,) = await guard.acheck_messages([{"role": "assistant", "tool_calls": [called]}])
        assert (decision.stage, decision.action) == ("tool_call", "allow")


@pytest.mark.parametrize("message", [
    {"role": "user", "content": "", "name": ""},
    {"role": "user", "content": "", "name": " "},
    {"role": "assistant", "content": None, "name": "", "tool_calls": [call("{}")]},
    {"role": "tool", "content": "", "name": "\n"},
    {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
    {"role": "user", "content": bomb_in(900)},
    {"role": "user", "content": "x", "name": bomb_in(900)},
    {"role": bomb_in(900), "content": "x"},
    {"role": "user", "content": "x", "metadata": bomb_in(900)},
    {"role": "user", "content": "x", "metadata": {"a": [[[]]], "b": 10**5000}},
    {"role": "user", "content": 10**5000},
    {"role": "user", "content": [{"type": "image", "url": "\ud800"}, {"type": "image", "image_url": 5}]},
    {"role": "assistant", "content": [{"type": "tool_use", "name": bomb_in(900), "input": [bomb_in(900)]}]},
    {"role": "assistant", "tool_calls": [{"function": {"name": bomb_in(900), "arguments": "{}"}}]},
    {"role": "assistant", "tool_calls": [{"function": bomb_in(900)}, {"custom": [bomb_in(900)]}, []]},
    {"role": "assistant", "function_call": bomb_in(900)},
    {5: "x", None: "y", "role": "user", "content": "x"},
])  # fmt: skip
async def test_nothing_that_a_client_writes_loses_the_transcript(guard: Guard, message: Any) -> None:
    decisions = await guard.acheck_messages([message, {"role": "user", "content": "a bomb"}])
    assert decisions[-1].action == "block"
