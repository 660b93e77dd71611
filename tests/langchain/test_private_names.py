"""Releases of LangChain and LangGraph that moved what we use, and classes that cannot be guarded: refused clearly."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph._internal import _constants
from langgraph.types import Command

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, said
from turnguard.core.errors import ConfigError
from turnguard.langchain import TurnguardMiddleware, guard_model, guard_tool

ASKING: Any = {"stages": {"tool_call": {"default": "review"}}}


@tool
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


@pytest.mark.parametrize("name", ["CONFIG_KEY_STREAM", "CONFIG_KEY_RUNTIME", "CONFIG_KEY_SEND"])
def test_moved_streams_are_refused(monkeypatch: Any, name: str) -> None:
    monkeypatch.setattr(_constants, name, "__elsewhere")
    with pytest.raises(ConfigError, match="cannot be held with this langgraph"):
        TurnguardMiddleware(guard())
    with pytest.raises(ConfigError, match="cannot be held with this langgraph"):
        guard_tool(search, guard())
    TurnguardMiddleware(guard(), tool_streams="pass")


def test_a_moved_checkpointer_is_refused_where_a_person_is_asked(monkeypatch: Any) -> None:
    monkeypatch.setattr(_constants, "CONFIG_KEY_CHECKPOINTER", "__elsewhere")
    with pytest.raises(ConfigError, match="reviews cannot wait"):
        TurnguardMiddleware(guard(**ASKING))
    TurnguardMiddleware(guard())


def test_a_moved_way_to_answers_is_refused(monkeypatch: Any) -> None:
    monkeypatch.delattr(BaseChatModel, "_agenerate_with_cache")
    with pytest.raises(ConfigError, match="has no _agenerate_with_cache"):
        guard_model(Scripted(script=["Fine."]), guard())


class Final(Scripted):
    """A class that nobody may extend."""

    def __init_subclass__(cls, **_: Any) -> None:
        raise TypeError("this class is final")


def test_a_class_that_cannot_be_extended_is_refused() -> None:
    model = Final(script=["Fine."])
    with pytest.raises(ConfigError, match=r"Final cannot be guarded.*final"):
        guard_model(model, guard())
    with pytest.raises(ConfigError, match="Final cannot be guarded"):
        create_agent(model, [], middleware=[TurnguardMiddleware(guard())]).invoke(said())
    assert model.prompts == []


class Noted(HumanMessage):
    """A message class of one's own."""

    note: str = ""


class Told(ToolMessage):
    """A tool message with a field that only its own graph knows."""

    details: Any = None


async def test_every_field_of_a_message_class_of_ones_own_is_judged() -> None:
    model = Scripted(script=["Fine."])
    agent = create_agent(model, [], middleware=[TurnguardMiddleware(guard())])
    messages: list[Any] = [Noted(content="Hello", note=UNSAFE), HumanMessage("Hello", subtitle=UNSAFE)]
    for each in messages:
        given: Any = {"messages": [each]}
        state = await agent.ainvoke(given)
        assert UNSAFE not in repr(state)
        assert model.prompts == []
    given = {"messages": [Noted(content="Hello", note="a note")]}
    state = await agent.ainvoke(given)
    assert state["messages"][0].note == "a note"


@pytest.mark.parametrize(
    "update",
    [
        {"messages": [Told(content="fine", tool_call_id="call-0", details={"page": UNSAFE})]},
        {"messages": [ToolMessage("fine", tool_call_id="call-0")], "structured_response": object()},
    ],
    ids=["own class", "an object"],
)
async def test_a_command_with_updates_that_nobody_knows_is_judged_or_withheld(update: Any) -> None:
    @tool
    def search(q: str) -> Any:
        """Search."""
        return Command(update=update)

    model = Scripted(script=[calls("cats"), "Done."])
    state = await create_agent(model, [search], middleware=[TurnguardMiddleware(guard())]).ainvoke(said())
    assert UNSAFE not in repr(state) + repr(model.prompts)
    assert isinstance(state["messages"][2], ToolMessage)
    assert state["messages"][-1] == state["messages"][-1].model_copy(update={"content": "Done."})
    assert isinstance(state["messages"][-1], AIMessage)


def test_a_middleware_says_why_it_is_not_copied() -> None:
    import copy
    import pickle

    middleware = TurnguardMiddleware(guard())
    for how in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copy its guard, and make one from that"):
            how(middleware)
