"""The surfaces beside the middleware: guarded model, callback handler, graph node, single tools, lazy imports."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import Command

import turnguard.langchain
from tests.langchain.kit import UNSAFE, Scripted, Witness, calls, guard, said
from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked, ConfigError
from turnguard.langchain import TurnguardCallbackHandler, guard_model, guard_node, guard_tool

CONFIG: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    """From synchronous and from asynchronous code."""
    return str(request.param)


async def go(runnable: Any, way: str, given: Any, config: Any = None) -> Any:
    """One run."""
    return runnable.invoke(given, config) if way == "sync" else await runnable.ainvoke(given, config)


# ---------------------------------------------------------------- guard_model


async def test_a_chain_reads_refusals_in_place_of_what_was_withheld(way: str) -> None:
    for script, text in (["Fine."], UNSAFE), ([f"Well {UNSAFE}"], "Hello"):
        inner = Scripted(script=script)
        chain = ChatPromptTemplate.from_messages([("human", "{q}")]) | guard_model(inner, guard()) | StrOutputParser()
        answer = await go(chain, way, {"q": text})
        assert "hurt" in answer
        assert len(inner.prompts) == (0 if text == UNSAFE else 1)
    safe = guard_model(Scripted(script=["Fine."]), guard()) | StrOutputParser()
    assert await go(safe, way, "Hello") == "Fine."


async def test_a_guarded_model_can_raise_instead(way: str) -> None:
    for script, text in (["Fine."], UNSAFE), ([f"Well {UNSAFE}"], "Hello"), ([calls(UNSAFE)], "Hello"):
        model = guard_model(Scripted(script=script), guard(), exit_behavior="error")
        with pytest.raises(Blocked):
            await go(model, way, text)


async def test_a_withheld_call_refuses_the_whole_answer(way: str) -> None:
    answer = await go(guard_model(Scripted(script=[calls("cats", UNSAFE, text="Let me look.")]), guard()), way, "Hello")
    assert not answer.tool_calls
    assert UNSAFE not in repr(answer)


async def test_a_review_is_a_refusal_and_a_rewrite_is_carried_out(way: str) -> None:
    text = f"Your answer. It is {UNSAFE}."
    review = guard_model(Scripted(script=[text]), guard(default="review"))
    assert UNSAFE not in repr(await go(review, way, "Hello"))
    redact: Any = {"action": "rewrite", "with": "redact"}
    answer = await go(guard_model(Scripted(script=[text]), guard(default=redact)), way, "Hello")
    assert answer.content == "Your answer. [redacted]"


async def test_callbacks_see_the_guarded_answer_alone(way: str) -> None:
    witness = Witness()
    model = guard_model(Scripted(script=[f"Well {UNSAFE}"]), guard())
    await go(model, way, "Hello", {"callbacks": [witness]})
    assert witness.of("on_llm_end")
    assert UNSAFE not in witness.of()


async def test_a_guarded_model_binds_tools_and_keeps_the_inner_ones_name() -> None:
    model = guard_model(Scripted(script=[calls("cats")]), guard())
    bound = model.bind_tools([{"name": "search"}]).bind(stop=["x"])
    assert (await bound.ainvoke("Hello")).tool_calls[0]["args"] == {"q": "cats"}
    assert model.get_name() == "Scripted"
    assert model._llm_type == "scripted"


async def test_a_node_of_any_shape_may_use_it(way: str) -> None:
    class State(TypedDict):
        question: str
        answer: str

    model = guard_model(Scripted(script=[f"Well {UNSAFE}"]), guard())
    graph = StateGraph(State)
    graph.add_node("ask", lambda state: {"answer": model.invoke(state["question"]).content})
    graph.add_edge(START, "ask")
    assert UNSAFE not in repr(await go(graph.compile(), way, {"question": "Hello", "answer": ""}))


# ---------------------------------------------------------------- callback


async def test_the_handler_stops_what_must_not_go_on(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}" if q == "bad" else "fine"

    cases: list[tuple[list[Any], str]] = [
        (["Fine."], UNSAFE),
        ([f"Well {UNSAFE}"], "Hello"),
        ([calls(UNSAFE)], "Hello"),
        ([calls("bad"), "Done."], "Hello"),
    ]
    for script, text in cases:
        model = Scripted(script=script)
        handler = TurnguardCallbackHandler(guard())
        with pytest.raises(Blocked) as caught:
            await go(create_agent(model, [search]), way, said(text), {"callbacks": [handler]})
        assert UNSAFE not in str(caught.value)
        assert len(model.prompts) == (0 if text == UNSAFE else 1)
    assert ran == ["bad"]


async def test_the_handler_may_only_observe(way: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Decision] = []
    handler = TurnguardCallbackHandler(guard(), stop=False, on_decision=seen.append)
    with caplog.at_level(logging.WARNING, "turnguard.langchain"):
        answer = await go(Scripted(script=[f"Well {UNSAFE}"]), way, "Hello", {"callbacks": [handler]})
    assert UNSAFE in answer.content
    assert [decision.action for decision in seen] == ["block"]
    assert "output: block (Violence)" in caplog.text
    assert UNSAFE not in caplog.text


async def test_the_handler_judges_other_models_and_retrievers(way: str) -> None:
    handler = TurnguardCallbackHandler(guard())
    with pytest.raises(Blocked):
        await go(FakeListLLM(responses=["Fine."]), way, UNSAFE, {"callbacks": [handler]})
    with pytest.raises(Blocked):
        await go(FakeListLLM(responses=[f"Well {UNSAFE}"]), way, "Hello", {"callbacks": [handler]})

    class Library(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("fine"), Document(UNSAFE)]

    with pytest.raises(Blocked) as caught:
        await go(Library(), way, "Hello", {"callbacks": [handler]})
    assert caught.value.decision.stage == "retrieval"


async def test_the_handler_reaches_agents_that_are_called_in_tools(way: str) -> None:
    inner = create_agent(Scripted(script=[f"Well {UNSAFE}"]), [])

    @tool
    def delegate(q: str) -> str:
        """Ask another agent."""
        return str(inner.invoke(said(q))["messages"][-1].content)

    outer = create_agent(Scripted(script=[calls("x", tool="delegate"), "Done."]), [delegate])
    with pytest.raises(Blocked):
        await go(outer, way, said(), {"callbacks": [TurnguardCallbackHandler(guard())]})


# ---------------------------------------------------------------- node


def graph_of(model: Any, saver: Any = None, edge: bool = False, **policy: Any) -> Any:
    """input guard → model → output guard."""
    shared = guard(**policy)
    graph = StateGraph(MessagesState)
    graph.add_node("before", guard_node(shared, "input", then=None if edge else "model"))
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("after", guard_node(shared, "output"))
    graph.add_edge(START, "before")
    if edge:
        graph.add_edge("before", "model")
    graph.add_edge("model", "after")
    return graph.compile(checkpointer=saver)


async def test_a_node_passes_replaces_and_ends(way: str) -> None:
    state = await go(graph_of(Scripted(script=["Fine."])), way, said())
    assert [message.content for message in state["messages"]] == ["Hello", "Fine."]
    model = Scripted(script=["Fine."])
    state = await go(graph_of(model), way, said(UNSAFE))
    assert model.prompts == []
    assert len(state["messages"]) == 2
    assert UNSAFE not in repr(state)
    state = await go(graph_of(Scripted(script=[f"Well {UNSAFE}"])), way, said())
    assert len(state["messages"]) == 2
    assert UNSAFE not in repr(state)


async def test_behind_a_drawn_edge_nothing_unsafe_is_seen(way: str) -> None:
    """LangGraph follows a drawn edge beside the goto: the docstring says so, and what runs then sees the notice."""
    model = Scripted(script=["Fine."])
    state = await go(graph_of(model, edge=True), way, said(UNSAFE))
    assert UNSAFE not in repr(state) + repr(model.prompts)


async def test_a_node_waits_for_a_person(way: str) -> None:
    for answer, content in (("approve", f"Well {UNSAFE}"), ("reject", None)):
        saver = InMemorySaver()
        model = Scripted(script=[f"Well {UNSAFE}"])
        graph = graph_of(model, saver, stages={"output": {"default": "review", "categories": {"Violence": "review"}}})
        paused = await go(graph, way, said(), CONFIG)
        assert UNSAFE not in repr(paused["__interrupt__"])
        done = await go(graph, way, Command(resume={"decisions": [{"type": answer}]}), CONFIG)
        assert len(model.prompts) == 1
        assert (done["messages"][-1].content == content) is (content is not None)
    without = await go(graph_of(Scripted(script=[f"Well {UNSAFE}"]), default="review"), way, said())
    assert UNSAFE not in repr(without)


async def test_nodes_around_a_tool_node(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}" if q == "bad" else "fine"

    shared = guard()
    model = Scripted(script=[calls("bad", UNSAFE), "Done."])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("calls", guard_node(shared, "tool_call"))
    graph.add_node("tools", ToolNode([search]))
    graph.add_node("results", guard_node(shared, "tool_result", then="model"))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: "calls" if state["messages"][-1].tool_calls else END)
    graph.add_edge("calls", "tools")
    graph.add_edge("tools", "results")
    state = await go(graph.compile(), way, said())
    assert ran == ["bad"] or UNSAFE not in ran
    assert UNSAFE not in repr(state["messages"][-1]) + repr(model.prompts[1:])


def test_a_stage_that_no_node_has_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="retrieval"):
        guard_node(guard(), "retrieval")


# ---------------------------------------------------------------- tools one by one


async def test_a_guarded_tool_judges_what_goes_in_and_comes_out(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}" if q == "bad" else "fine"

    guarded = guard_tool(search, guard())
    assert await go(guarded, way, {"q": "cats"}) == "fine"
    assert "not allowed" in await go(guarded, way, {"q": UNSAFE})
    assert "withheld" in await go(guarded, way, {"q": "bad"})
    assert ran == ["cats", "bad"]
    answer = await go(guarded, way, {"type": "tool_call", "name": "search", "args": {"q": UNSAFE}, "id": "1"})
    assert isinstance(answer, ToolMessage)
    assert answer.status == "error"
    with pytest.raises(Blocked):
        await go(guard_tool(search, guard(), exit_behavior="error"), way, {"q": "bad"})


async def test_a_guarded_tool_keeps_what_is_injected_and_its_artifact(way: str) -> None:
    @tool(response_format="content_and_artifact")
    def search(q: str, state: Annotated[dict[str, Any], InjectedState]) -> Any:
        """Search."""
        return f"{q} of {len(state['messages'])}", {"raw": q}

    model = Scripted(script=[calls("cats"), "Done."])
    state = await go(create_agent(model, [guard_tool(search, guard())]), way, said())
    assert state["messages"][2].content == "cats of 2"
    assert state["messages"][2].artifact == {"raw": "cats"}


async def test_an_unsafe_artifact_of_a_guarded_tool_goes_nowhere(way: str) -> None:
    @tool(response_format="content_and_artifact")
    def search(q: str) -> Any:
        """Search."""
        return "fine", {"raw": UNSAFE}

    model = Scripted(script=[calls("cats"), "Done."])
    state = await go(create_agent(model, [guard_tool(search, guard())]), way, said())
    assert UNSAFE not in repr(state)


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("guard_model", ["langchain.agents", "langgraph"]),
        ("guard_tool", ["langchain.agents", "langgraph"]),
        ("TurnguardCallbackHandler", ["langchain.agents", "langgraph"]),
        ("guard_node", ["langchain.agents"]),
    ],
)
def test_only_the_middleware_needs_langchain(name: str, absent: list[str]) -> None:
    code = f"import sys; from turnguard.langchain import {name}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['langchain'] = None; sys.modules['langchain.agents'] = None\n"
        "import turnguard.langchain as wing\n"
        "try:\n    wing.TurnguardMiddleware\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ConfigError" in done.stdout
    assert "turnguard[langchain]" in done.stdout


@pytest.mark.parametrize(("version", "fits"), [("1.3.18", False), ("0.3.27", False), ("1.4.0", True), ("1.10.1", True)])
def test_a_langchain_that_is_too_old_is_named(version: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: version)
    if fits:
        assert turnguard.langchain.TurnguardMiddleware is not None
    else:
        with pytest.raises(ConfigError, match=f"1.4 or newer, and {version} is installed"):
            _ = turnguard.langchain.TurnguardMiddleware
    assert turnguard.langchain.guard_model is not None, "the rest needs none"


def test_a_guarded_model_with_an_exit_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="exit_behavior"):
        guard_model(Scripted(script=["x"]), guard(), exit_behavior="stop")  # type: ignore[call-overload]
