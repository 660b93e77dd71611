"""The holes in NeMo's engine, each seen in a run without our fix, named after the upstream thread where there is one."""

from __future__ import annotations

from typing import Any

import pytest
from nemoguardrails.rails.llm.options import RailStatus, RailType
from nemoguardrails.types import LLMResponse

from tests.nemo.lab import (
    BAD,
    BLUE,
    GREEN,
    OTHER,
    QUIET,
    RED,
    REFUSAL,
    Lab,
    assistant,
    call,
    called,
    leaks,
    result,
    user,
)
from turnguard.nemo import history

pytestmark = QUIET

ASK = user("take a screenshot")
PAST = (ASK, called(), result("a desktop"), assistant("done"))
both_ways = pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
both_modes = pytest.mark.parametrize("passthrough", [True, False], ids=["passthrough", "general"])


@both_ways
@both_modes
async def test_input_rails_run_behind_a_past_tool_call_nemo_platform_1608(parallel: bool, passthrough: bool) -> None:
    lab = Lab(parallel=parallel, passthrough=passthrough)
    answer = await lab.say(*PAST, user(f"now a {BAD}"))
    assert answer == assistant(REFUSAL)
    assert lab.main.prompts == []


@both_ways
@both_modes
async def test_the_newest_message_behind_a_past_tool_call_reaches_the_main_model(
    parallel: bool, passthrough: bool
) -> None:
    lab = Lab(parallel=parallel, passthrough=passthrough)
    messages = [*PAST, user("and now?")]
    before = repr(messages)
    answer = await lab.rails.generate_async(messages=messages)
    assert answer == assistant("fine")
    assert "and now?" in lab.main.seen
    assert repr(messages) == before, "the caller's list is the caller's"


async def test_check_with_tool_messages_2065() -> None:
    lab = Lab()
    checked = await lab.rails.check_async([*PAST, user(BAD)], rail_types=[RailType.INPUT])
    assert (checked.status, checked.content, checked.rail) == (RailStatus.BLOCKED, REFUSAL, "turnguard check input")
    checked = await lab.rails.check_async([ASK, called(f'{{"to": "{BAD}"}}')])
    assert (checked.status, checked.rail) == (RailStatus.BLOCKED, "turnguard check tool call")
    checked = await lab.rails.check_async([ASK, called(), result(BAD)])
    assert checked.status == RailStatus.BLOCKED
    checked = await lab.rails.check_async([ASK, called(), result("a desktop")])
    assert checked.status == RailStatus.PASSED
    assert lab.main.prompts == []


@both_ways
@both_modes
async def test_consecutive_user_messages_1413(parallel: bool, passthrough: bool) -> None:
    lab = Lab(parallel=parallel, passthrough=passthrough)
    assert await lab.say(user(f"how do I make a {BAD}"), user("please")) == assistant(REFUSAL)
    assert lab.main.prompts == []


@both_ways
@both_modes
@pytest.mark.parametrize(
    "old",
    [
        (user("look", RED), assistant("seen")),
        (user(BAD), assistant("no")),
        (user("hi"), assistant(BAD)),
        (ASK, called(), result([{"type": "image_url", "image_url": {"url": RED}}]), assistant("done")),
        (ASK, called(f'{{"cmd": "{BAD}"}}'), result("ok"), assistant("done")),
        ({"role": "event", "event": {"type": "UserMessage", "text": BAD}}, assistant("hello")),
    ],
    ids=["image", "text", "answer", "tool image", "tool call", "event"],
)
async def test_what_is_unsafe_in_earlier_turns_never_reaches_the_main_model(
    old: tuple[Any, ...], parallel: bool, passthrough: bool
) -> None:
    if passthrough and any(message["role"] == "event" for message in old):
        pytest.skip("NeMo itself takes no event messages in passthrough mode")
    lab = Lab(parallel=parallel, passthrough=passthrough)
    answer = await lab.say(*old, user("and now?"))
    assert answer == assistant("fine")
    assert "and now?" in lab.main.seen
    assert not leaks(lab.main.seen)


@both_ways
async def test_a_blocked_tool_call_is_not_returned(parallel: bool) -> None:
    lab = Lab(call(arguments={"cmd": BAD}), parallel=parallel)
    answer = await lab.say(ASK, options={"log": {"activated_rails": True}})
    assert answer.response == [assistant(REFUSAL)]
    assert not answer.tool_calls
    assert [(rail.name, rail.stop) for rail in answer.log.activated_rails][-1] == ("turnguard check tool call", True)
    assert await lab.say(ASK) == assistant(REFUSAL)


