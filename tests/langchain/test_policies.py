"""A policy for each run: by name, or by what the run's context and configuration say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from tests.langchain.kit import UNSAFE, Scripted, calls, moderator, said
from turnguard import Guard, Policy
from turnguard.core.errors import Blocked, ConfigError
from turnguard.langchain import TurnguardMiddleware, guard_model

LENIENT = Policy.from_dict({"default": "flag"})
ASKING = Policy.from_dict({"stages": {"tool_call": {"default": "review"}}})


@dataclass
class Context:
    """Who runs the agent."""

    team: str | None = None


@tool
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


def guarded(judge: Any = None) -> Guard:
    return Guard(Policy.from_dict({}), judge or moderator(), policies={"lenient": LENIENT, "asking": ASKING})


def agent(model: Scripted, policy: Any, **more: Any) -> Any:
    middleware = [TurnguardMiddleware(more.pop("guard", None) or guarded(), policy=policy)]
    return create_agent(model, [search], middleware=middleware, context_schema=Context, **more)


async def go(built: Any, way: str, given: Any, *config: Any, **more: Any) -> Any:
    return built.invoke(given, *config, **more) if way == "sync" else await built.ainvoke(given, *config, **more)


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    return str(request.param)


async def test_a_named_policy_decides_at_every_stage(way: str) -> None:
    model = Scripted(script=[calls(UNSAFE), f"Oh {UNSAFE}"])
    state = await go(agent(model, "lenient"), way, said(f"tell me {UNSAFE}"))
    contents = [message.content for message in state["messages"]]
    assert contents == [f"tell me {UNSAFE}", "", f"found {UNSAFE}", f"Oh {UNSAFE}"]
    assert state["messages"][-1].response_metadata["turnguard"]["action"] == "flag"


async def test_a_function_chooses_by_context_and_configuration(way: str) -> None:
    heard: list[tuple[Any, Any]] = []

    def choose(context: Any, config: Any) -> str | None:
        heard.append((context, config["configurable"].get("tenant")))
        return context.team if context is not None else None

    built = agent(Scripted(script=[calls("cats"), "Fine.", calls("cats"), "Fine."]), choose)
    config: Any = {"configurable": {"tenant": "a"}}
    passed = await go(built, way, said(UNSAFE), config, context=Context("lenient"))
    assert passed["messages"][-1].content == "Fine."
    refused = await go(built, way, said(UNSAFE), config, context=Context(None))
    assert len(refused["messages"]) == 2
    assert UNSAFE not in repr(refused)
    assert {tenant for _, tenant in heard} == {"a"}
    assert {context.team for context, _ in heard} == {"lenient", None}


async def test_what_passed_under_one_policy_is_judged_anew_under_another(way: str) -> None:
    built = agent(Scripted(script=["Fine."]), lambda context, _: context.team)
    history = [HumanMessage(UNSAFE, id="1")]
    assert len((await go(built, way, {"messages": history}, context=Context("lenient")))["messages"]) == 2
    strict = await go(built, way, {"messages": history}, context=Context(None))
    assert UNSAFE not in repr(strict)


async def test_a_named_policy_can_ask_a_person(way: str) -> None:
    built = agent(Scripted(script=[calls(UNSAFE), "Done."]), "asking", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert "__interrupt__" in await go(built, way, said(), config)
    done = await go(built, way, Command(resume={"decisions": [{"type": "reject"}]}), config)
    assert done["messages"][-1].content == "Done."
    assert "not allowed" in done["messages"][2].content


def test_a_policy_that_nobody_knows_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="lenient"):
        TurnguardMiddleware(guarded(), policy="leniant")
    with pytest.raises(ConfigError, match="a name or a function"):
        TurnguardMiddleware(guarded(), policy=LENIENT)  # type: ignore[arg-type]


@pytest.mark.parametrize("named", ["nobody", 5], ids=["unknown", "no name"])
async def test_a_function_that_names_no_policy_runs_nothing(way: str, named: Any) -> None:
    model = Scripted(script=["Fine."])
    with pytest.raises(ConfigError):
        await go(agent(model, lambda *_: named), way, said())
    assert model.prompts == []


class Answer(BaseModel):
    """A structured answer."""

    text: str


async def test_a_refusal_of_a_structured_answer_is_raised_or_told(way: str) -> None:
    model = guard_model(Scripted(script=[f'{{"text": "{UNSAFE}"}}']), guarded())
    formed = model.with_structured_output(Answer, method="json_mode")
    with pytest.raises(Blocked):
        await go(formed, way, "Hello")
    told = await go(model.with_structured_output(Answer, method="json_mode", include_raw=True), way, "Hello")
    assert told["parsed"] is None
    assert isinstance(told["parsing_error"], Blocked)
    assert UNSAFE not in repr(told)
