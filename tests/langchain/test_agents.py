"""The middleware among others: counts of requests, several instances, people in the loop, sub-agents, failures."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, PIIMiddleware
from langchain.agents.middleware.human_in_the_loop import InterruptOnConfig
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said, stored
from tests.ticks import ticking
from turnguard.core.errors import Blocked, ConfigError, Unavailable
from turnguard.langchain import TurnguardMiddleware

CONFIG: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    """From synchronous and from asynchronous code."""
    return str(request.param)


async def go(agent: Any, way: str, given: Any, config: Any = None) -> Any:
    """One run."""
    return agent.invoke(given, config) if way == "sync" else await agent.ainvoke(given, config)


def searching(ran: list[str], result: str = "found") -> Any:
    """A tool that records what it was asked."""

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"{result} {q}"

    return search


# ---------------------------------------------------------------- judged once


@pytest.mark.parametrize("saver", [None, InMemorySaver])
async def test_each_new_step_is_asked_about_once(way: str, saver: Any) -> None:
    judge = moderator()
    model = Scripted(script=[calls("one"), calls("two", first=1), calls("three", first=2), "Done."])
    agent = create_agent(
        model,
        [searching([])],
        middleware=[TurnguardMiddleware(guard(judge))],
        checkpointer=saver() if saver else None,
    )
    await go(agent, way, said(), CONFIG)
    assert len(judge.asked) == 1 + 3 + 3 + 1, "the user message, three calls, three results, one non-empty output"


async def test_an_asynchronous_turn_takes_no_trips_to_threads_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangSmith's `traceable`, which LangChain puts around wrapping hooks, takes each `async def` there twice."""
    trips: list[str] = []
    submit = ThreadPoolExecutor.submit

    def counted(pool: ThreadPoolExecutor, work: Any, *args: Any, **options: Any) -> Any:
        trips.append(repr(args or work))
        return submit(pool, work, *args, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    found: list[int] = []
    for middleware in ([], [TurnguardMiddleware(guard())]):
        model = Scripted(script=[calls("one"), calls("two", first=1), "Done."])
        agent = create_agent(model, [searching([])], middleware=middleware)
        await agent.ainvoke(said())
        found.append(len(trips))
        trips.clear()
    assert found == [2, 2], "the two tools' own"


async def test_a_second_turn_of_a_thread_asks_about_what_is_new(way: str) -> None:
    judge = moderator()
    model = Scripted(script=[calls("one"), "Done.", "And more."])
    agent = create_agent(
        model, [searching([])], middleware=[TurnguardMiddleware(guard(judge))], checkpointer=InMemorySaver()
    )
    await go(agent, way, said(), CONFIG)
    first = len(judge.asked)
    await go(agent, way, said("What else?"), CONFIG)
    assert len(judge.asked) == first + 2


async def test_one_guard_in_two_agents_asks_once(way: str) -> None:
    judge = moderator()
    shared = guard(judge)
    for _ in range(2):
        agent = create_agent(Scripted(script=["Fine."]), [], middleware=[TurnguardMiddleware(shared)])
        await go(agent, way, said())
    assert len(judge.asked) == 2


# ---------------------------------------------------------------- actions


async def test_a_flag_is_in_the_metadata_and_in_the_custom_stream(way: str) -> None:
    shown: list[Any]
    agent: Any = create_agent(
        Scripted(script=[f"Well, {UNSAFE}"]),
        [],
        middleware=[TurnguardMiddleware(guard(categories={"Violence": "flag"}))],
    )
    if way == "sync":
        shown = list(agent.stream(said(), stream_mode=["custom", "values"]))
    else:
        shown = [chunk async for chunk in agent.astream(said(), stream_mode=["custom", "values"])]
    events = [chunk["turnguard"] for mode, chunk in shown if mode == "custom"]
    assert [(event["action"], event["stage"], event["categories"]) for event in events] == [
        ("flag", "output", ["Violence"])
    ]
    last = shown[-1][1]["messages"][-1]
    assert last.content == f"Well, {UNSAFE}"
    assert last.response_metadata["turnguard"]["action"] == "flag"


async def test_a_rewrite_replaces_by_id(way: str) -> None:
    model = Scripted(script=[f"Your answer. It is {UNSAFE} indeed."])
    policy = {"Violence": {"action": "rewrite", "with": "redact"}}
    agent = create_agent(model, [], middleware=[TurnguardMiddleware(guard(categories=policy))])
    state = await go(agent, way, said(f"A question. It is {UNSAFE} indeed."))
    assert len(state["messages"]) == 2
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)
    assert state["messages"][1].content.startswith("Your answer. [redacted]")


