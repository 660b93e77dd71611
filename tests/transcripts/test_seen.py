"""What was judged is recognised without being read again, and never where anything about it has changed."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest

from tests.transcripts.dialects import DIALECTS
from turnguard import Guard, Policy, Unavailable, Verdict
from turnguard.config.settings import ModeratorSettings
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.testing import FakeModerator
from turnguard.transcripts.message import read_message


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The messages that were read."""
    seen: list[Any] = []

    def counted(message: Any) -> Any:
        seen.append(message)
        return read_message(message)

    monkeypatch.setattr("turnguard.transcripts.check.read_message", counted)
    return seen


def conversation(turns: int) -> list[dict[str, Any]]:
    return [
        message
        for turn in range(turns)
        for message in (
            {"role": "user", "content": [{"type": "text", "text": f"question {turn}"}]},
            {"role": "assistant", "content": f"answer {turn}"},
        )
    ]


@pytest.mark.parametrize("renewed", [False, True], ids=["the same objects", "equal objects"])
@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "bedrock"])
async def test_old_messages_are_not_read_again(dialect: str, renewed: bool, read: list[Any]) -> None:
    policy = Policy.from_dict({"on_uncheckable": {"encrypted": "flag", "other": "flag"}})
    guard = Guard(policy, FakeModerator())
    messages = DIALECTS[dialect].conversation(lambda place: f"the {place}")
    first = await guard.acheck_messages(messages)
    kept = {decision.where[0] for decision in first if decision.where and decision.coverage.complete}
    if renewed:
        messages = json.loads(json.dumps(messages))
    read.clear()
    again = await guard.acheck_messages(messages)
    assert [(d.where, d.action, d.parts) for d in again] == [(d.where, d.action, d.parts) for d in first]
    assert kept.isdisjoint(messages.index(message) for message in read)
    assert all(decision.remembered for decision in again if decision.judgements)


async def test_a_message_that_was_changed_in_place_is_read_again() -> None:
    guard = Guard(moderator=FakeModerator(unsafe=["bomb"]))
    messages = conversation(3)
    await guard.acheck_messages(messages)

    async def blocked() -> set[int]:
        decisions = await guard.acheck_messages(messages)
        return {decision.where[0] for decision in decisions if decision.where and decision.action == "block"}

    messages[2]["content"][0]["text"] = "a bomb"
    assert await blocked() == {2}
    messages[3]["note"] = "a bomb"
    assert await blocked() == {2, 3}
    messages[4]["content"].append({"type": "text", "text": "and a bomb"})
    assert await blocked() == {2, 3, 4}


async def test_an_answer_under_another_request_is_judged_anew(read: list[Any]) -> None:
    moderator = FakeModerator()
    guard = Guard(moderator=moderator)
    question, answer = conversation(1)
    await guard.acheck_messages([question, answer])
    asked = len(moderator.asked)
    await guard.acheck_messages([{"role": "user", "content": "something else"}, answer])
    assert len(moderator.asked) == asked + 2
    assert moderator.asked[-1].prompt == "something else"


async def test_moved_messages_have_their_new_place() -> None:
    guard = Guard(moderator=FakeModerator())
    messages = conversation(2)
    await guard.acheck_messages(messages)
    moved = [{"role": "system", "content": "rules"}, *messages]
    assert [decision.where for decision in await guard.acheck_messages(moved)] == [(at, 0) for at in range(1, 5)]


async def test_no_tenant_is_told_that_another_has_asked() -> None:
    moderator = FakeModerator()
    guard = Guard(Policy.from_dict({}), moderator)
    messages = conversation(2)
    shown = [
        [decision.remembered for decision in await guard.acheck_messages(messages, metadata={"tenant": tenant})]
        for tenant in ("a", "b", "b", "a")
    ]
    assert [any(each) for each in shown] == [False, False, True, True]
    assert all(shown[2])
    assert all(shown[3])
    assert len(moderator.asked) == len(messages)


async def test_failures_are_judged_anew() -> None:
    class Failing:
        fails = True

        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            if self.fails:
                raise Unavailable("down")
            return Verdict("safe", "safe" if exchange.response is not None else None)

    moderator = Failing()
    guard = Guard(moderator=moderator)
    messages = conversation(2)
    assert {decision.failed for decision in await guard.acheck_messages(messages)} == {True}
    moderator.fails = False
    assert {decision.action for decision in await guard.acheck_messages(messages)} == {"allow"}


