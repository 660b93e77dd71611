"""What a tool gives back is heard by nobody before it is judged, and what the host puts in is judged nowhere."""

from __future__ import annotations

import contextvars
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import InjectedToolArg, StructuredTool, tool
from langchain_core.tracers.context import register_configure_hook
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import push_message
from langgraph.graph.ui import push_ui_message, ui_message_reducer

from tests.langchain.kit import UNSAFE, Scripted, Witness, calls, guard, moderator, said, stored
from turnguard.langchain import TurnguardMiddleware, guard_tool

WAYS = ("sync", "async")


def raw(kind: str) -> Any:
    """A tool whose result, artifact or error is unsafe."""

    def search(q: str) -> Any:
        """Search."""
        if kind == "error":
            raise ValueError(f"page {UNSAFE}")
        return ("fine", {"page": UNSAFE}) if kind == "artifact" else f"page {UNSAFE}"

    async def asearch(q: str) -> Any:
        return search(q)

    form: Any = "content_and_artifact" if kind == "artifact" else "content"
    return StructuredTool.from_function(search, asearch, name="search", response_format=form)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["text", "artifact", "error"])
async def test_no_handler_hears_a_result_before_it_is_judged(kind: str, way: str) -> None:
    listening: contextvars.ContextVar[BaseCallbackHandler | None] = contextvars.ContextVar("listening", default=None)
    register_configure_hook(listening, inheritable=True)
    hook, witness = Witness(), Witness()
    token = listening.set(hook)
    try:
        model = Scripted(script=[calls("cats"), "Done."])
        agent = create_agent(model, [raw(kind)], middleware=[TurnguardMiddleware(guard())])
        config: Any = {"callbacks": [witness]}
        result = await agent.ainvoke(said(), config) if way == "async" else agent.invoke(said(), config)
        alone = guard_tool(raw(kind), guard())
        given: Any = {"name": "search", "args": {"q": "x"}, "id": "1", "type": "tool_call"}
        answer = await alone.ainvoke(given, config) if way == "async" else alone.invoke(given, config)
    finally:
        listening.reset(token)
    assert "withheld" in str(result["messages"][2].content)
    assert "withheld" in str(answer.content)
    for heard in (hook, witness):
        assert heard.of("on_tool_end")
        assert UNSAFE not in repr(heard.seen)


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_events_of_tools_show_what_was_judged(version: Any, way: str) -> None:
    agent: Any = create_agent(
        Scripted(script=[calls("cats"), "Done."]), [raw("text")], middleware=[TurnguardMiddleware(guard())]
    )
    if way == "async":
        events = agent.astream_events(said(), version=version)
        seen = [event async for event in (await events if version == "v3" else events)]
    elif version == "v3":
        seen = list(agent.stream_events(said(), version=version))
    else:
        pytest.skip("v2 events are asynchronous alone")
    assert "withheld" in repr(seen)
    assert UNSAFE not in repr(seen)


@pytest.mark.parametrize("text", ["a chart", f"{UNSAFE} chart"])
@pytest.mark.parametrize("way", WAYS)
async def test_what_a_tool_pushes_is_kept_and_shown_once_it_is_judged(way: str, text: str) -> None:
    from langchain.agents import AgentState

    class State(AgentState[Any]):
        ui: Annotated[list[Any], ui_message_reducer]

    @tool
    def search(q: str) -> str:
        """Search."""
        push_ui_message("card", {"content": text})
        push_message(AIMessage(text, id="pushed"))
        return "fine"

    saver = InMemorySaver()
    agent: Any = create_agent(
        Scripted(script=[calls("cats"), "Done."]),
        [search],
        middleware=[TurnguardMiddleware(guard())],
        state_schema=State,
        checkpointer=saver,
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    modes: Any = ["messages", "custom", "values", "updates"]
    if way == "async":
        seen = [part async for part in agent.astream(said(), config, stream_mode=modes)]
    else:
        seen = list(agent.stream(said(), config, stream_mode=modes))
    everything = repr(seen) + stored(saver)
    assert UNSAFE not in everything
    assert ("a chart" in everything) == (text == "a chart")
    state = agent.get_state(config).values
    assert len(state.get("ui", [])) == (text == "a chart")


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@pytest.mark.parametrize("text", ["half a page", f"{UNSAFE} page"])
def test_partial_output_is_shown_once_it_is_judged(text: str) -> None:
    @tool
    def search(q: str, runtime: ToolRuntime) -> str:
        """Search."""
        runtime.emit_output_delta({"text": text})
        return "fine"

    agent: Any = create_agent(
        Scripted(script=[calls("cats"), "Done."]), [search], middleware=[TurnguardMiddleware(guard())]
    )
    seen = repr(list(agent.stream_events(said(), version="v3")))
    assert UNSAFE not in seen
    assert ("half a page" in seen) == (text == "half a page")


def from_mcp(seen: list[Any]) -> StructuredTool:
    """A tool as langchain-mcp-adapters makes it: its schema is JSON, and its function takes a runtime beside."""

    async def call_tool(runtime: Annotated[object | None, InjectedToolArg()] = None, **arguments: Any) -> Any:
        seen.append((runtime, arguments))
        return [{"type": "text", "text": "fine"}], None

    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    return StructuredTool(
        name="search",
        description="Search.",
        args_schema=schema,
        coroutine=call_tool,
        response_format="content_and_artifact",
    )


def with_runtime(seen: list[Any]) -> StructuredTool:
    """The same with a runtime by its type."""

    async def call_tool(runtime: ToolRuntime, **arguments: Any) -> Any:
        seen.append((runtime, arguments))
        return [{"type": "text", "text": "fine"}], None

    made = from_mcp(seen)
    return made.model_copy(update={"coroutine": call_tool})


@pytest.mark.parametrize("make", [from_mcp, with_runtime])
@pytest.mark.parametrize("how", ["middleware", "guard_tool"])
async def test_what_is_put_into_a_tool_with_a_json_schema_is_not_sent_to_the_moderator(make: Any, how: str) -> None:
    judge = moderator()
    seen: list[Any] = []
    built = make(seen)
    middleware = [TurnguardMiddleware(guard(judge))] if how == "middleware" else []
    tools = [built if middleware else guard_tool(built, guard(judge))]
    agent: Any = create_agent(Scripted(script=[calls("cats"), "Done."]), tools, middleware=middleware)
    await agent.ainvoke({"messages": [HumanMessage("Hello")]}, {"configurable": {"secret": "hunter2"}})
    ((_, arguments),) = seen
    assert arguments == {"q": "cats"}
    asked = repr([(exchange.prompt, exchange.response) for exchange in judge.asked])
    assert "cats" in asked
    for word in ("hunter2", "ToolRuntime", "HumanMessage", "configurable"):
        assert word not in asked
    stages = [exchange.stage for exchange in judge.asked]
    # a tool with a JSON schema comes from outside the application: its definition is judged, too
    assert stages == (
        ["input", "tools", "tool_call", "tool_result", "output"] if middleware else ["tool_call", "tool_result"]
    )