async def test_exit_behavior_error_raises_blocked(way: str) -> None:
    for script, text in ((["Fine."], UNSAFE), ([f"Well {UNSAFE}"], "Hello")):
        agent = create_agent(
            Scripted(script=script), [], middleware=[TurnguardMiddleware(guard(), exit_behavior="error")]
        )
        with pytest.raises(Blocked) as caught:
            await go(agent, way, said(text))
        assert UNSAFE not in str(caught.value)
        assert caught.value.decision.categories == ("Violence",)


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_model_may_try_again_told_which_rule_it_broke(way: str, streaming: bool) -> None:
    model = Scripted(script=[f"Well {UNSAFE}", f"Again {UNSAFE}", "Better."])
    agent: Any = create_agent(model, [], middleware=[TurnguardMiddleware(guard(), retries=2)])
    if streaming and way == "sync":
        state = [chunk for mode, chunk in agent.stream(said(), stream_mode=["messages", "values"]) if mode == "values"][
            -1
        ]
    elif streaming:
        modes = agent.astream(said(), stream_mode=["messages", "values"])
        state = [chunk async for mode, chunk in modes if mode == "values"][-1]
    else:
        state = await go(agent, way, said())
    assert state["messages"][-1].content == "Better."
    assert len(state["messages"]) == 2
    assert "Violence" in str(model.prompts[1][-1].content)
    assert UNSAFE not in repr(model.prompts)


async def test_tries_are_bounded(way: str) -> None:
    model = Scripted(script=[f"Well {UNSAFE}"])
    agent = create_agent(model, [], middleware=[TurnguardMiddleware(guard(), retries=1)])
    state = await go(agent, way, said())
    assert len(model.prompts) == 2
    assert UNSAFE not in repr(state)


@pytest.mark.parametrize("retries", [-1, True, 1.5])
def test_a_wrong_number_of_tries_is_a_mistake(retries: Any) -> None:
    with pytest.raises(ConfigError, match="retries"):
        TurnguardMiddleware(guard(), retries=retries)


async def test_switched_off_checks_are_not_made(way: str) -> None:
    judge = moderator()
    ran: list[str] = []
    off = TurnguardMiddleware(
        guard(judge), check_input=False, check_output=False, check_tool_calls=False, check_tool_results=False
    )
    agent = create_agent(Scripted(script=[calls(UNSAFE), f"{UNSAFE}"]), [searching(ran)], middleware=[off])
    await go(agent, way, said(UNSAFE))
    assert judge.asked == []
    assert ran == [UNSAFE]


# ---------------------------------------------------------------- in company


@pytest.mark.parametrize("order", ["first", "last"])
async def test_several_instances_by_name_and_other_middleware(way: str, order: str) -> None:
    one, two = TurnguardMiddleware(guard(), name="one"), TurnguardMiddleware(guard(), name="two")
    other: Any = PIIMiddleware("email", strategy="redact", apply_to_output=True)
    stack: list[Any] = [one, two, other] if order == "first" else [other, one, two]
    ran: list[str] = []
    model = Scripted(script=[calls("cats", UNSAFE), f"mail a@b.com {UNSAFE}"])
    agent = create_agent(model, [searching(ran)], middleware=stack)
    state = await go(agent, way, said())
    assert ran == ["cats"]
    assert UNSAFE not in repr(state)
    calls_left = next(message for message in state["messages"] if getattr(message, "tool_calls", None)).tool_calls
    answered = [message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)]
    assert sorted(answered) == sorted(call["id"] for call in calls_left)
    for mode in ("messages", "updates"):
        again = create_agent(Scripted(script=model.script), [searching([])], middleware=stack)
        assert UNSAFE not in repr(list(again.stream(said(), stream_mode=mode)))