async def test_another_model_judges_anew() -> None:
    guard = Guard(moderator=FakeModerator())
    messages = conversation(2)
    assert {decision.action for decision in await guard.acheck_messages(messages)} == {"allow"}
    guard.moderator = FakeModerator(unsafe=["answer"])
    assert [decision.action for decision in await guard.acheck_messages(messages)].count("block") == 2


async def test_the_memory_is_bounded() -> None:
    guard = Guard(moderator=FakeModerator())
    guard.seen._max_bytes = 5_000
    for turn in range(50):
        await guard.acheck_messages([{"role": "user", "content": f"{turn} " * 100}])
    assert guard.seen._bytes <= 5_000
    assert len(guard.seen._by_content) == len(guard.seen._by_object) < 50


async def test_the_work_of_a_step_depends_on_what_is_new() -> None:
    async def cost(turns: int) -> float:
        guard = Guard(moderator=FakeModerator())
        messages = conversation(turns)
        await guard.acheck_messages(messages)
        best = float("inf")
        for step in range(7):
            started = time.process_time()
            await guard.acheck_messages([*messages, {"role": "user", "content": f"new {step}"}])
            best = min(best, time.process_time() - started)
        return best

    assert await cost(400) < 12 * await cost(100)  # 4 times the messages, and a wide margin


async def test_a_long_message_is_linear_in_its_blocks() -> None:
    async def cost(blocks: int) -> float:
        best = float("inf")
        for _ in range(3):
            content = [{"type": "text", "text": f"block {at}"} for at in range(blocks)]
            # what is late is withheld, and its message in the person's language costs more than all the blocks
            guard = Guard(moderator=FakeModerator(), moderator_settings=ModeratorSettings(deadline=60))
            started = time.process_time()
            await guard.acheck_messages([{"role": "user", "content": content}])
            best = min(best, time.process_time() - started)
        return best

    assert await cost(4000) < 12 * await cost(1000)  # quadratic work would be 16 times as much


@pytest.mark.parametrize("given", ["hi", b"hi", {"role": "user", "content": "hi"}])
async def test_what_is_no_list_of_messages_is_a_type_error(given: Any) -> None:
    guard = Guard(moderator=FakeModerator())
    with pytest.raises(TypeError, match="list of messages"):
        await guard.acheck_messages(given)
    with pytest.raises(TypeError, match="list of messages"):
        guard.guard_messages(given)


async def test_the_input_is_never_changed() -> None:
    guard = Guard(moderator=FakeModerator(unsafe=["answer"]))
    messages = conversation(2)
    before = copy.deepcopy(messages)
    new, _ = await guard.aguard_messages(messages)
    assert messages == before
    assert new[0] is messages[0]
    assert new[1] is not messages[1]


async def test_a_tools_name_is_judged_where_no_call_names_it() -> None:
    guard = Guard(moderator=FakeModerator(unsafe=["UNSAFE"]))
    call = {"role": "model", "parts": [{"functionCall": {"name": "UNSAFE_tool", "args": {}}}]}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "UNSAFE_tool", "response": {"a": "fine"}}}]}
    blocked, passed = await guard.acheck_messages([call, result])
    assert (blocked.action, passed.action) == ("block", "allow")
    assert "block" in {decision.action for decision in await guard.acheck_messages([result])}


@pytest.mark.parametrize(("parts", "size"), [(2, 40_000), (40, 2_000), (300, 200), (1_000, 60)])
async def test_a_result_of_many_parts_passes(parts: int, size: int) -> None:
    sentence = "The quick brown fox jumps over the lazy dog near the river bank today. "
    content = [{"type": "text", "text": f"{at} {sentence * (size // len(sentence) + 1)}"[:size]} for at in range(parts)]
    guard = Guard(moderator=FakeModerator())
    decisions = await guard.acheck_messages([{"role": "tool", "tool_call_id": "call_1", "content": content}])
    assert {decision.action for decision in decisions} == {"allow"}