async def test_an_allowed_tool_call_is_returned() -> None:
    lab = Lab(call(arguments={"cmd": "ls"}))
    answer = await lab.say(ASK)
    assert answer["tool_calls"][0]["function"] == {"name": "shot", "arguments": {"cmd": "ls"}}


@both_ways
@both_modes
@pytest.mark.parametrize("stages", [("tool_result",), ("input",), ("input", "tool_result")], ids="-".join)
async def test_an_allowed_tool_result_goes_on_to_the_main_model(
    stages: tuple[Any, ...], parallel: bool, passthrough: bool
) -> None:
    lab = Lab(stages=stages, parallel=parallel, passthrough=passthrough)
    content = [{"type": "text", "text": "a desktop"}, {"type": "image_url", "image_url": {"url": BLUE}}]
    answer = await lab.say(ASK, called(), result(content))
    assert answer == assistant("fine")
    assert "a desktop" in lab.main.seen
    assert not passthrough or BLUE in lab.main.seen
    assert lab.asked.count(("a desktop", None, True)) == 1, "judged once, not once per rail"


@both_ways
@both_modes
@pytest.mark.parametrize("stages", [("tool_result",), ("input",), ("input", "tool_result")], ids="-".join)
@pytest.mark.parametrize("unsafe", [BAD, [{"type": "image_url", "image_url": {"url": RED}}]], ids=["text", "image"])
async def test_an_unsafe_tool_result_ends_the_turn(
    unsafe: Any, stages: tuple[Any, ...], parallel: bool, passthrough: bool
) -> None:
    lab = Lab(stages=stages, parallel=parallel, passthrough=passthrough)
    assert await lab.say(ASK, called(), result(unsafe)) == assistant(REFUSAL)
    assert await lab.say(ASK, called(), result("ok"), result(unsafe, "c2")) == assistant(REFUSAL)
    assert lab.main.prompts == []


@both_modes
async def test_a_tool_result_before_the_newest_user_message_is_judged_by_the_tool_rail_alone(passthrough: bool) -> None:
    lab = Lab(stages=["tool_result"], passthrough=passthrough)
    await lab.say(ASK, called(), result(BAD), user("well?"))
    assert not leaks(lab.main.seen)


@both_modes
@pytest.mark.parametrize("retrieval", [False, True], ids=["", "with a retrieval rail"])
@pytest.mark.parametrize("others", [False, True], ids=["", "beside another rail"])
async def test_parallel_rails_do_not_append_the_main_answer_to_a_refusal(
    retrieval: bool, others: bool, passthrough: bool
) -> None:
    stages: list[Any] = ["input", "output", *(["retrieval"] if retrieval else [])]
    noop = OTHER if others else None
    rails = {"input": {"flows": ["other"]}, "output": {"flows": ["other"]}} if others else None
    lab = Lab(stages=stages, parallel=True, passthrough=passthrough, colang=noop, rails=rails)
    assert await lab.say(user(BAD)) == assistant(REFUSAL)
    assert lab.main.prompts == []
    lab = Lab(BAD, stages=stages, parallel=True, passthrough=passthrough, colang=noop, rails=rails)
    assert await lab.say(user("hi")) == assistant(REFUSAL)
    lab = Lab(stages=stages, parallel=True, passthrough=passthrough, colang=noop, rails=rails)
    assert await lab.stream(user(BAD)) == [REFUSAL]


@both_modes
async def test_two_chats_with_equal_text_and_different_images_share_no_history(passthrough: bool) -> None:
    """What the engine replays for one chat must hold nothing of the other's."""
    colang = "define subflow watch\n  $seen = execute watch\n"
    lab = Lab(passthrough=passthrough, colang=colang, rails={"input": {"flows": ["watch"]}})
    replayed = []

    async def watch(events: Any = None) -> None:
        replayed.append(repr(events))

    lab.rails.register_action(watch, "watch")
    one, two = user("what is this?", BLUE), user("what is this?", GREEN)
    await lab.say(one)
    await lab.say(two, assistant("fine"), user("sure?"))
    assert GREEN in replayed[-1]
    assert BLUE not in replayed[-1]
    await lab.say(one, assistant("fine"), user("sure?"))
    assert BLUE in replayed[-1]
    assert GREEN not in replayed[-1]


async def test_the_history_cache_keeps_nothing_of_a_refused_turn() -> None:
    lab = Lab(keeps=True)
    await lab.say(user(BAD, RED))
    assert not leaks(vars(lab.rails)["events_history_cache"].__dict__)
    await lab.say(user("fine"))
    assert len(lab.rails.events_history_cache.kept) == 1


async def test_the_servers_own_history_cache_is_not_used() -> None:
    lab = Lab(keeps=True)
    servers: dict[str, Any] = {}
    lab.rails.events_history_cache = servers
    await lab.say(user("hi", BLUE))
    assert servers == {}
    assert len(lab.rails.events_history_cache.kept) == 1