async def test_an_inner_middleware_that_puts_another_answer_in_is_judged_too(way: str) -> None:
    class Replacing(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            handler(request)
            return AIMessage(f"mine: {UNSAFE}")

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await handler(request)
            return AIMessage(f"mine: {UNSAFE}")

    agent = create_agent(Scripted(script=["Fine."]), [], middleware=[TurnguardMiddleware(guard()), Replacing()])
    state = await go(agent, way, said())
    assert UNSAFE not in repr(state)


@pytest.mark.parametrize("answer", ["Fine.", calls("cats")], ids=["text", "call"])
async def test_an_inner_middleware_that_writes_into_the_judged_answer_is_judged_too(way: str, answer: Any) -> None:
    class Writing(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            response = handler(request)
            response.result[0].content = f"mine: {UNSAFE}"
            return response

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            response = await handler(request)
            response.result[0].content = f"mine: {UNSAFE}"
            return response

    model = Scripted(script=[answer, "Done."])
    agent = create_agent(model, [searching([])], middleware=[TurnguardMiddleware(guard()), Writing()])
    state = await go(agent, way, said())
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)


@pytest.mark.parametrize("order", ["first", "last"])
async def test_documents_that_another_middleware_puts_into_the_prompt_are_judged(way: str, order: str) -> None:
    class Finding(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(messages=[HumanMessage(f"A document: {UNSAFE}"), *request.messages]))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(messages=[HumanMessage(f"A document: {UNSAFE}"), *request.messages]))

    ours: Any = TurnguardMiddleware(guard())
    model = Scripted(script=["Fine."])
    agent = create_agent(model, [], middleware=[ours, Finding()] if order == "first" else [Finding(), ours])
    state = await go(agent, way, said())
    assert UNSAFE not in repr(model.prompts)
    assert [message.content for message in state["messages"]] == ["Hello", "Fine."]


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_person_sees_the_calls_that_passed_and_no_blocked_arguments(way: str, order: str, mode: Any) -> None:
    if mode == "per_call" and "interrupt_mode" not in HumanInTheLoopMiddleware.__init__.__annotations__:
        pytest.skip("this langchain has no per_call mode")
    ran: list[str] = []
    human: Any = HumanInTheLoopMiddleware({"search": True}, **({"interrupt_mode": mode} if mode == "per_call" else {}))
    ours = TurnguardMiddleware(guard())
    agent = create_agent(
        Scripted(script=[calls("cats", UNSAFE), "Done."]),
        [searching(ran)],
        middleware=[human, ours] if order == "before" else [ours, human],
        checkpointer=InMemorySaver(),
    )
    paused = await go(agent, way, said(), CONFIG)
    assert "__interrupt__" in paused
    assert UNSAFE not in repr(paused)
    if mode == "batched":
        asked = len(paused["__interrupt__"][0].value["action_requests"])
        resume: Any = {"decisions": [{"type": "approve"}] * asked}
    else:
        resume = {one.id: {"type": "approve"} for one in paused["__interrupt__"]}
    done = await go(agent, way, Command(resume=resume), CONFIG)
    assert ran == ["cats"]
    assert UNSAFE not in repr(done)
    assert done["messages"][-1].content == "Done."


@pytest.mark.parametrize("order", ["before", "after"])
async def test_what_a_person_edits_elsewhere_is_judged_before_it_runs(way: str, order: str) -> None:
    ran: list[str] = []
    human: Any = HumanInTheLoopMiddleware({"search": True})
    ours = TurnguardMiddleware(guard())
    agent = create_agent(
        Scripted(script=[calls("cats"), "Done."]),
        [searching(ran)],
        middleware=[human, ours] if order == "before" else [ours, human],
        checkpointer=InMemorySaver(),
    )
    await go(agent, way, said(), CONFIG)
    edit = {"type": "edit", "edited_action": {"name": "search", "args": {"q": f"{UNSAFE} now"}}}
    done = await go(agent, way, Command(resume={"decisions": [edit]}), CONFIG)
    assert ran == []
    assert "was not run" in done["messages"][2].content
    assert UNSAFE not in repr(done)


async def test_a_person_is_asked_once_where_langchains_own_review_stands_after_ours(way: str) -> None:
    ran: list[str] = []
    human: Any = HumanInTheLoopMiddleware({"search": True})
    ours = TurnguardMiddleware(guard(stages={"tool_call": {"default": "review"}}))
    agent = create_agent(
        Scripted(script=[calls(UNSAFE), "Done.", calls(UNSAFE, first=1), "Done."]),
        [searching(ran)],
        middleware=[ours, human],
        checkpointer=InMemorySaver(),
    )
    for answer, count in (("reject", 0), ("approve", 1)):
        paused = await go(agent, way, said(), CONFIG)
        (asked,) = paused["__interrupt__"]
        assert [action["args"] for action in asked.value["action_requests"]] == [{"q": UNSAFE}]
        done = await go(agent, way, Command(resume={"decisions": [{"type": answer}]}), CONFIG)
        assert "__interrupt__" not in done
        assert len(ran) == count
        assert {call["name"] for one in done["messages"] for call in getattr(one, "tool_calls", ())} == {"search"}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("query", ["cats", UNSAFE])
