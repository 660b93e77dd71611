"""Graphs of several agents: a supervisor and a swarm, guarded at the graph's entrance and in each agent."""

from __future__ import annotations

import asyncio
import warnings
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, said, stored
from turnguard.langchain import TurnguardMiddleware, guard_model, guard_node


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    return str(request.param)


async def go(built: Any, way: str, given: Any, config: Any = None) -> Any:
    return await (asyncio.to_thread(built.invoke, given, config) if way == "sync" else built.ainvoke(given, config))


@tool
def search(q: str) -> str:
    """Search."""
    return f"page {UNSAFE}" if q == "bad" else f"found {q}"


def worker(name: str, model: Scripted, *tools: Any) -> Any:
    """A guarded agent with a name."""
    return create_agent(model, [search, *tools], name=name, middleware=[TurnguardMiddleware(guard())])


def transfer(name: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": f"transfer_to_{name}", "args": {}, "id": f"to-{name}"}])


def supervised(head: Scripted, hand: Scripted) -> Any:
    supervisor = pytest.importorskip("langgraph_supervisor", reason="langgraph-supervisor is not installed")
    agents = [worker("hand", hand)]
    with warnings.catch_warnings():  # it still makes its agent by LangGraph's deprecated function
        warnings.simplefilter("ignore", DeprecationWarning)
        made = supervisor.create_supervisor(agents, model=guard_model(head, guard()), output_mode="full_history")
    return made.compile()


def swarming(head: Scripted, hand: Scripted) -> Any:
    swarm = pytest.importorskip("langgraph_swarm", reason="langgraph-swarm is not installed")
    agents = [
        worker("head", head, swarm.create_handoff_tool(agent_name="hand")),
        worker("hand", hand, swarm.create_handoff_tool(agent_name="head")),
    ]
    return swarm.create_swarm(agents, default_active_agent="head").compile()


MAKERS = pytest.mark.parametrize("make", [supervised, swarming])


def behind(inner: Any, saver: Any = None) -> Any:
    """A graph with our node in front of another graph."""
    built = StateGraph(MessagesState)
    built.add_node("judge", guard_node(guard(), then="inner"), destinations=("inner", END))
    built.add_node("inner", inner)
    built.add_edge(START, "judge")
    built.add_edge("inner", END)
    return built.compile(checkpointer=saver)


@MAKERS
async def test_a_safe_turn_goes_through_all_agents(way: str, make: Any) -> None:
    head, hand = Scripted(script=[transfer("hand"), "All done."]), Scripted(script=[calls("cats"), "Hand done."])
    state = await go(behind(make(head, hand)), way, said())
    contents = [message.content for message in state["messages"]]
    assert "found cats" in contents
    assert "Hand done." in contents
    assert not any("turnguard" in message.response_metadata for message in state["messages"])


@MAKERS
@pytest.mark.parametrize("given", [HumanMessage(UNSAFE), HumanMessage(UNSAFE, id="1"), ("user", UNSAFE)], ids=str)
async def test_a_blocked_input_is_replaced_and_reaches_no_agent(way: str, make: Any, given: Any) -> None:
    saver, head = InMemorySaver(), Scripted(script=["Fine."])
    built = behind(make(head, Scripted(script=["Fine."])), saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await go(built, way, {"messages": [given]}, config)
    assert head.prompts == []
    assert UNSAFE not in repr(state)
    assert len(state["messages"]) == 2
    await go(built, way, {"messages": [("user", "And now?")]}, config)
    assert UNSAFE not in repr(head.prompts)
    assert UNSAFE not in repr(built.get_state(config))


@MAKERS
async def test_what_an_agent_brings_is_judged_in_that_agent(way: str, make: Any) -> None:
    head = Scripted(script=[transfer("hand"), "All done."])
    hand = Scripted(script=[calls("bad", UNSAFE), f"It says {UNSAFE}."])
    saver = InMemorySaver()
    state = await go(behind(make(head, hand), saver), way, said(), {"configurable": {"thread_id": "1"}})
    assert UNSAFE not in repr(state) + repr(head.prompts) + repr(hand.prompts) + stored(saver)
    answered = {message.tool_call_id for message in state["messages"] if message.type == "tool"}
    assert {"call-0", "call-1", "to-hand"} <= answered


def joined(left: list[Any], right: list[Any]) -> list[Any]:
    """A reducer that names no message, and knows what removes them all."""
    return list(right[1:]) if right and right[0].type == "remove" else [*left, *right]


class Unnamed(TypedDict):
    """A state whose messages have no ids."""

    messages: Annotated[list[Any], joined]


async def test_messages_without_ids_are_written_anew(way: str) -> None:
    built = StateGraph(Unnamed)
    built.add_node("judge", guard_node(guard(), then="model"), destinations=("model", END))
    built.add_node("model", lambda state: {"messages": [AIMessage("Fine.")]})
    built.add_edge(START, "judge")
    built.add_edge("model", END)
    state = await go(built.compile(), way, {"messages": [HumanMessage("One"), HumanMessage(UNSAFE)]})
    assert UNSAFE not in repr(state)
    assert state["messages"][0].content == "One"
    assert len(state["messages"]) == 3
