"""Deep agents: the agent, its subagents, its summaries, its memory and its files under one guard."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, said, stored
from turnguard.core.errors import ConfigError

pytest.importorskip("deepagents", reason="deepagents is not installed")

from turnguard.langchain import guard_deep_agent

INPUTS = [("user", UNSAFE), UNSAFE, {"role": "user", "content": UNSAFE}, HumanMessage(UNSAFE)]


def called(name: str, **arguments: Any) -> AIMessage:
    """A call of one of deepagents' own tools."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"{name}-1"}])


@pytest.mark.parametrize("given", INPUTS, ids=["tuple", "text", "dict", "message"])
async def test_a_blocked_input_in_any_form_leaves_no_trace(given: Any) -> None:
    saver, model = InMemorySaver(), Scripted(script=["Fine."])
    agent = guard_deep_agent(guard(), model=model, checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await agent.ainvoke({"messages": [given]}, config)
    assert UNSAFE not in repr(state)
    assert UNSAFE not in stored(saver)
    count = len(state["messages"])
    state = await agent.ainvoke({"messages": [("user", "And now?")]}, config)
    assert len(state["messages"]) == count + 2
    assert UNSAFE not in repr(model.prompts)


@pytest.mark.parametrize("own", [False, True], ids=["general-purpose", "own"])
async def test_a_subagent_is_guarded(own: bool) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}"

    name = "researcher" if own else "general-purpose"
    task = called("task", description="Look it up.", subagent_type=name)
    model = Scripted(script=[task, calls("cats", UNSAFE), "Sub done.", "Done."])
    specs: list[Any] = [{"name": name, "description": "Looks up.", "system_prompt": "Look up."}] if own else []
    agent = guard_deep_agent(guard(), model=model, tools=[search], subagents=specs)
    state = await agent.ainvoke(said())
    assert state["messages"][-1].content == "Done."
    assert ran == ["cats"]
    assert UNSAFE not in repr(model.prompts)


async def test_files_are_judged_when_written_and_read() -> None:
    write = called("write_file", file_path="/plan.md", content=f"{UNSAFE} plan")
    state = await guard_deep_agent(guard(), model=Scripted(script=[write, "Done."])).ainvoke(said())
    assert not state.get("files")
    assert UNSAFE not in repr(state)
    from deepagents.backends.utils import create_file_data

    read, model = (
        called("read_file", file_path="/page.md"),
        Scripted(script=[called("read_file", file_path="/page.md"), "Done."]),
    )
    del read
    files = {"/page.md": create_file_data(f"{UNSAFE} page")}
    await guard_deep_agent(guard(), model=model).ainvoke({**said(), "files": files})
    assert UNSAFE not in repr(model.prompts)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_memory_is_judged_whatever_roles_are_trusted(way: str) -> None:
    from deepagents.backends.utils import create_file_data

    for text, shown in ((f"{UNSAFE} memory", False), ("Remember the cat.", True)):
        model = Scripted(script=["Fine."])
        agent = guard_deep_agent(guard(), model=model, memory=["/AGENTS.md"])
        given = {**said(), "files": {"/AGENTS.md": create_file_data(text)}}
        await agent.ainvoke(given) if way == "async" else agent.invoke(given)
        prompt = repr(model.prompts)
        assert UNSAFE not in prompt
        assert ("Remember the cat." in prompt) == shown
        assert ("withheld" in prompt) != shown


def test_a_model_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="needs a model"):
        guard_deep_agent(guard())
