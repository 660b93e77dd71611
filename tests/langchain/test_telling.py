"""What a tool tells, leaves running, and raises: events of many shapes, work in the background, errors with more in
them than their text.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said, stored
from tests.langchain.test_inside_tools import agent_with, shown, speaking, told
from turnguard.langchain import TurnguardMiddleware, guard_tool

WAYS = ["stream:custom", "astream:custom"]


# ---------------------------------------------------------------- events


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "form",
    [
        lambda text: {"type": "token", "content": text},
        lambda text: ("token", text),
        lambda text: {"type": "token", "data": {"by": "searcher", "words": [text]}},
    ],
    ids=["mapping", "pair", "deep"],
)
async def test_unsafe_words_do_not_hide_across_events_of_several_strings(how: str, form: Callable[[str], Any]) -> None:
    seen = await told(how, form("some FORB"), form("IDDEN words"))
    assert "IDDEN" not in repr(seen)
    seen = await told(how, form("some fair"), form(" words"))
    assert seen == [form("some fair"), form(" words")]


@pytest.mark.parametrize("how", WAYS)
async def test_an_event_is_shown_as_it_was_judged(how: str) -> None:
    """A tool may write into its own object while the check of it runs."""

    @tool
    def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        state: dict[str, Any] = {"pages": ["safe words that fill a window at once"]}
        runtime.stream_writer(state)
        time.sleep(0.1)
        state["pages"][0] = UNSAFE
        return "found"

    seen = await shown(agent_with(search, judge=moderator(delay=0.2)), how)
    assert seen == [{"pages": ["safe words that fill a window at once"]}]


class Stage(enum.Enum):
    """Where a tool stands."""

    READING = 1
    BAD = UNSAFE


@pytest.mark.parametrize("how", WAYS)
async def test_times_ids_and_numbers_of_all_kinds_hold_no_words(how: str) -> None:
    at = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    events: list[Any] = [
        {"at": at, "took": timedelta(seconds=2)},
        [UUID(int=7), Decimal("1.5"), date(2026, 11, 22)],
        Stage.READING,
        {"at": at, "status": "reading", "id": UUID(int=7)},
    ]
    judge = moderator()
    assert await told(how, *events, judge=judge) == events
    assert len([exchange for exchange in judge.asked if exchange.stage == "tool_result"]) == 2, "status and result"
    assert UNSAFE not in repr(await told(how, {"stage": Stage.BAD}))


@pytest.mark.parametrize("how", WAYS)
async def test_a_tool_may_tell_more_than_one_check_can_hold(how: str) -> None:
    """A check of all of it would be longer than the moderator's windows allow, and count as one that cannot be made."""
    page = "a quiet page of words " * 200
    judge = moderator()

    def told_of(*texts: str) -> Any:
        @tool
        def search(q: str, runtime: ToolRuntime) -> str:
            """Search."""
            for text in texts:
                runtime.stream_writer(text)
                time.sleep(0.02)
            return "found"

        return agent_with(search, judge=judge)

    assert await shown(told_of(*[page] * 60), how) == [page] * 60
    for seam in (30, 59):
        texts = [*[page] * seam, f"{page} FORB", f"IDDEN {page}", "the end"]
        seen = await shown(told_of(*texts), how)
        assert page in seen
        assert "IDDEN" not in repr(seen)
        assert "the end" not in seen


@pytest.mark.parametrize("how", WAYS)
async def test_threads_of_a_tool_tell_in_its_place(how: str) -> None:
    @tool
    def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""

        def count() -> None:
            for at in range(20):
                runtime.stream_writer({"done": at})

        telling = [threading.Thread(target=count), threading.Thread(target=runtime.stream_writer, args=("reading",))]
        for thread in telling:
            thread.start()
        for thread in telling:
            thread.join()
        late = threading.Timer(0.05, runtime.stream_writer, (f"late {UNSAFE}",))
        late.start()
        return "found"

    model = Scripted(script=[calls("cats"), "Done."], pause=0.1)
    built = create_agent(model, [search], middleware=[TurnguardMiddleware(guard())])
    seen = await shown(built, how)
    assert [event for event in seen if event != "reading"] == [{"done": at} for at in range(20)]
    assert "reading" in seen


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_guarded_tool_outside_a_graph_tells_its_own_runtime(way: str) -> None:
    @tool
    def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        runtime.stream_writer("reading")
        runtime.stream_writer(f"about {UNSAFE}")
        return "found"

    heard: list[Any] = []
    runtime: Any = ToolRuntime(
        state={}, context=None, config={}, stream_writer=heard.append, tool_call_id="1", store=None
    )
    wrapped = guard_tool(search, guard(stream={"window": 5}))
    call: Any = {"name": "search", "args": {"q": "cats", "runtime": runtime}, "id": "1", "type": "tool_call"}
    answer = await wrapped.ainvoke(call) if way == "async" else wrapped.invoke(call)
    assert answer.content == "found"
    assert UNSAFE not in repr(heard)


# ---------------------------------------------------------------- what goes on when the tool has returned


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("how", ["astream:messages", "astream:values:sub", "v2"])
async def test_what_a_tool_leaves_running_is_not_heard_later(how: str, wrapped: bool) -> None:
    left: list[Any] = []

    @tool
    async def search(q: str, runtime: ToolRuntime, config: RunnableConfig) -> str:
        """Search."""

        async def later(given: Any) -> None:
            await asyncio.sleep(0.05)
            runtime.stream_writer(UNSAFE)
            await speaking().ainvoke("What is it?", given)
            await create_agent(speaking(), []).ainvoke(said("What is it?"), given)

        left.extend(asyncio.ensure_future(later(given)) for given in (runtime.config, config, None))
        return "found"

    model = Scripted(script=[calls("cats"), "All of it is done."], pause=0.1)
    if wrapped:
        built: Any = create_agent(model, [guard_tool(search, guard())])
    else:
        built = create_agent(model, [search], middleware=[TurnguardMiddleware(guard())])
    seen = repr(await shown(built, how))
    await asyncio.gather(*left)
    assert UNSAFE not in seen
    assert "done." in seen


# ---------------------------------------------------------------- errors


class Silent(Exception):
    """Has no text, and shows what it holds all the same."""

    def __str__(self) -> str:
        return ""


class Telltale(Exception):
    """Shows what it holds to whoever prints it."""

    def __init__(self, page: str) -> None:
        super().__init__("failed")
        self.page = page

    def __repr__(self) -> str:
        return f"Telltale({self.page})"


def _caused(text: str) -> Exception:
    error = ValueError("failed")
    error.__cause__ = ValueError(text)
    return error


@pytest.mark.parametrize("how", ["stream:tasks", "astream:debug"])
@pytest.mark.parametrize(
    "make",
    [Silent, Telltale, _caused, lambda text: ExceptionGroup("several", [ExceptionGroup("inner", [ValueError(text)])])],
    ids=["silent", "repr", "cause", "group"],
)
async def test_an_error_is_judged_by_all_that_a_reader_of_it_sees(how: str, make: Callable[[str], Exception]) -> None:
    def failing(text: str) -> Any:
        @tool
        def search(q: str) -> str:
            """Search."""
            raise make(text)

        return search

    saver = InMemorySaver()
    thread = {"configurable": {"thread_id": "1"}}
    seen = await shown(agent_with(failing(UNSAFE), saver=saver), how, config=thread)
    assert UNSAFE not in repr(seen) + stored(saver)
    with pytest.raises(type(make("harmless"))):
        await shown(agent_with(failing("harmless")), how)