async def test_a_person_is_asked_once_wherever_langchains_own_review_stands(
    way: str, order: str, mode: str, query: str
) -> None:
    if "when" not in InterruptOnConfig.__annotations__:
        pytest.skip("this langchain asks without conditions")
    if mode == "per_call" and "interrupt_mode" not in HumanInTheLoopMiddleware.__init__.__annotations__:
        pytest.skip("this langchain has no per_call mode")
    ran: list[str] = []
    ours = TurnguardMiddleware(guard(stages={"tool_call": {"default": "review"}}))
    when: Any = {"search": {"allowed_decisions": ["approve", "reject"], "when": ours.unasked}}
    per_call: Any = {"interrupt_mode": mode} if mode == "per_call" else {}
    human: Any = HumanInTheLoopMiddleware(when, **per_call)
    agent = create_agent(
        Scripted(script=[calls(query), "Done."]),
        [searching(ran)],
        middleware=[human, ours] if order == "before" else [ours, human],
        checkpointer=InMemorySaver(),
    )
    paused = await go(agent, way, said(), CONFIG)
    (asked,) = paused["__interrupt__"]
    approve: Any = {"type": "approve"}
    resume = {asked.id: approve} if asked.value.get("type") == "tool_approval" else {"decisions": [approve]}
    done = await go(agent, way, Command(resume=resume), CONFIG)
    assert "__interrupt__" not in done
    assert ran == [query]
    assert done["messages"][-1].content == "Done."


async def test_a_sub_agent_in_a_tool_is_guarded_by_its_own_instance_and_its_answer_by_ours(way: str) -> None:
    inner = create_agent(Scripted(script=[f"inner {UNSAFE}"]), [])

    @tool
    async def adelegate(q: str) -> str:
        """Ask another agent."""
        return str((await inner.ainvoke(said(q)))["messages"][-1].content)

    @tool("adelegate")
    def delegate(q: str) -> str:
        """Ask another agent."""
        return str(inner.invoke(said(q))["messages"][-1].content)

    model = Scripted(script=[calls("x", tool="adelegate"), "Done."])
    agent = create_agent(model, [delegate if way == "sync" else adelegate], middleware=[TurnguardMiddleware(guard())])
    state = await go(agent, way, said())
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)


# ---------------------------------------------------------------- beside


class Beside:
    """An agent whose input is judged beside its model call."""

    def __init__(self, *script: Any, check: float, call: float, tools: Any = (), **options: Any) -> None:
        self.judge = moderator(delay=check)
        self.model = Scripted(script=list(script), pause=call)
        self.agent: Any = create_agent(
            self.model,
            list(tools),
            middleware=[TurnguardMiddleware(guard(self.judge, checks={"input": "beside"}), **options)],
            checkpointer=InMemorySaver(),
        )


async def test_a_safe_input_hides_behind_the_model_call() -> None:
    world = Beside("Fine.", check=0.0, call=0.0)
    await world.agent.ainvoke(said("warm up"), {"configurable": {"thread_id": "0"}})
    world = Beside(AIMessage(""), check=0.3, call=0.3)
    async with ticking() as ticks:
        await world.agent.ainvoke(said("How are you?"), CONFIG)
    assert ticks.seconds < 0.5, "one after the other would be 0.6 s"


@pytest.mark.parametrize("how", ["sync", "async", "stream", "astream"])
async def test_an_unsafe_input_beside_cancels_the_model_shows_nothing_and_runs_nothing(how: str) -> None:
    ran: list[str] = []
    world = Beside(calls("cats", text="secret words here"), check=0.05, call=0.4, tools=[searching(ran)])
    shown: Any = []
    if how == "sync":
        world.agent.invoke(said(UNSAFE), CONFIG, durability="exit")
    elif how == "async":
        await world.agent.ainvoke(said(UNSAFE), CONFIG, durability="exit")
    elif how == "stream":
        shown = list(world.agent.stream(said(UNSAFE), CONFIG, stream_mode="messages", durability="exit"))
    else:
        stream = world.agent.astream(said(UNSAFE), CONFIG, stream_mode="messages", durability="exit")
        shown = [chunk async for chunk in stream]
    if how in ("async", "astream"):
        assert world.model.cancelled
    state = world.agent.get_state(CONFIG).values
    assert ran == []
    assert "secret" not in repr(shown) + repr(state)
    assert UNSAFE not in repr(state) + repr(shown) + stored(world.agent.checkpointer)
    assert len(state["messages"]) == 2
    assert "hurt" in state["messages"][-1].content