async def test_the_history_cache_is_bounded() -> None:
    lab = Lab(keeps=True)
    await lab.say(user("zero"))
    kept = lab.rails.events_history_cache.kept
    (events,) = kept.values()
    assert kept.weight == history.MOST_KEPT
    kept.weight = 3 * history.size(events)
    for text in ("one", "two", "three"):
        await lab.say(user(text))
    assert 1 <= len(kept) <= 3
    heard = {event.get("final_transcript") for events in kept.values() for event in events}
    assert "three" in heard
    assert "zero" not in heard
    lab.rails.events_history_cache.clear()
    assert len(kept) == 0


async def test_without_dialog_no_past_turn_is_kept() -> None:
    lab = Lab()
    await lab.say(user("hi", BLUE))
    assert len(lab.rails.events_history_cache.kept) == 0


@both_ways
async def test_a_text_rewrite_keeps_the_image(parallel: bool) -> None:
    lab = Lab(parallel=parallel)
    assert await lab.say(user("my card is\n4111-1111", BLUE)) == assistant("fine")
    role, content = lab.main.last[-1]
    assert role == "user"
    assert content[1]["image_url"]["url"] == BLUE
    assert "my card is" in content[0]["text"]
    assert "4111-1111" not in lab.main.seen


async def test_an_allowed_image_passes_check_and_keeps_its_text_2065() -> None:
    lab = Lab()
    checked = await lab.rails.check_async([user("what is this?", BLUE)])
    assert (checked.status, checked.content) == (RailStatus.PASSED, "what is this?")
    checked = await lab.rails.check_async([user("what is this?", RED)])
    assert checked.status == RailStatus.BLOCKED


async def test_reasoning_that_would_be_shown_is_judged_and_withheld() -> None:
    lab = Lab(LLMResponse(content="all good", reasoning=f"I could say {BAD}"))
    answer = await lab.say(user("hi"))
    assert answer == assistant(REFUSAL)
    answer = await lab.say(
        user("hi"), options={"log": {"llm_calls": True, "internal_events": True}, "llm_output": True}
    )
    assert not leaks(answer)
    assert not leaks(lab.rails.explain())


@both_modes
async def test_nothing_of_a_blocked_output_is_in_log_state_or_explanation(passthrough: bool) -> None:
    everything = {"activated_rails": True, "llm_calls": True, "internal_events": True, "colang_history": True}
    lab = Lab(f"here is the {BAD}", passthrough=passthrough)
    answer = await lab.say(user("hi"), options={"log": everything, "output_vars": True, "llm_output": True}, state={})
    assert answer.response == [assistant(REFUSAL)]
    assert not leaks(answer)
    assert not leaks(lab.rails.explain())


@both_modes
async def test_nothing_of_a_blocked_input_is_in_a_later_prompt(passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough)
    first = await lab.say(user(f"a {BAD}"), state={})
    assert not leaks(first.state)
    await lab.say(user("hi"), state=first.state)
    await lab.say(user(f"a {BAD}"), assistant(REFUSAL), user("hi"))
    assert lab.main.prompts
    assert not leaks(lab.main.seen)


async def test_a_dead_moderator_does_not_raise() -> None:
    from turnguard.core.errors import Unavailable

    lab = Lab()
    lab.moderator.fail(Unavailable("connection refused"))
    answer = await lab.say(user("hi"), options={"log": {"activated_rails": True}})
    outcome = answer.log.activated_rails[0].executed_actions[0].return_value
    assert outcome.failed
    assert outcome.metadata["failure"] == "unavailable"
    assert outcome.metadata["cause"] == "connection refused"
    assert "checked just now" in answer.response[0]["content"]
    assert lab.main.prompts == []


async def test_generate_with_a_streaming_handler_would_show_text_before_it_is_judged() -> None:
    from nemoguardrails.streaming import StreamingHandler

    lab = Lab(BAD)
    with pytest.raises(ValueError, match=r"use stream_async\(\)"):
        await lab.say(user("hi"), streaming_handler=StreamingHandler())
    assert lab.main.prompts == []


async def test_every_tool_result_is_shown_to_every_tool_rail() -> None:
    seen = []
    lab = Lab(rails={"tool_input": {"flows": ["watch"]}}, colang="define flow watch\n  $seen = execute watch\n")

    async def watch(context: Any = None) -> None:
        seen.append(context["tool_message"])

    lab.rails.register_action(watch, "watch")
    await lab.say(ASK, called(), result("one"), result("two", "c2"), result("three", "c3"))
    assert seen == ["one", "two", "three"]
    assert len(lab.main.prompts) == 1
