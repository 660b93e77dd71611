"""Nothing is shown that was not judged: every way to stream an agent, and a guarded model alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said
from tests.ticks import ticking
from turnguard import Guard, Policy
from turnguard.config.settings import ModeratorSettings
from turnguard.core.errors import Unavailable
from turnguard.langchain import TurnguardMiddleware, guard_model
from turnguard.testing import FakeModerator

LONG = "word " * 30
MODES = ["values", "updates", "messages", "custom", "debug", "tasks"]


@tool
def search(q: str) -> str:
    """Search."""
    return f"result of {q}"


def agent(*script: Any, pause: float = 0.0, **options: Any) -> tuple[Any, Scripted]:
    model = Scripted(script=list(script), pause=pause)
    first = options.pop("middleware", [])
    tools = options.pop("tools", [search])
    stream = options.pop("stream", {"window": 20, "max_delay": 0.05})
    middleware = TurnguardMiddleware(guard(stream=stream, **options))
    return create_agent(model, tools, middleware=[middleware, *first]), model


async def streamed(built: Any, how: str, text: Any = "Hello") -> list[Any]:
    """Everything that a way of streaming shows."""
    way, _, mode = how.partition(":")
    if way == "stream":
        return list(built.stream(said(text), stream_mode=mode))
    if way == "astream":
        return [chunk async for chunk in built.astream(said(text), stream_mode=mode)]
    if way == "v2":
        return [event async for event in built.astream_events(said(text), version="v2")]
    if way == "v3":
        return list(built.stream_events(said(text), version="v3"))
    return [event async for event in await built.astream_events(said(text), version="v3")]


pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")

WAYS = [*(f"stream:{mode}" for mode in MODES), *(f"astream:{mode}" for mode in MODES), "v2", "v3", "av3"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([f"{LONG} {UNSAFE} {LONG}"], id="text"),
        pytest.param([AIMessage("Fine.", additional_kwargs={"reasoning_content": f"{LONG} {UNSAFE}"})], id="reasoning"),
        pytest.param([calls("cats", f"{LONG} {UNSAFE}", text="Let me look."), "Done."], id="arguments"),
        pytest.param([AIMessage([{"type": "text", "text": f"{LONG} {UNSAFE}"}])], id="blocks"),
        pytest.param(
            [AIMessage([{"type": "reasoning", "reasoning": f"{LONG} {UNSAFE}"}, {"type": "text", "text": "Fine."}])],
            id="reasoning-block",
        ),
    ],
)
async def test_no_way_of_streaming_shows_what_was_not_judged(how: str, script: list[Any]) -> None:
    built, _ = agent(*script)
    shown = await streamed(built, how)
    assert shown or how.endswith("custom")
    assert UNSAFE not in repr(shown)


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages"])
async def test_the_refusal_is_the_last_chunk_and_state_holds_it_alone(how: str) -> None:
    built, _ = agent(f"{LONG} {UNSAFE} {LONG}")
    shown = [chunk for chunk, _ in await streamed(built, how) if isinstance(chunk, (AIMessage, AIMessageChunk))]
    state = built.invoke(said())
    refusal = state["messages"][-1].content
    assert str(shown[-1].content) == refusal
    assert "word" in "".join(str(chunk.content) for chunk in shown)
    assert len({chunk.id for chunk in shown}) == 1
    values = built.stream(said(), stream_mode=["messages", "values"])
    assert [chunk for mode, chunk in values if mode == "values"][-1]["messages"][-1].content == refusal


async def test_the_shown_prefix_is_kept_where_asked_for() -> None:
    built, _ = agent(f"{LONG} {UNSAFE} {LONG}", stream={"window": 20, "max_delay": 0.05, "keep_shown_prefix": True})
    last = [
        chunk async for mode, chunk in built.astream(said(), stream_mode=["messages", "values"]) if mode == "values"
    ][-1]
    final = last["messages"][-1].content
    assert final.startswith("word word")
    assert UNSAFE not in final
    assert "hurt" in final


@pytest.mark.parametrize("tools", [[], [search]], ids=["no-tools", "tools"])
@pytest.mark.parametrize("how", ["stream:messages", "astream:messages"])
async def test_a_safe_stream_is_whole_and_in_small_pieces(how: str, tools: list[Any]) -> None:
    built, _ = agent(LONG, tools=tools)
    shown = [str(chunk.content) for chunk, _ in await streamed(built, how)]
    assert "".join(shown) == LONG
    assert len(shown) > 20


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages"])
async def test_safe_arguments_are_streamed_too(how: str) -> None:
    built, _ = agent(calls("cats and dogs"), "Done.")
    chunks = [chunk for chunk, _ in await streamed(built, how) if isinstance(chunk, AIMessageChunk)]
    args = "".join(piece["args"] or "" for chunk in chunks for piece in chunk.tool_call_chunks)
    assert args == '{"q": "cats and dogs"}'


class Whole(Scripted):
    """A model that cannot stream."""

    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2", "v3", "av3"])
async def test_a_model_that_cannot_stream_is_shown_whole_once_judged(how: str) -> None:
    for script in ([calls("cats", text="Let me look."), "Done."], [f"Well {UNSAFE}"], [calls(UNSAFE), "Done."]):
        middleware = TurnguardMiddleware(guard())
        built = create_agent(Whole(script=script), [search], middleware=[middleware])
        shown = await streamed(built, how)
        assert UNSAFE not in repr(shown)
        assert "Done." in repr(shown) or "hurt" in repr(shown)


async def test_text_waits_no_longer_than_the_bound() -> None:
    """Into a window that never fills, each word is shown within max_delay and the checks before it, not at the end."""
    check, max_delay, slack = 0.02, 0.1, 0.5
    model = Scripted(script=["one two three four five six seven eight nine ten"], pause=0.05)
    guarded = guard_model(model, guard(moderator(delay=check), stream={"window": 10_000, "max_delay": max_delay}))
    waits: list[float] = []
    async for chunk in guarded.astream("Hello"):
        if chunk.content:
            waits.append(time.monotonic() - model.times[len(waits)])
    assert len(waits) == 10
    assert max(waits) <= max_delay + 2 * check + slack


async def test_the_next_check_overlaps_generation() -> None:
    judge = moderator(delay=0.1)
    model = Scripted(script=["word " * 40], pause=0.01)
    guarded = guard_model(model, guard(judge, stream={"window": 20, "max_delay": 1.0}))
    first_shown_at = 0
    async for chunk in guarded.astream("Hello"):
        if chunk.content and not first_shown_at:
            first_shown_at = len(model.said)
    assert first_shown_at > 8, "the model went on speaking while the first window was judged"


async def test_a_blocked_stream_stops_the_model() -> None:
    model = Scripted(script=[f"{LONG} {UNSAFE} " + LONG * 20], pause=0.002)
    guarded = guard_model(model, guard(stream={"window": 20, "max_delay": 0.05}))
    chunks = [chunk async for chunk in guarded.astream("Hello")]
    assert UNSAFE not in repr(chunks)
    assert len(model.said) < 400


async def test_a_fallback_model_of_another_middleware_does_not_speak_unjudged() -> None:
    fallback = Scripted(script=[f"{LONG} {UNSAFE}"])
    built, _ = agent(RuntimeError("down"), middleware=[ModelFallbackMiddleware(fallback)])
    for how in ("stream:messages", "astream:messages", "v2", "v3", "av3"):
        shown = await streamed(built, how)
        assert UNSAFE not in repr(shown), how


async def test_a_moderator_that_fails_in_the_middle_ends_the_stream() -> None:
    judge = moderator()
    model = Scripted(script=["word " * 60], pause=0.002)
    guarded = guard_model(model, guard(judge, stream={"window": 50, "max_delay": 0.5}))
    shown = []
    async for chunk in guarded.astream("Hello"):
        shown.append(str(chunk.content))
        judge.fail(Unavailable("gone"))
    assert len("".join(shown[:-1])) < 250
    assert "problem" in shown[-1]


SAFE_CALL = calls("cats and dogs")
DEADLINE = 0.8
LATE = 1.8 * DEADLINE
"""Two deadlines were longer. How late one is, the fault cells measure."""


def _hanging(**policy: Any) -> tuple[Any, Any, list[str]]:
    """An agent whose moderator answers no tool call before the deadline; the moderator; and what the tool was asked."""
    judge = moderator()
    ran: list[str] = []

    async def hang(exchange: Any, until: Any) -> Any:
        if "cats" in (exchange.response or ""):
            judge.asked.append(exchange)
            await asyncio.sleep(60)
        return await FakeModerator.judge(judge, exchange, until)

    judge.judge = hang  # type: ignore[method-assign, assignment]

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return "found"

    settings = ModeratorSettings(deadline=DEADLINE)
    hanging = Guard(Policy.from_dict(policy), judge, moderator_settings=settings)
    built = create_agent(Scripted(script=[SAFE_CALL, "Done."]), [search], middleware=[TurnguardMiddleware(hanging)])
    return built, judge, ran


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2"])
async def test_a_streamed_call_that_cannot_be_checked_is_decided_within_one_deadline(how: str) -> None:
    built, judge, ran = _hanging()
    async with ticking() as ticks:
        shown = await streamed(built, how)
    assert ticks.seconds < LATE
    assert ran == []
    assert "could not be checked" in repr(shown)
    assert len([exchange for exchange in judge.asked if "cats" in (exchange.response or "")]) == 1


@pytest.mark.parametrize("action", ["flag", "allow"])
async def test_a_failure_that_the_policy_lets_pass_is_waited_for_once_while_it_streams(action: str) -> None:
    judge = _hanging(on_failure=action)[1]
    model = Scripted(script=[SAFE_CALL])
    policy = Policy.from_dict({"on_failure": action})
    guarded = guard_model(model, Guard(policy, judge, moderator_settings=ModeratorSettings(deadline=DEADLINE)))
    async with ticking() as ticks:
        shown = [chunk async for chunk in guarded.astream("Hello")]
    assert ticks.seconds < LATE
    assert "cats and dogs" in "".join(piece["args"] or "" for chunk in shown for piece in chunk.tool_call_chunks)
    assert len([exchange for exchange in judge.asked if "cats" in (exchange.response or "")]) == 1


async def test_a_moderator_that_recovers_in_time_is_asked_about_the_whole_call() -> None:
    built, judge, ran = _hanging()
    failed: list[Any] = []

    async def once(exchange: Any, until: Any) -> Any:
        if "cats" in (exchange.response or "") and not failed:
            failed.append(exchange)
            raise Unavailable("gone")
        return await FakeModerator.judge(judge, exchange, until)

    judge.judge = once
    await streamed(built, "astream:messages")
    assert failed
    assert ran == ["cats and dogs"]


async def test_a_second_failure_within_the_deadline_lets_nothing_run() -> None:
    built, judge, ran = _hanging()
    failed: list[Any] = []

    async def first_gone_then_hanging(exchange: Any, until: Any) -> Any:
        if "cats" in (exchange.response or ""):
            failed.append(exchange)
            if len(failed) == 1:
                await asyncio.sleep(0.2)
                raise Unavailable("gone")
            await asyncio.sleep(60)
        return await FakeModerator.judge(judge, exchange, until)

    judge.judge = first_gone_then_hanging
    async with ticking() as ticks:
        shown = await streamed(built, "astream:messages")
    assert ticks.seconds < LATE
    assert len(failed) == 2
    assert ran == []
    assert "could not be checked" in repr(shown)


async def test_cancelling_a_stream_cancels_the_model_and_leaves_no_task() -> None:
    model = Scripted(script=["word " * 500], pause=0.005)
    guarded = guard_model(model, guard(stream={"window": 20, "max_delay": 0.05}))

    async def read() -> None:
        async for _ in guarded.astream("Hello"):
            pass

    before = len(asyncio.all_tasks())
    task = asyncio.ensure_future(read())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.02)
    assert model.cancelled
    assert len(asyncio.all_tasks()) == before


async def test_an_error_of_the_model_is_the_callers_to_see() -> None:
    guarded = guard_model(Scripted(script=[RuntimeError("broken")]), guard())
    with pytest.raises(RuntimeError, match="broken"):
        async for _ in guarded.astream("Hello"):
            pass
    with pytest.raises(RuntimeError, match="broken"):
        list(guarded.stream("Hello"))


async def test_the_empty_deltas_of_a_server_are_no_words_of_an_answer() -> None:
    judge = moderator()
    closed: list[bool] = []

    async def deltas() -> Any:
        try:
            for delta in (None, "", "Fine", None, ".", None):
                yield delta
        finally:
            closed.append(True)

    stream = guard(judge).astream(deltas(), prompt="Hello")
    assert [chunk async for chunk in stream] == ["", "Fine", "."]
    assert judge.asked[-1].response == "Fine."
    assert closed