async def test_beside_is_refused_where_the_provider_runs_tools() -> None:
    world = Beside("Fine.", check=0.0, call=0.0, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    with pytest.raises(ConfigError, match="provider"):
        await world.agent.ainvoke(said(), CONFIG)
    assert world.model.prompts == []


async def test_beside_asks_as_often_as_before(way: str) -> None:
    world = Beside(calls("one"), "Done.", check=0.0, call=0.0, tools=[searching([])])
    await go(world.agent, way, said(), CONFIG)
    assert len(world.judge.asked) == 4


# ---------------------------------------------------------------- trouble


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_moderator_that_fails_in_the_middle_of_a_run_lets_nothing_through(way: str, after: int) -> None:
    judge = moderator()
    ran: list[str] = []
    model = Scripted(script=[calls("cats"), "Done."])
    agent = create_agent(model, [searching(ran)], middleware=[TurnguardMiddleware(guard(judge))])

    def script(_exchange: Any) -> Any:
        return Unavailable("gone") if len(judge.asked) > after else None

    judge.script = script
    state = await go(agent, way, said())
    last = state["messages"][-1]
    assert last.response_metadata["turnguard"]["failed"]
    assert ran == ([] if after < 2 else ["cats"])
    assert "found" not in repr(state) or after > 2
    answered = {message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)}
    proposed = {call["id"] for message in state["messages"] for call in getattr(message, "tool_calls", [])}
    assert answered == proposed


@pytest.mark.parametrize("action", ["flag", "allow"])
async def test_a_failure_that_the_policy_lets_pass_is_asked_again_next_time(way: str, action: str) -> None:
    judge = moderator()
    judge.fail(Unavailable("gone"))
    saver = InMemorySaver()
    agent = create_agent(
        Scripted(script=["Fine."]),
        [],
        middleware=[TurnguardMiddleware(guard(judge, on_failure=action))],
        checkpointer=saver,
    )
    await go(agent, way, said(f"{UNSAFE}"), CONFIG)
    judge.fail(None)
    state = await go(agent, way, said("And now?"), CONFIG)
    assert UNSAFE not in repr(state)


@pytest.mark.parametrize("moment", [0.02, 0.08, 0.14, 0.2])
async def test_cancellation_at_any_await_leaves_no_half_written_state(moment: float) -> None:
    judge = moderator(delay=0.05)
    saver = InMemorySaver()
    agent = create_agent(
        Scripted(script=[calls(UNSAFE, "cats"), "Done."]),
        [searching([])],
        middleware=[TurnguardMiddleware(guard(judge))],
        checkpointer=saver,
    )
    task = asyncio.ensure_future(agent.ainvoke(said(), CONFIG))
    await asyncio.sleep(moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    messages = (await agent.aget_state(CONFIG)).values.get("messages", [])
    assert UNSAFE not in stored(saver)
    done = await agent.ainvoke({"messages": [HumanMessage("Go on")]}, CONFIG)
    assert UNSAFE not in repr(done)
    assert isinstance(messages, list)


async def test_names_and_paths() -> None:
    assert TurnguardMiddleware(guard(), name="second").name == "second"
    with pytest.raises(ConfigError, match="nowhere"):
        TurnguardMiddleware("nowhere.yaml")


async def test_a_subclass_may_await_the_hooks_that_it_extends() -> None:
    passed: list[str] = []

    class Extended(TurnguardMiddleware):
        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            passed.append("model")
            return await super().awrap_model_call(request, handler)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            passed.append("tool")
            return await super().awrap_tool_call(request, handler)

    model = Scripted(script=[calls("one"), f"It is {UNSAFE}."])
    agent = create_agent(model, [searching([], UNSAFE)], middleware=[Extended(guard())])
    state = await agent.ainvoke(said())
    assert passed == ["model", "tool", "model"]
    assert UNSAFE not in repr(state)
