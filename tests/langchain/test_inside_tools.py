"""What runs inside a tool, and inside other middleware's hooks around it: heard only where it is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.tools import ToolRuntime
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langchain_core.tracers import _streaming
from langgraph._internal import _constants
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.types import Command

from tests.langchain.kit import UNSAFE, Scripted, Witness, calls, guard, moderator, said, stored
from turnguard.core.errors import Blocked, ConfigError
from turnguard.langchain import TurnguardCallbackHandler, TurnguardMiddleware, guard_model, guard_tool
from turnguard.runtime import sync

pytestmark = [
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
    pytest.mark.filterwarnings("ignore:The `.*` function is in beta"),
]

MODES = ["values", "updates", "messages", "custom", "debug", "tasks"]
SYNC = [*(f"stream:{mode}" for mode in MODES), *(f"stream:{mode}:sub" for mode in MODES), "v3"]
ASYNC = [*(f"astream:{mode}" for mode in MODES), *(f"astream:{mode}:sub" for mode in MODES), "v2", "av3"]
LONG = "word " * 30
BAD = f"{LONG} {UNSAFE} {LONG}"


def factors(how: str, kind: str = "", **rest: str) -> tuple[str, ...]:
    """What a way of streaming and a kind of model are made of, for selections of their product."""
    way, _, mode = how.partition(":")
    mode, _, sub = mode.partition(":")
    what, _, config = kind.partition(" ")
    return (way, mode, sub, what, config, *rest.values())


async def shown(built: Any, how: str, given: Any = None, config: Any = None) -> list[Any]:
    """Everything that a way of streaming shows; less LangChain's own exposure of a tool's raw output."""
    given = said() if given is None else given
    way, _, mode = how.partition(":")
    mode, _, sub = mode.partition(":")
    if way == "stream":
        return list(built.stream(given, config, stream_mode=mode, subgraphs=bool(sub)))
    if way == "astream":
        return [chunk async for chunk in built.astream(given, config, stream_mode=mode, subgraphs=bool(sub))]
    if way == "v2":
        events = [event async for event in built.astream_events(given, config, version="v2")]
        return [event for event in events if event["event"] != "on_tool_end"]
    if way == "v3":
        return [event for event in built.stream_events(given, config, version="v3") if event["method"] != "tools"]
    stream = await built.astream_events(given, config, version="v3")
    return [event async for event in stream if event["method"] != "tools"]


def speaking(text: str = BAD) -> Scripted:
    """A model that nobody guards."""
    return Scripted(script=[text])


def nested(kind: str, text: str, make: Callable[[Any], Any] = lambda model: model, *middleware: Any) -> Any:
    """A tool, in both forms, in which a model or an agent speaks."""
    model = make(speaking(text))
    agent = create_agent(model, [], middleware=list(middleware), name="inner") if "agent" in kind else None

    @tool
    def search(q: str, config: RunnableConfig, runtime: ToolRuntime) -> str:
        """Search."""
        given: Any = {"named": config, "runtime": runtime.config}.get(kind.partition(" ")[2])
        if agent is not None:
            agent.invoke(said(q), given)
        elif kind.startswith("streamed"):
            list(model.stream(q, given))
        else:
            model.invoke(q, given)
        return "found"

    @tool("search")
    async def asearch(q: str, config: RunnableConfig, runtime: ToolRuntime) -> str:
        """Search."""
        given: Any = {"named": config, "runtime": runtime.config}.get(kind.partition(" ")[2])
        if agent is not None:
            await agent.ainvoke(said(q), given)
        elif kind.startswith("streamed"):
            _ = [chunk async for chunk in model.astream(q, given)]
        else:
            await model.ainvoke(q, given)
        return "found"

    return search, asearch


def agent_with(search: Any, *others: Any, judge: Any = None, saver: Any = None, **options: Any) -> Any:
    """A guarded agent that calls the tool once."""
    judged = guard(judge, stream={"window": 20, "max_delay": 0.05})
    ours = TurnguardMiddleware(judged, **options)
    tools = list(search) if isinstance(search, list) else [search]
    model = Scripted(script=[calls("cats"), "Done."])
    return create_agent(model, tools, middleware=[ours, *others], checkpointer=saver)


KINDS = [f"{what}{how}" for what in ("model", "streamed", "agent") for how in ("", " named", " runtime")]


@pytest.mark.pairwise(by=factors)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", SYNC + ASYNC)
async def test_what_an_unguarded_model_says_inside_a_tool_is_not_shown(how: str, kind: str) -> None:
    one, other = nested(kind, BAD)
    seen = await shown(agent_with(one if how in SYNC else other), how)
    assert seen or "custom" in how
    assert UNSAFE not in repr(seen)
    assert "Done." in repr(seen) or "custom" in how


@pytest.mark.pairwise(by=factors)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stream:messages", "stream:values:sub", "astream:messages:sub", "v2", "v3", "av3"])
async def test_a_guarded_tool_shows_nothing_unjudged_either(how: str, kind: str) -> None:
    wrapped = guard_tool(nested(kind, BAD)[how not in SYNC], guard())
    built = create_agent(Scripted(script=[calls("cats"), "Done."]), [wrapped])
    seen = await shown(built, how)
    assert UNSAFE not in repr(seen)
    assert "Done." in repr(seen)
    speaks = guard_tool(nested(kind, "hearken", lambda model: guard_model(model, guard()))[how not in SYNC], guard())
    if "agent" not in kind and "values" not in how:
        seen = await shown(create_agent(Scripted(script=[calls("cats"), "Done."]), [speaks]), how)
        assert "hearken" in repr(seen)


@pytest.mark.parametrize("how", ["stream:custom", "astream:custom"])
async def test_a_guarded_tool_tells_what_was_judged(how: str) -> None:
    for events, expected in (
        (["one", {"done": 1}, "two"], ["one", {"done": 1}, "two"]),
        (["about", UNSAFE, "on"], None),
    ):
        wrapped = guard_tool(telling(*events)[how not in SYNC], guard())
        seen = await shown(create_agent(Scripted(script=[calls("cats"), "Done."]), [wrapped]), how)
        assert UNSAFE not in repr(seen)
        assert expected is None or seen == expected


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2"])
async def test_the_measure_finds_it_without_a_guard(how: str) -> None:
    one, other = nested("model", BAD)
    model = Scripted(script=[calls("cats"), "Done."])
    assert UNSAFE in repr(await shown(create_agent(model, [one if how in SYNC else other]), how))


@pytest.mark.pairwise(by=factors)
@pytest.mark.parametrize("kind", ["model", "streamed", "model named", "model runtime", "streamed named"])
@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2", "v3", "av3"])
async def test_a_guarded_model_inside_a_tool_speaks_in_pieces_as_it_is_judged(how: str, kind: str) -> None:
    inner = guard(stream={"window": 20, "max_delay": 0.05})
    one, other = nested(kind, f"hearken {BAD}", lambda model: guard_model(model, inner))
    seen = repr(await shown(agent_with(one if how in SYNC else other), how))
    assert "hearken" in seen
    assert UNSAFE not in seen


@pytest.mark.parametrize("how", ["stream:messages:sub", "astream:messages:sub", "v2", "v3", "av3"])
async def test_a_guarded_agent_inside_a_tool_speaks_as_it_is_judged(how: str) -> None:
    inner = TurnguardMiddleware(guard(stream={"window": 20, "max_delay": 0.05}), name="inner")
    one, other = nested("agent", f"hearken {BAD}", lambda model: model, inner)
    seen = repr(await shown(agent_with(one if how in SYNC else other), how))
    assert "hearken" in seen
    assert UNSAFE not in seen


@pytest.mark.parametrize(
    "how", ["stream:messages:sub", "astream:messages:sub", "astream:updates:sub", "v2", "v3", "av3"]
)
async def test_an_agent_inside_a_tool_that_leaves_a_check_out_is_not_heard(how: str) -> None:
    inner = TurnguardMiddleware(guard(stream={"window": 20, "max_delay": 0.05}), name="inner", check_output=False)
    one, other = nested("agent", BAD, lambda model: model, inner)
    assert UNSAFE not in repr(await shown(agent_with(one if how in SYNC else other), how))


@pytest.mark.parametrize("mode", ["updates", "values"])
@pytest.mark.parametrize("how", ["stream", "astream"])
async def test_a_guarded_agents_own_states_are_shown_with_subgraphs(how: str, mode: str) -> None:
    inner = TurnguardMiddleware(guard(), name="inner")
    one, other = nested("agent", "hearken", lambda model: model, inner)
    seen = repr(await shown(agent_with(one if how == "stream" else other), f"{how}:{mode}:sub"))
    assert "hearken" in seen


@pytest.mark.parametrize("how", ["v2", "v3", "av3"])
async def test_the_tools_own_events_stay(how: str) -> None:
    one, other = nested("model", BAD)
    built = agent_with(one if how in SYNC else other)
    if how == "v2":
        events = [event async for event in built.astream_events(said(), version="v2")]
        own = [event["event"] for event in events if event["name"] == "search" and event["event"].startswith("on_tool")]
        assert own == ["on_tool_start", "on_tool_end"]
    else:
        if how == "v3":
            protocol = list(built.stream_events(said(), version="v3"))
        else:
            protocol = [event async for event in await built.astream_events(said(), version="v3")]
        own = [event["params"]["data"]["event"] for event in protocol if event["method"] == "tools"]
        assert own == ["tool-started", "tool-finished"]


@pytest.mark.parametrize("guarded_first", [True, False])
@pytest.mark.parametrize("how", ["stream:values:sub", "stream:messages:sub", "astream:updates:sub", "v2", "v3", "av3"])
async def test_of_two_agents_in_one_tool_only_the_guarded_one_is_heard(how: str, guarded_first: bool) -> None:
    good = create_agent(speaking("hearken"), [], middleware=[TurnguardMiddleware(guard(), name="inner")])
    both = [good, create_agent(speaking(), [])]
    if not guarded_first:
        both.reverse()

    @tool
    def search(q: str) -> str:
        """Search."""
        for one in both:
            one.invoke(said(q))
        return "found"

    @tool("search")
    async def asearch(q: str) -> str:
        """Search."""
        for one in both:
            await one.ainvoke(said(q))
        return "found"

    seen = repr(await shown(agent_with(search if how in SYNC else asearch), how))
    assert "hearken" in seen
    assert UNSAFE not in seen


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2", "v3", "av3"])
async def test_parallel_calls_are_hushed_each_on_its_own(how: str) -> None:
    one, other = nested("model", BAD)
    ours = TurnguardMiddleware(guard(stream={"window": 20, "max_delay": 0.05}))
    model = Scripted(script=[calls("a", "b", "c"), "Done."])
    built = create_agent(model, [one if how in SYNC else other], middleware=[ours])
    seen = repr(await shown(built, how))
    assert UNSAFE not in seen
    assert "Done." in seen


async def test_a_run_that_is_cancelled_shows_nothing_more_and_leaves_no_check() -> None:
    judge = moderator(delay=0.3)

    @tool
    async def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        runtime.stream_writer("some words")
        await asyncio.sleep(60)
        return "found"

    model = Scripted(script=[calls("cats"), "Done."])
    windows = {"window": 1, "max_delay": 0.01}
    ours = TurnguardMiddleware(guard(judge, stream=windows), check_input=False, check_output=False)
    built: Any = create_agent(model, [search], middleware=[ours])
    seen: list[Any] = []

    async def read() -> None:
        async for event in built.astream(said(), stream_mode="custom"):
            seen.append(event)

    async def running() -> int:
        return len(asyncio.all_tasks())

    idle = await asyncio.to_thread(sync.run, running())
    task = asyncio.ensure_future(read())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if await asyncio.to_thread(sync.run, running()) == idle:
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("a check outlived its run")
    assert seen == []


@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize("how", ["v2", "v3", "av3"])
async def test_the_tools_of_a_guarded_agent_inside_a_tool_have_their_events(how: str, checks: bool) -> None:
    @tool
    def deep(q: str) -> str:
        """Look deep."""
        return "found"

    inner = create_agent(
        Scripted(script=[calls("cats", tool="deep"), "Done."]),
        [deep],
        middleware=[TurnguardMiddleware(guard(), name="inner", check_output=checks)],
    )

    @tool
    def search(q: str) -> str:
        """Search."""
        return str(inner.invoke(said(q))["messages"][-1].content)

    built = agent_with(search)
    if how == "v2":
        events = [event async for event in built.astream_events(said(), version="v2")]
        own = [event["event"] for event in events if event["name"] == "deep" and event["event"].startswith("on_tool")]
    else:
        if how == "v3":
            protocol = list(built.stream_events(said(), version="v3"))
        else:
            protocol = [event async for event in await built.astream_events(said(), version="v3")]
        events = [event["params"]["data"] for event in protocol if event["method"] == "tools"]
        own = [event["event"] for event in events if event.get("tool_name") == "deep"]
    assert bool(own) is checks


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2"])
async def test_whoever_guards_all_of_it_may_let_it_pass(how: str) -> None:
    one, other = nested("model", "hearken")
    built = agent_with(one if how in SYNC else other, tool_streams="pass")
    assert "hearken" in repr(await shown(built, how))
    with pytest.raises(ConfigError, match="tool_streams"):
        agent_with(one, tool_streams="maybe")


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2"])
async def test_a_model_in_another_middlewares_hook_around_the_tool_is_not_heard(how: str) -> None:
    class Emulating(AgentMiddleware):
        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            speaking().invoke("what would it say?")
            return handler(request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            await speaking().ainvoke("what would it say?")
            return await handler(request)

    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    assert UNSAFE not in repr(await shown(agent_with(search, Emulating()), how))


async def test_other_callbacks_hear_what_runs_inside_a_tool() -> None:
    """They are the developer's own, and may be guards: the handler of ours is one."""
    one, _ = nested("model", "hearken")
    witness = Witness()
    agent_with(one).invoke(said(), {"callbacks": [witness]})
    assert "hearken" in witness.of("on_llm_end")
    unsafe, _ = nested("model", BAD)
    with pytest.raises(Blocked):
        agent_with(unsafe).invoke(said(), {"callbacks": [TurnguardCallbackHandler(guard())]})


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_the_configuration_is_as_it_was_when_the_tool_has_run(way: str) -> None:
    seen: list[Any] = []

    class Looking(AgentMiddleware):
        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            before = dict(request.runtime.config)
            result = handler(request)
            seen.append({key: request.runtime.config[key] is value for key, value in before.items()})
            return result

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            before = dict(request.runtime.config)
            result = await handler(request)
            seen.append({key: request.runtime.config[key] is value for key, value in before.items()})
            return result

    one, other = nested("model", "fine")
    ours = TurnguardMiddleware(guard())
    model = Scripted(script=[calls("cats"), "Done."])
    built = create_agent(model, [one if way == "sync" else other], middleware=[Looking(), ours])
    await shown(built, "stream:messages" if way == "sync" else "astream:messages")
    assert len(seen) == 1
    assert all(seen[0].values())


