"""A person decides: what they see, that nothing runs twice, and that exactly what they approved goes on."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.langchain.kit import UNSAFE, Scripted, calls, guard, moderator, said, stored
from turnguard.core.decide import ALLOWED
from turnguard.core.decision import Decision
from turnguard.core.errors import Unavailable
from turnguard.core.verdict import Coverage
from turnguard.langchain import TurnguardMiddleware, guard_node
from turnguard.langchain.held import Held, Holding

REVIEW: dict[str, Any] = {"categories": {"Violence": "review"}}
APPROVE = {"decisions": [{"type": "approve"}]}
REJECT = {"decisions": [{"type": "reject", "message": "Not today."}]}
DECISIONS = ["approve", "edit", "reject", "respond"]
CONFIG = {"configurable": {"thread_id": "1"}}


class World:
    """An agent with a checkpointer whose unsafe steps go to a person."""

    def __init__(
        self, *script: Any, results: dict[str, Any] | None = None, direct: bool = False, **policy: Any
    ) -> None:
        self.ran: list[str] = []
        self.results = results or {}
        self.moderator = moderator()
        self.model = Scripted(script=list(script))
        self.saver = InMemorySaver()
        self.policy = policy or REVIEW

        @tool(return_direct=direct)
        def search(q: str) -> Any:
            """Search."""
            self.ran.append(q)
            return self.results.get(q, "a result")

        self.tool = search
        self.build()

    def build(self) -> None:
        """The agent anew, as another process would have it."""
        self.middleware = TurnguardMiddleware(guard(self.moderator, **self.policy))
        self.agent: Any = create_agent(self.model, [self.tool], middleware=[self.middleware], checkpointer=self.saver)

    async def go(self, way: str, given: Any) -> dict[str, Any]:
        """One run, or the resumption of one."""
        result = self.agent.invoke(given, CONFIG) if way == "sync" else await self.agent.ainvoke(given, CONFIG)
        return dict(result)


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    """From synchronous and from asynchronous code."""
    return str(request.param)


def asked_of(result: dict[str, Any]) -> dict[str, Any]:
    """What the reviewer sees."""
    (interrupt,) = result["__interrupt__"]
    value: dict[str, Any] = interrupt.value
    return value


async def test_a_call_waits_with_its_arguments_and_runs_once_when_approved(way: str) -> None:
    world = World(calls("cats", f"{UNSAFE} plan"), "Done.")
    paused = await world.go(way, said())
    seen = asked_of(paused)
    assert seen["action_requests"][0]["name"] == "search"
    assert seen["action_requests"][0]["args"] == {"q": f"{UNSAFE} plan"}
    assert seen["review_configs"] == [{"action_name": "search", "allowed_decisions": DECISIONS}]
    assert seen["turnguard"][0]["categories"] == ["Violence"]
    assert world.ran == []
    assert UNSAFE not in repr(paused["messages"])
    done = await world.go(way, Command(resume=APPROVE))
    assert sorted(world.ran) == sorted(["cats", f"{UNSAFE} plan"])
    assert len(world.model.prompts) == 2
    assert done["messages"][-1].content == "Done."


async def test_a_rejected_call_is_answered_and_leaves_no_trace_in_the_state(way: str) -> None:
    world = World(calls("cats", f"{UNSAFE} plan"), "Done.")
    await world.go(way, said())
    done = await world.go(way, Command(resume=REJECT))
    assert world.ran == ["cats"]
    assert UNSAFE not in repr(done["messages"])
    assert UNSAFE not in repr(world.model.prompts)
    notice = next(message for message in done["messages"] if getattr(message, "tool_call_id", "") == "call-1")
    assert "Not today." in notice.content
    assert len(world.model.prompts) == 2


async def test_an_edited_call_is_judged_again(way: str) -> None:
    world = World(calls(f"{UNSAFE} plan"), "Done.")
    await world.go(way, said())
    edit = {"type": "edit", "edited_action": {"name": "search", "args": {"q": "dogs"}}}
    asked = len(world.moderator.asked)
    done = await world.go(way, Command(resume={"decisions": [edit]}))
    assert world.ran == ["dogs"]
    assert any("dogs" in (exchange.response or "") for exchange in world.moderator.asked[asked:])
    proposed = next(message for message in done["messages"] if getattr(message, "tool_calls", None))
    assert proposed.tool_calls[0]["args"] == {"q": "dogs"}


async def test_an_edit_that_is_unsafe_too_is_put_before_the_person_again(way: str) -> None:
    world = World(calls(f"{UNSAFE} plan"), "Done.")
    await world.go(way, said())
    edit = {"type": "edit", "edited_action": {"name": "search", "args": {"q": f"{UNSAFE} again"}}}
    again = await world.go(way, Command(resume={"decisions": [edit]}))
    assert asked_of(again)["action_requests"][0]["args"] == {"q": f"{UNSAFE} again"}
    await world.go(way, Command(resume=APPROVE))
    assert world.ran == [f"{UNSAFE} again"]
    assert len(world.model.prompts) == 2


async def test_a_person_may_answer_in_the_place_of_a_tool(way: str) -> None:
    for text, passes in (("It is a lion.", True), (f"{UNSAFE} lion", False)):
        world = World(calls("cats", f"{UNSAFE} plan"), "Done.")
        await world.go(way, said())
        done = await world.go(way, Command(resume={"decisions": [{"type": "respond", "message": text}]}))
        assert world.ran == ["cats"]
        answers = [message.content for message in done["messages"] if isinstance(message, ToolMessage)]
        assert (text in answers) == passes
        assert UNSAFE not in repr(done["messages"])
        assert done["messages"][-1].content == "Done."


async def test_stored_answers_count_as_rejections_without_a_database(way: str) -> None:
    world = World(calls("cats"), "Done.", results={"cats": f"page {UNSAFE}"})
    await world.go(way, said())
    done = await world.go(way, Command(resume={"decisions": "stored"}))
    assert world.ran == ["cats"]
    assert UNSAFE not in repr(done["messages"])


async def test_a_result_waits_unseen_and_the_approved_bytes_go_on_without_running_the_tool_again(way: str) -> None:
    world = World(calls("bad"), "Done.", results={"bad": f"page {UNSAFE}"})
    paused = await world.go(way, said())
    assert UNSAFE not in repr(paused)
    assert UNSAFE not in stored(world.saver)
    world.results["bad"] = "another result"
    done = await world.go(way, Command(resume=APPROVE))
    assert world.ran == ["bad"]
    result = next(message for message in done["messages"] if isinstance(message, ToolMessage))
    assert result.content == f"page {UNSAFE}"
    assert f"page {UNSAFE}" in repr(world.model.prompts[-1])
    assert len(world.model.prompts) == 2


async def test_a_rejected_result_is_a_notice(way: str) -> None:
    world = World(calls("bad"), "Done.", results={"bad": f"page {UNSAFE}"})
    await world.go(way, said())
    done = await world.go(way, Command(resume=REJECT))
    assert world.ran == ["bad"]
    assert UNSAFE not in repr(done) + stored(world.saver) + repr(world.model.prompts)
    assert done["messages"][-1].content == "Done."


async def test_an_output_waits_unseen_and_goes_on_without_calling_the_model_again(way: str) -> None:
    world = World(f"Well, {UNSAFE} it is.")
    paused = await world.go(way, said())
    seen = asked_of(paused)
    assert UNSAFE not in repr(paused) + stored(world.saver)
    assert seen["action_requests"][0]["args"]["categories"] == ["Violence"]
    done = await world.go(way, Command(resume=APPROVE))
    assert done["messages"][-1].content == f"Well, {UNSAFE} it is."
    assert len(world.model.prompts) == 1
    assert len(done["messages"]) == 2


async def test_an_approved_output_goes_on_to_its_calls(way: str) -> None:
    world = World(calls("cats", text=f"Well, {UNSAFE}."), "Done.")
    await world.go(way, said())
    assert world.ran == []
    done = await world.go(way, Command(resume=APPROVE))
    assert world.ran == ["cats"]
    assert done["messages"][-1].content == "Done."


async def test_a_rejected_output_is_the_refusal(way: str) -> None:
    world = World(calls("cats", text=f"Well, {UNSAFE}."))
    await world.go(way, said())
    done = await world.go(way, Command(resume=REJECT))
    assert world.ran == []
    assert UNSAFE not in repr(done) + stored(world.saver)
    assert not getattr(done["messages"][-1], "tool_calls", None)
    assert "hurt" in done["messages"][-1].content


async def test_an_edited_output_is_judged(way: str) -> None:
    world = World(f"Well, {UNSAFE} it is.")
    await world.go(way, said())
    edit = {"type": "edit", "edited_action": {"name": "review_output", "args": {"content": "Well, better not."}}}
    done = await world.go(way, Command(resume={"decisions": [edit]}))
    assert done["messages"][-1].content == "Well, better not."
    assert UNSAFE not in repr(done)


async def test_an_input_waits_and_goes_on_when_approved(way: str) -> None:
    world = World("Hello.")
    paused = await world.go(way, said(f"Tell me about {UNSAFE}"))
    assert world.model.prompts == []
    assert UNSAFE not in repr(paused["messages"])
    done = await world.go(way, Command(resume=APPROVE))
    assert world.model.prompts[0][-1].content == f"Tell me about {UNSAFE}"
    assert done["messages"][-1].content == "Hello."


async def test_a_rejected_input_ends_the_turn(way: str) -> None:
    world = World("Hello.")
    await world.go(way, said(f"Tell me about {UNSAFE}"))
    done = await world.go(way, Command(resume=REJECT))
    assert world.model.prompts == []
    assert UNSAFE not in repr(done["messages"])
    assert isinstance(done["messages"][-1], AIMessage)


@pytest.mark.parametrize("where", ["input", "call", "result", "output"])
async def test_what_is_gone_at_resume_counts_as_rejected(way: str, where: str) -> None:
    scripts: dict[str, list[Any]] = {
        "input": ["Hello."],
        "call": [calls(f"{UNSAFE} plan"), "Done."],
        "result": [calls("bad"), "Done."],
        "output": [f"Well, {UNSAFE}"],
    }
    world = World(*scripts[where], results={"bad": f"page {UNSAFE}"})
    await world.go(way, said(UNSAFE if where == "input" else "Hello"))
    world.build()
    done = await world.go(way, Command(resume=APPROVE))
    assert "__interrupt__" not in done
    assert UNSAFE not in repr(done["messages"])
    assert world.ran == (["bad"] if where == "result" else [])
    assert isinstance(done["messages"][-1], AIMessage)


async def test_held_content_that_was_evicted_counts_as_rejected(way: str) -> None:
    world = World(calls("bad"), "Done.", results={"bad": f"page {UNSAFE}"})
    world.middleware.judging.holding = Holding(most=1)
    await world.go(way, said())
    world.middleware.judging.holding.hold(Held(Decision("output", "review", ALLOWED, (), Coverage(), ())))
    done = await world.go(way, Command(resume=APPROVE))
    assert UNSAFE not in repr(done)
    assert done["messages"][-1].content == "Done."
    assert world.ran == ["bad"]


async def test_a_direct_result_is_reviewed_at_the_end(way: str) -> None:
    world = World(calls("bad"), results={"bad": f"page {UNSAFE}"}, direct=True)
    paused = await world.go(way, said())
    assert "__interrupt__" in paused
    assert UNSAFE not in repr(paused)
    done = await world.go(way, Command(resume=APPROVE))
    assert done["messages"][-1].content == f"page {UNSAFE}"
    assert world.ran == ["bad"]


async def test_two_results_are_reviewed_together(way: str) -> None:
    world = World(calls("bad", "worse"), "Done.", results={"bad": f"page {UNSAFE}", "worse": f"{UNSAFE}!"})
    paused = await world.go(way, said())
    assert len(asked_of(paused)["action_requests"]) == 2
    done = await world.go(way, Command(resume={"decisions": [{"type": "approve"}, {"type": "reject"}]}))
    results = [message.content for message in done["messages"] if isinstance(message, ToolMessage)]
    assert results[0] == f"page {UNSAFE}"
    assert UNSAFE not in results[1]


async def test_an_approval_is_for_one_message_and_not_for_the_same_content_elsewhere(way: str) -> None:
    world = World(calls("bad"), "Done.", calls("bad"), "Done.", results={"bad": f"page {UNSAFE}"})
    await world.go(way, said())
    await world.go(way, Command(resume=APPROVE))
    other: Any = {"configurable": {"thread_id": "2"}}
    paused = world.agent.invoke(said(), other) if way == "sync" else await world.agent.ainvoke(said(), other)
    assert "__interrupt__" in paused
    assert UNSAFE not in repr(paused)


async def test_a_second_question_about_one_result_does_not_lose_the_first_answer(way: str) -> None:
    world = World(calls("bad", "worse"), "Done.", results={"bad": f"page {UNSAFE}", "worse": f"{UNSAFE}!"})
    await world.go(way, said())
    edit = {"type": "edit", "edited_action": {"name": "review_tool_result", "args": {"content": f"still {UNSAFE}"}}}
    again = await world.go(way, Command(resume={"decisions": [{"type": "approve"}, edit]}))
    assert "__interrupt__" in again
    done = await world.go(way, Command(resume=APPROVE))
    results = [message.content for message in done["messages"] if isinstance(message, ToolMessage)]
    assert results == [f"page {UNSAFE}", f"still {UNSAFE}"]
    assert sorted(world.ran) == ["bad", "worse"]


@pytest.mark.parametrize(
    "answer", [None, {"other": 1}, {"decisions": []}, {"decisions": ["yes"]}, {"decisions": [{"type": "ok"}]}]
)
async def test_an_answer_without_a_known_decision_counts_as_rejected(answer: Any) -> None:
    world = World(calls(f"{UNSAFE} plan"), "Done.")
    await world.go("async", said())
    done = await world.go("async", Command(resume=answer if answer is not None else "yes"))
    assert world.ran == []
    assert done["messages"][-1].content == "Done."


async def test_without_a_checkpointer_a_review_is_a_block(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}"

    model = Scripted(script=[calls(f"{UNSAFE} plan", "cats"), "Done."])
    agent: Any = create_agent(model, [search], middleware=[TurnguardMiddleware(guard(**REVIEW))])
    done = agent.invoke(said()) if way == "sync" else await agent.ainvoke(said())
    assert "__interrupt__" not in done
    assert ran == ["cats"]
    assert UNSAFE not in repr(done)
    assert done["messages"][-1].content == "Done."


async def test_what_a_person_approved_is_not_asked_about_again_in_the_next_turn() -> None:
    world = World(calls("bad"), "Done.", "And again.", results={"bad": f"page {UNSAFE}"})
    await world.go("async", said())
    await world.go("async", Command(resume=APPROVE))
    asked = len(world.moderator.asked)
    done = await world.go("async", {"messages": [HumanMessage("Go on")]})
    assert "__interrupt__" not in done
    assert done["messages"][-1].content == "And again."
    assert len(world.moderator.asked) == asked + 2


# ---------------------------------------------------------------- an answer counts for what was asked, and for nothing else


async def test_an_answer_given_for_a_check_that_failed_holds_when_the_moderator_is_back(way: str) -> None:
    ran: list[str] = []
    judge = moderator()

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return "found"

    agent: Any = create_agent(
        Scripted(script=[calls("cats"), "Done."]),
        [search],
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"search": True}),
            TurnguardMiddleware(guard(judge, on_failure="review")),
        ],
        checkpointer=InMemorySaver(),
    )

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    await go(said())
    judge.fail(Unavailable("down"))
    edit = {"type": "edit", "edited_action": {"name": "search", "args": {"q": "dogs"}}}
    assert asked_of(await go(Command(resume={"decisions": [edit]})))["action_requests"][0]["args"] == {"q": "dogs"}
    judge.fail(None)
    done = await go(Command(resume=REJECT))
    assert ran == []
    assert done["messages"][-1].content == "Done."


async def test_a_tool_that_asks_a_person_itself_gets_its_own_answer(way: str) -> None:
    heard: list[Any] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        heard.append(interrupt({"which": q}))
        return "found"

    agent: Any = create_agent(
        Scripted(script=[calls("cats"), "Done."]),
        [search],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"search": True}), TurnguardMiddleware(guard(**REVIEW))],
        checkpointer=InMemorySaver(),
    )

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    await go(said())
    edit = {"type": "edit", "edited_action": {"name": "search", "args": {"q": f"{UNSAFE} plan"}}}
    await go(Command(resume={"decisions": [edit]}))
    paused = await go(Command(resume=APPROVE))
    assert asked_of(paused) == {"which": f"{UNSAFE} plan"}
    await go(Command(resume="the second"))
    assert heard == ["the second"]


def reviewing(stage: Any, judge: Any = None, **policy: Any) -> Any:
    """A graph of one node that asks a person."""
    graph: Any = StateGraph(MessagesState)
    graph.add_node("guard", guard_node(guard(judge, **(policy or REVIEW)), stage))
    graph.add_edge(START, "guard")
    return graph


TWO = [HumanMessage(f"first {UNSAFE}", id="1"), HumanMessage(f"second {UNSAFE}", id="2")]


@pytest.mark.parametrize("order", [0, 1])
async def test_a_node_asks_about_two_messages_at_once_and_keeps_the_answers_apart(way: str, order: int) -> None:
    agent = reviewing("input").compile(checkpointer=InMemorySaver())

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    paused = await go({"messages": TWO})
    assert len(asked_of(paused)["action_requests"]) == 2
    answers = [{"type": "approve"}, {"type": "reject"}]
    done = await go(Command(resume={"decisions": answers[::-1] if order else answers}))
    texts = [message.content for message in done["messages"]]
    assert f"{'second' if order else 'first'} {UNSAFE}" in texts
    assert f"{'first' if order else 'second'} {UNSAFE}" not in texts


async def test_a_node_asks_again_about_an_edit_and_keeps_the_first_answers(way: str) -> None:
    agent = reviewing("input").compile(checkpointer=InMemorySaver())

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    await go({"messages": TWO})
    edit = {"type": "edit", "edited_action": {"name": "review_input", "args": {"content": f"still {UNSAFE}"}}}
    again = await go(Command(resume={"decisions": [{"type": "approve"}, edit]}))
    assert len(asked_of(again)["action_requests"]) == 1
    done = await go(Command(resume=REJECT))
    texts = [message.content for message in done["messages"]]
    assert texts[0] == f"first {UNSAFE}"
    assert UNSAFE not in texts[1]


@pytest.mark.parametrize("how", ["another process", "another content"])
async def test_a_node_takes_no_answer_for_what_nobody_was_asked(way: str, how: str) -> None:
    graph = reviewing("input")
    agent = graph.compile(checkpointer=(saver := InMemorySaver()))

    async def go(agent: Any, given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    await go(agent, {"messages": TWO[:1]})
    if how == "another process":
        agent = reviewing("input").compile(checkpointer=saver)
    else:
        await agent.aupdate_state(CONFIG, {"messages": [HumanMessage(f"worse {UNSAFE}", id="1")]}, as_node=START)
    done = await go(agent, Command(resume=APPROVE))
    assert "__interrupt__" not in done
    assert UNSAFE not in repr(done["messages"])


async def test_a_node_holds_to_a_review_of_a_failed_check(way: str) -> None:
    judge = moderator()
    agent = reviewing("input", judge, on_failure="review").compile(checkpointer=InMemorySaver())

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    judge.fail(Unavailable("down"))
    await go({"messages": [HumanMessage("Hello", id="1")]})
    judge.fail(None)
    done = await go(Command(resume=REJECT))
    assert "Hello" not in repr(done["messages"])


async def test_each_of_several_instances_settles_what_it_held_itself(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return f"page {UNSAFE}"

    agent: Any = create_agent(
        Scripted(script=[calls(f"{UNSAFE} plan"), f"Well, {UNSAFE}"]),
        [search],
        middleware=[TurnguardMiddleware(guard(**REVIEW)), TurnguardMiddleware(guard(**REVIEW), name="second")],
        checkpointer=InMemorySaver(),
    )

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    state = await go(said())
    questions: list[str] = []
    while "__interrupt__" in state and len(questions) < 9:
        questions.append(asked_of(state)["action_requests"][0]["name"])
        state = await go(Command(resume=APPROVE))
    assert ran == [f"{UNSAFE} plan"]
    assert state["messages"][2].content == f"page {UNSAFE}"
    assert state["messages"][-1].content == f"Well, {UNSAFE}"
    assert len(questions) <= 6, "each instance asks once at most about each of three steps"


async def test_a_review_inside_a_sub_agent_pauses_the_whole_run_and_runs_nothing_twice(way: str) -> None:
    ran: list[str] = []
    inner = Scripted(script=[calls(f"{UNSAFE} plan"), "The inner answer."])

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return "found"

    sub: Any = create_agent(inner, [search], middleware=[TurnguardMiddleware(guard(**REVIEW))], name="sub")

    @tool
    def ask(q: str) -> str:
        """Ask the other agent."""
        return str(sub.invoke(said(q))["messages"][-1].content)

    @tool("ask")
    async def aask(q: str) -> str:
        """Ask the other agent."""
        return str((await sub.ainvoke(said(q)))["messages"][-1].content)

    agent: Any = create_agent(
        Scripted(script=[calls("cats", tool="ask"), "Done."]),
        [ask if way == "sync" else aask],
        middleware=[TurnguardMiddleware(guard(**REVIEW))],
        checkpointer=InMemorySaver(),
    )

    async def go(given: Any) -> Any:
        return agent.invoke(given, CONFIG) if way == "sync" else await agent.ainvoke(given, CONFIG)

    paused = await go(said())
    assert asked_of(paused)["action_requests"][0]["args"] == {"q": f"{UNSAFE} plan"}
    assert UNSAFE not in repr(paused["messages"])
    done = await go(Command(resume=APPROVE))
    assert ran == [f"{UNSAFE} plan"]
    assert len(inner.prompts) == 2
    assert done["messages"][-1].content == "Done."


async def test_a_fork_from_before_a_settled_question_asks_anew(way: str) -> None:
    agent = reviewing("input").compile(checkpointer=InMemorySaver())

    async def go(given: Any, config: Any = CONFIG) -> Any:
        return agent.invoke(given, config) if way == "sync" else await agent.ainvoke(given, config)

    await go({"messages": TWO[:1]})
    past = await agent.aget_state(CONFIG)
    done = await go(Command(resume=REJECT))
    assert UNSAFE not in repr(done["messages"])
    fork = await agent.aupdate_state(past.config, None, as_node=START)
    again = await go(None, fork)
    assert asked_of(again)["action_requests"][0]["name"] == "review_input"
    done = await go(Command(resume=APPROVE), {"configurable": {"thread_id": "1"}})
    assert done["messages"][0].content == f"first {UNSAFE}"