# ---------------------------------------------------------------- models of other middleware


SUMMARY = f"They spoke of {UNSAFE} things"


def summarised(model: Any, order: str) -> tuple[Any, InMemorySaver]:
    """An agent whose history another middleware sums up in a node of its own."""
    summing: Any = SummarizationMiddleware(model=model, trigger=("messages", 3), keep=("messages", 2))
    ours = TurnguardMiddleware(guard(stream={"window": 20, "max_delay": 0.05}))
    saver = InMemorySaver()
    stack = [summing, ours] if order == "before" else [ours, summing]
    return create_agent(Scripted(script=["Fine."]), [], middleware=stack, checkpointer=saver), saver


HISTORY: Any = {"messages": [("user", "a"), ("ai", "b"), ("user", "c"), ("ai", "d"), ("user", "e")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.mark.pairwise(by=factors)
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("how", SYNC + ASYNC)
async def test_a_guarded_model_of_another_middleware_is_nowhere_unjudged(how: str, order: str) -> None:
    built, saver = summarised(guard_model(Scripted(script=[SUMMARY]), guard()), order)
    seen = await shown(built, how, HISTORY, THREAD)
    assert UNSAFE not in repr(seen) + stored(saver)
    assert "hurt" in stored(saver), "its summary was refused"


@pytest.mark.parametrize("how", ["stream:messages", "stream:updates", "v2", "v3", "av3"])
async def test_the_docs_are_right_about_an_unguarded_one_in_a_node_of_its_own(how: str) -> None:
    built, _ = summarised(Scripted(script=[SUMMARY]), "after")
    assert UNSAFE in repr(await shown(built, how, HISTORY, THREAD))
    assert UNSAFE not in repr(built.get_state(THREAD).values)


@pytest.mark.parametrize("how", ["stream:messages", "astream:messages", "v2", "v3", "av3"])
async def test_one_around_the_model_call_is_not_heard_where_ours_stands_first(how: str) -> None:
    class Choosing(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            speaking().invoke("which tools?")
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await speaking().ainvoke("which tools?")
            return await handler(request)

    for stack in ([TurnguardMiddleware(guard()), Choosing()], [Choosing(), TurnguardMiddleware(guard())]):
        built = create_agent(Scripted(script=["Fine."]), [], middleware=stack)
        assert (UNSAFE in repr(await shown(built, how))) is isinstance(stack[0], Choosing)


# ---------------------------------------------------------------- custom events


def telling(*events: Any) -> Any:
    """A tool, in both forms, that tells its progress."""

    @tool
    def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        for at, event in enumerate(events):
            (runtime.stream_writer if at % 2 else get_stream_writer())(event)
        return "found"

    @tool("search")
    async def asearch(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        for at, event in enumerate(events):
            (runtime.stream_writer if at % 2 else get_stream_writer())(event)
        return "found"

    return search, asearch


CUSTOM = ["stream:custom", "astream:custom", "sync tool astream:custom", "stream:custom:sub", "astream:custom:sub"]


async def told(how: str, *events: Any, **options: Any) -> list[Any]:
    one, other = telling(*events)
    how, threaded = how.removeprefix("sync tool "), how.startswith("sync tool")
    built = agent_with(one if threaded or how in SYNC else other, **options)
    seen = await shown(built, how)
    return [event[1] for event in seen] if how.endswith("sub") else seen


@pytest.mark.parametrize("how", CUSTOM)
async def test_custom_events_of_a_tool_are_shown_once_judged_in_order(how: str) -> None:
    events = [{"done": 0.5}, "reading", {"status": "half"}, "the rest"]
    assert await told(how, *events) == events


@pytest.mark.parametrize("how", CUSTOM)
async def test_an_unsafe_custom_event_is_not_shown_nor_what_follows(how: str) -> None:
    seen = await told(how, "reading", {"page": f"about {UNSAFE} things"}, "more words")
    assert UNSAFE not in repr(seen)
    assert "more words" not in repr(seen)
    assert [event["turnguard"]["action"] for event in seen if isinstance(event, dict)] == ["block"]


@pytest.mark.parametrize("how", CUSTOM)
@pytest.mark.parametrize("form", [str, lambda text: {"token": text}], ids=["plain", "mapping"])
async def test_unsafe_words_do_not_hide_across_events(how: str, form: Any) -> None:
    seen = await told(how, form("some FORB"), form("IDDEN words"))
    assert "IDDEN" not in repr(seen)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_events_of_the_callbacks_own_kind_are_shown_once_judged(kind: str, named: bool) -> None:
    @tool
    def search(q: str, config: RunnableConfig) -> str:
        """Search."""
        for text in ("reading", f"about {UNSAFE} things", "more words"):
            dispatch_custom_event("progress", {"page": text}, config=config if named else None)
        return "found"

    @tool("search")
    async def asearch(q: str, config: RunnableConfig) -> str:
        """Search."""
        for text in ("reading", f"about {UNSAFE} things", "more words"):
            await adispatch_custom_event("progress", {"page": text}, config=config if named else None)
            await asyncio.sleep(0.1)
        return "found"

    seen = await shown(agent_with(search if kind == "sync" else asearch), "v2")
    told_of = [event["data"] for event in seen if event["event"] == "on_custom_event" and event["name"] == "progress"]
    assert told_of == ([{"page": "reading"}] if kind == "async" else [])
    passing = agent_with(search if kind == "sync" else asearch, tool_streams="pass")
    assert "more words" in repr(await shown(passing, "v2"))


@pytest.mark.parametrize("how", ["stream:values", "astream:values"])
async def test_a_call_redirected_to_a_tool_without_arguments_is_judged_too(how: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    @tool("FORBIDDEN")
    def wipe() -> str:
        """Wipe."""
        ran.append("wiped")
        return "gone"

    class Redirecting(AgentMiddleware):
        def _other(self, request: Any) -> Any:
            call = {**request.tool_call, "name": "FORBIDDEN", "args": {}}
            return request.override(tool_call=call, tool=request.runtime.tools[1])

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(self._other(request))

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            return await handler(self._other(request))

    await shown(agent_with([search, wipe], Redirecting()), how)
    assert ran == []


async def test_events_without_words_cost_no_check() -> None:
    judge = moderator()
    assert await told("astream:custom", {"done": 1}, 0.5, judge=judge) == [{"done": 1}, 0.5]
    assert len([exchange for exchange in judge.asked if exchange.stage == "tool_result"]) == 1


async def test_custom_events_pass_where_the_developer_says_so() -> None:
    assert await told("astream:custom", UNSAFE, tool_streams="pass") == [UNSAFE]


# ---------------------------------------------------------------- redirected calls


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("way", ["stream:values", "astream:values"])
async def test_a_call_that_a_reviewer_sends_to_another_tool_is_judged_before_it_runs(
    way: str, order: str, mode: Any
) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(f"search {q}")
        return "found"

    @tool
    def publish(q: str) -> str:
        """Publish."""
        ran.append(f"publish {q}")
        return "published"

    if mode == "per_call" and "interrupt_mode" not in HumanInTheLoopMiddleware.__init__.__annotations__:
        pytest.skip("this langchain has no per_call mode")
    human: Any = HumanInTheLoopMiddleware({"search": True}, **({"interrupt_mode": mode} if mode == "per_call" else {}))
    ours = TurnguardMiddleware(guard())
    model = Scripted(script=[calls("cats"), "Done."])
    for text, expected in ((f"{UNSAFE} now", []), ("kittens", ["publish kittens"])):
        built = create_agent(
            Scripted(script=model.script),
            [search, publish],
            middleware=[human, ours] if order == "before" else [ours, human],
            checkpointer=InMemorySaver(),
        )
        config: Any = {"configurable": {"thread_id": text}}
        await shown(built, way, config=config)
        (one,) = built.get_state(config).interrupts
        edited = {"type": "edit", "edited_action": {"name": "publish", "args": {"q": text}}}
        if mode == "per_call":
            edited["edited_action"]["name"] = "search"  # type: ignore[index]
            expected = [said_of.replace("publish", "search") for said_of in expected]
        resume: Any = {"decisions": [edited]} if mode == "batched" else {one.id: edited}
        seen = await shown(built, way, Command(resume=resume), config)
        assert ran == expected
        assert "Done." in repr(seen)
        ran.clear()


@pytest.mark.parametrize("way", ["stream:values", "astream:values"])
async def test_a_call_that_an_inner_middleware_sends_to_another_tool_is_judged_before_it_runs(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    @tool
    def publish(q: str) -> str:
        """Publish."""
        ran.append(q)
        return "published"

    class Redirecting(AgentMiddleware):
        def _other(self, request: Any) -> Any:
            call = {**request.tool_call, "name": "publish", "args": {"q": f"{UNSAFE} now"}}
            found: BaseTool = next(one for one in request.runtime.tools if one.name == "publish")
            return request.override(tool_call=call, tool=found)

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(self._other(request))

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            return await handler(self._other(request))

    await shown(agent_with([search, publish], Redirecting()), way)
    assert ran == []


@pytest.mark.parametrize("changed", ["renamed", "gone", "marked otherwise"])
def test_a_langgraph_that_streams_in_another_way_is_refused_with_a_sentence(
    changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if changed == "renamed":
        monkeypatch.setattr(_constants, "CONFIG_KEY_STREAM", "__other_stream")
    elif changed == "gone":
        monkeypatch.delattr(_constants, "CONFIG_KEY_RUNTIME")
    else:
        monkeypatch.delattr(_streaming._StreamingCallbackHandler, "tap_output_iter")

    @tool
    def speak(q: str) -> str:
        """Speak."""
        return q

    makers: list[Callable[[], object]] = [lambda: TurnguardMiddleware(guard()), lambda: guard_tool(speak, guard())]
    for make in makers:
        with pytest.raises(ConfigError, match="cannot be held with this langgraph"):
            make()
    TurnguardMiddleware(guard(), tool_streams="pass")
