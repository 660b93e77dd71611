"""What was once found to pass unjudged, to leave a trace, or to crash in place of the policy."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ContextEditingMiddleware,
    ModelFallbackMiddleware,
    ModelResponse,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain.tools import ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import InjectedState
from langgraph.types import Command
from pydantic import BaseModel

from tests.langchain.kit import UNSAFE, Scripted, Witness, calls, guard, moderator, said, stored
from turnguard.core.errors import Blocked
from turnguard.langchain import TurnguardCallbackHandler, TurnguardMiddleware, guard_model, guard_tool

CONFIG: Any = {"configurable": {"thread_id": "1"}}
PROSE = f"some words about {UNSAFE} things"


class Answer(BaseModel):
    """A structured answer."""

    text: str


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> str:
    """From synchronous and from asynchronous code."""
    return str(request.param)


async def go(agent: Any, way: str, given: Any, config: Any = None, **more: Any) -> Any:
    """One run."""
    if way == "sync":
        return await asyncio.to_thread(agent.invoke, given, config, **more)
    return await agent.ainvoke(given, config, **more)


def agent_of(model: Any, tools: Any = (), *others: Any, **policy: Any) -> Any:
    """An agent with the middleware first, and others after it."""
    return create_agent(model, list(tools), middleware=[TurnguardMiddleware(guard(**policy)), *others])


def searching(result: str = "found") -> BaseTool:
    """A tool that finds something."""

    @tool
    def search(q: str) -> str:
        """Search."""
        return f"{result} {q}"

    return search


def broken() -> BaseTool:
    """A tool that fails with words of the page that it read."""

    @tool
    def search(q: str) -> str:
        """Search."""
        raise RuntimeError(f"cannot read: {PROSE}" if q == "bad" else "no network")

    return search


# ---------------------------------------------------------------- corners of a message


PAIRED = [{"name": "search", "args": {}, "id": "1"}]


@pytest.mark.parametrize(
    "message",
    [
        AIMessage([{"type": "tool_use", "id": "1", "name": PROSE, "input": {}}], tool_calls=PAIRED),
        AIMessage("", tool_calls=PAIRED, additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": PROSE}}]}),
        AIMessage(
            "",
            tool_calls=PAIRED,
            additional_kwargs={
                "tool_calls": [{"id": "1", "function": {"name": "search", "arguments": "{}"}, "note": PROSE}]
            },
        ),
        AIMessage(
            "",
            tool_calls=PAIRED,
            additional_kwargs={"function_call": {"name": PROSE, "arguments": "{}"}},
        ),
        *(
            AIMessage("hello", tool_calls=PAIRED, additional_kwargs=extra)
            for extra in (
                {"id": PROSE},
                {"signature": PROSE},
                {"my_signature": PROSE},
                {PROSE: 1},
                {"reasoning": {"id": PROSE}},
                {"__openai_function_call_ids__": {"1": PROSE}},
            )
        ),
        AIMessage("hello", name=PROSE, tool_calls=PAIRED),
    ],
    ids=lambda message: str(message.content or message.additional_kwargs or "name")[:40],
)
async def test_no_corner_of_a_supplied_answer_is_skipped(message: AIMessage) -> None:
    model = Scripted(script=["Fine."])
    history = [HumanMessage("a"), message, ToolMessage("x", tool_call_id="1"), HumanMessage("b")]
    state = await agent_of(model).ainvoke({"messages": history})
    assert UNSAFE not in repr(model.prompts)
    assert UNSAFE not in repr(state)
    answered = [call["id"] for entry in state["messages"] for call in getattr(entry, "tool_calls", ())]
    assert answered == ["1"], "its answer follows, so the call stays"


async def test_seals_and_ids_that_are_tokens_are_not_content(way: str) -> None:
    judge = moderator()
    said_before = AIMessage(
        "hello",
        id="msg_1",
        name="helper",
        additional_kwargs={"signature": "Ab9/+" * 300, "id": "rs_1", "__openai_function_call_ids__": {"1": "fc_1"}},
    )
    agent = create_agent(Scripted(script=["Fine."]), [], middleware=[TurnguardMiddleware(guard(judge))])
    state = await go(agent, way, {"messages": [HumanMessage("a", name="Anna"), said_before, HumanMessage("b")]})
    assert state["messages"][1] == said_before
    asked = {exchange.response or exchange.prompt for exchange in judge.asked}
    assert asked - {"a\nAnna", "aAnna"} == {"hello", "b", "Fine."}, (
        "a person's name is theirs, an agent's the application's"
    )


@pytest.mark.parametrize("kind", [HumanMessage, ToolMessage])
async def test_a_name_that_is_prose_is_content(kind: Any) -> None:
    model = Scripted(script=["Fine."])
    if kind is HumanMessage:
        given: list[BaseMessage] = [HumanMessage("hello", name=PROSE)]
    else:
        given = [
            HumanMessage("a"),
            AIMessage("", tool_calls=PAIRED),
            ToolMessage("x", tool_call_id="1", name=PROSE),
            HumanMessage("b"),
        ]
    state = await agent_of(model).ainvoke({"messages": given})
    assert UNSAFE not in repr(model.prompts)
    assert UNSAFE not in repr(state)


@pytest.mark.parametrize("key", ["grounding_metadata", "citations"])
async def test_what_a_provider_found_on_the_web_is_judged_where_it_stands_in_the_metadata(way: str, key: str) -> None:
    found = {"grounding_chunks": [{"web": {"uri": "https://x.test", "title": PROSE}}]}
    answer = AIMessage("Sunny.", response_metadata={key: found, "model_name": "m", "finish_reason": "stop"})
    state = await go(agent_of(Scripted(script=[answer])), way, said())
    assert UNSAFE not in repr(state)
    assert "hurt" in state["messages"][-1].content
    judge = moderator()
    safe = AIMessage("Sunny.", response_metadata={"finish_reason": "stop", "logprobs": {"content": ["Sunny."]}})
    agent = create_agent(Scripted(script=[safe]), [], middleware=[TurnguardMiddleware(guard(judge))])
    await go(agent, way, said())
    assert judge.asked[-1].response == "Sunny."


async def test_an_answer_of_a_stream_in_a_supplied_history_is_read_whole(way: str) -> None:
    for chunk in (
        AIMessageChunk(content=[{"type": "tool_use", "id": "1", "name": "s", "input": {"q": PROSE}}]),
        AIMessageChunk(
            content="", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "s", "arguments": PROSE}}]}
        ),
    ):
        model = Scripted(script=["Fine."])
        guarded = guard_model(model, guard())
        history = [HumanMessage("a"), chunk, HumanMessage("b")]
        await (guarded.ainvoke(history) if way == "async" else asyncio.to_thread(guarded.invoke, history))
        assert len(model.prompts) == 1
        assert UNSAFE not in repr(model.prompts)


class Chunks(Scripted):
    """Streams one special chunk, and harmless words after it."""

    first: Any = None

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=self.first)
        for _ in range(20):
            await asyncio.sleep(0.001)
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))


@pytest.mark.parametrize(
    "chunk",
    [
        AIMessageChunk(content=[{"type": "non_standard", "value": {UNSAFE: 1}}]),
        AIMessageChunk(content=[{"type": "tool_use", "id": "1", "name": "s", "input": {"q": PROSE}, "index": 0}]),
        AIMessageChunk(content=[{"type": "text", "text": "", "id": PROSE}]),
        AIMessageChunk(content="", response_metadata={"grounding_metadata": {"title": PROSE}}),
        AIMessageChunk(content="", additional_kwargs={PROSE: 1}),
        AIMessageChunk(content="", additional_kwargs={"tool_calls": [{"function": {"name": "s", "arguments": PROSE}}]}),
    ],
)
async def test_a_chunk_without_plain_text_is_judged_before_it_is_shown(chunk: AIMessageChunk) -> None:
    model = Chunks(script=[], first=chunk)
    shown = [piece async for piece in guard_model(model, guard(stream={"window": 20})).astream("hi")]
    assert shown
    assert UNSAFE not in repr(shown)


async def test_a_person_by_another_message_class_is_refused_like_a_person(way: str) -> None:
    model = Scripted(script=["Fine."])
    state = await go(agent_of(model), way, {"messages": [ChatMessage(content=PROSE, role="user")]})
    assert model.prompts == []
    assert [message.content[:9] for message in state["messages"]] == ["[Removed ", "I can't h"]


# ---------------------------------------------------------------- what tools bring


@pytest.mark.parametrize(
    "brought",
    [
        SystemMessage(PROSE),
        ChatMessage(content=PROSE, role="developer"),
        {"role": "system", "content": PROSE},
        {"role": "user", "content": PROSE},
        ("user", PROSE),
        PROSE,
    ],
    ids=repr,
)
async def test_a_tool_brings_no_message_of_a_trusted_role_unjudged(brought: Any) -> None:
    @tool
    def search(q: str, identity: Annotated[str, InjectedToolCallId]) -> Any:
        """Search."""
        return Command(update={"messages": [ToolMessage("fine", tool_call_id=identity), brought]})

    model = Scripted(script=[calls("cats"), "Done."])
    state = await agent_of(model, [search]).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)
    assert state["messages"][-1].content == "Done."


async def test_an_answer_of_a_tool_that_is_a_mapping_stays_an_answer() -> None:
    @tool
    def search(q: str, identity: Annotated[str, InjectedToolCallId]) -> Any:
        """Search."""
        return Command(update={"messages": [{"role": "tool", "tool_call_id": identity, "content": PROSE}]})

    state = await agent_of(Scripted(script=[calls("cats"), "Done."]), [search]).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert [message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)] == ["call-0"]


async def test_switched_off_roles_do_not_open_a_door_for_tools() -> None:
    @tool
    def search(q: str, identity: Annotated[str, InjectedToolCallId]) -> Any:
        """Search."""
        return Command(
            update={"messages": [ToolMessage("fine", tool_call_id=identity), HumanMessage(PROSE), AIMessage(PROSE)]}
        )

    ours = TurnguardMiddleware(guard(), check_input=False, check_output=False, check_tool_calls=False)
    state = await create_agent(Scripted(script=[calls("cats"), "Done."]), [search], middleware=[ours]).ainvoke(said())
    assert UNSAFE not in repr(state)


async def test_an_error_of_a_tool_with_unsafe_words_is_a_withheld_result(way: str) -> None:
    saver = InMemorySaver()
    model = Scripted(script=[calls("bad"), "Done."])
    agent = create_agent(model, [broken()], middleware=[TurnguardMiddleware(guard())], checkpointer=saver)
    state = await go(agent, way, said(), CONFIG)
    assert "withheld" in state["messages"][2].content
    assert state["messages"][-1].content == "Done."
    assert UNSAFE not in repr(state) + stored(saver) + repr(model.prompts)


async def test_a_harmless_error_of_a_tool_is_the_callers_to_see(way: str) -> None:
    with pytest.raises(RuntimeError, match="no network"):
        await go(agent_of(Scripted(script=[calls("cats")]), [broken()]), way, said())


async def test_an_error_in_a_guarded_tool_is_judged_too(way: str) -> None:
    wrapped = guard_tool(broken(), guard())
    said_of = await wrapped.ainvoke({"q": "bad"}) if way == "async" else wrapped.invoke({"q": "bad"})
    assert "withheld" in said_of
    strict = guard_tool(broken(), guard(), exit_behavior="error")
    with pytest.raises(Blocked):
        await strict.ainvoke({"q": "bad"})
    with pytest.raises(RuntimeError, match="no network"):
        await wrapped.ainvoke({"q": "cats"})


async def test_what_is_injected_into_a_guarded_tool_is_none_of_its_arguments(way: str) -> None:
    judge = moderator()
    counted: list[int] = []

    @tool
    def look(q: str, state: Annotated[dict[str, Any], InjectedState], runtime: ToolRuntime) -> str:
        """Look."""
        counted.append(len(state["messages"]))
        return f"seen {q}"

    policy = {"Violence": {"action": "rewrite", "with": "redact"}}
    wrapped = guard_tool(look, guard(judge, categories=policy))
    model = Scripted(script=[calls("It is late. Go there.", f"It is late. {PROSE}.", tool="look"), "Done."])
    agent = create_agent(model, [wrapped])
    state = await go(agent, way, said(f"I said {PROSE}"))
    asked = [exchange.response for exchange in judge.asked if exchange.response]
    assert asked
    assert all("messages" not in response for response in asked)
    assert counted == [2, 2]
    assert state["messages"][2].content == "seen It is late. Go there."
    assert "[redacted]" in state["messages"][3].content


def test_a_guarded_tool_without_arguments_runs() -> None:
    @tool
    def now() -> str:
        """The time."""
        return "noon"

    wrapped = guard_tool(now, guard())
    assert wrapped.run({}) == wrapped.invoke({}) == "noon"


# ---------------------------------------------------------------- other middleware


async def test_what_an_inner_middleware_made_of_a_flagged_answer_stays(way: str) -> None:
    class Redacting(AgentMiddleware):
        def _redacted(self, response: Any) -> Any:
            message = response.result[0]
            text = message.content.replace("SECRET", "***")
            return ModelResponse(result=[message.model_copy(update={"content": text})])

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return self._redacted(handler(request))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return self._redacted(await handler(request))

    agent = agent_of(Scripted(script=[f"{UNSAFE} SECRET"]), [], Redacting(), categories={"Violence": "flag"})
    last = (await go(agent, way, said()))["messages"][-1]
    assert last.content == f"{UNSAFE} ***"
    assert last.response_metadata["turnguard"]["action"] == "flag"


@pytest.mark.parametrize("action", ["block", "rewrite"])
async def test_arguments_that_an_inner_middleware_changes_are_judged_before_the_tool_runs(
    way: str, action: str
) -> None:
    ran: list[str] = []

    class Editing(AgentMiddleware):
        def _edited(self, request: Any) -> Any:
            arguments = {"q": f"It is late. {PROSE}."}
            return request.override(tool_call={**request.tool_call, "args": arguments})

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(self._edited(request))

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            return await handler(self._edited(request))

    class Stateful(BaseTool):
        name: str = "search"
        description: str = "Search."
        count: int = 0

        def _run(self, q: str) -> str:
            self.count += 1
            ran.append(q)
            return "found"

    search = Stateful()
    policy: Any = {"action": "rewrite", "with": "redact"} if action == "rewrite" else action
    agent = agent_of(Scripted(script=[calls("cats"), "Done."]), [search], Editing(), categories={"Violence": policy})
    state = await go(agent, way, said())
    assert UNSAFE not in repr(ran) + repr(state)
    assert ran == (["It is late. [redacted]"] if action == "rewrite" else [])
    assert search.count == len(ran), "the tool itself runs, not a copy"
    assert state["messages"][-1].content == "Done."


class Counting(Scripted):
    """A model that counts tokens in its own way."""

    def get_num_tokens_from_messages(self, messages: Any, tools: Any = None) -> int:
        return len(messages)

    def get_num_tokens(self, text: str) -> int:
        return 7

    def get_token_ids(self, text: str) -> list[int]:
        return [1, 2]


async def test_middleware_that_counts_tokens_asks_the_real_model(way: str) -> None:
    model = Counting(script=[calls("cats"), "Done."])
    editing = ContextEditingMiddleware(token_count_method="model")
    state = await go(agent_of(model, [searching()], editing), way, said())
    assert state["messages"][-1].content == "Done."
    guarded = guard_model(model, guard())
    assert guarded.get_num_tokens("a") == 7
    assert guarded.get_token_ids("a") == [1, 2]


async def test_an_outer_retry_does_not_repeat_what_was_blocked(way: str) -> None:
    model = Scripted(script=[PROSE])
    ours = TurnguardMiddleware(guard(), exit_behavior="error")
    agent = create_agent(model, [], middleware=[ModelRetryMiddleware(max_retries=2, initial_delay=0), ours])
    with pytest.raises(Blocked):
        await go(agent, way, said())
    assert len(model.prompts) == 1


@pytest.mark.parametrize("switch", ["context", "environment"])
async def test_a_tracer_of_the_environment_sees_nothing_of_a_fallback_model_unjudged(
    way: str, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langsmith import Client, tracing_context, utils

    traced: list[str] = []

    class Listening(Client):
        def __init__(self) -> None:
            pass

        def create_run(self, *args: Any, **kwargs: Any) -> None:
            traced.append(repr((args, kwargs)))

        def update_run(self, *args: Any, **kwargs: Any) -> None:
            traced.append(repr((args, kwargs)))

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: None

        @property
        def tracing_queue(self) -> Any:  # type: ignore[override]
            return None

    if switch == "environment":  # whose variables LangSmith reads once
        read = utils.get_env_var
        monkeypatch.setattr(
            utils, "get_env_var", lambda name, *a, **k: "true" if "TRACING" in name else read(name, *a, **k)
        )
    for model, others in (
        (Scripted(script=[RuntimeError("down")]), [ModelFallbackMiddleware(Scripted(script=[PROSE]))]),
        (Scripted(script=[PROSE]), []),
    ):
        traced.clear()
        with tracing_context(enabled=True if switch == "context" else None, client=Listening()):
            state = await go(agent_of(model, [], *others), way, said())
        assert UNSAFE not in repr(state)
        assert any("ChatModel" in run or "Scripted" in run for run in traced), "the model's own run is traced"
        assert not [run for run in traced if UNSAFE in run]


@pytest.mark.parametrize("bound", ["constructor", "binding"])
async def test_callbacks_of_the_model_itself_hear_only_what_was_judged(way: str, bound: str) -> None:
    for script in ([PROSE], ["Hello there."]):
        witness = Witness()
        model: Any = Scripted(script=list(script), callbacks=[witness] if bound == "constructor" else None)
        if bound == "binding":
            model = model.with_config(callbacks=[witness])
        guarded = guard_model(model, guard())
        answer = await guarded.ainvoke("Hi") if way == "async" else await asyncio.to_thread(guarded.invoke, "Hi")
        shown = [chunk async for chunk in guarded.astream("Hi")]
        assert witness.of("on_llm_end", "on_llm_new_token"), "they do hear it"
        assert UNSAFE not in witness.of() + repr(answer) + repr(shown)
    agent = agent_of(Scripted(script=[PROSE], callbacks=[witness]))
    await go(agent, way, said())
    assert UNSAFE not in witness.of()


# ---------------------------------------------------------------- structured answers


@pytest.mark.parametrize("saver", [None, InMemorySaver])
@pytest.mark.parametrize("strategy", [ProviderStrategy, AutoStrategy])
@pytest.mark.parametrize("action", ["block", "rewrite", "review"])
async def test_a_structured_answer_that_cannot_be_rewritten_is_refused(
    way: str, action: str, strategy: Any, saver: Any
) -> None:
    model = Scripted(script=[f'{{"text": "{UNSAFE}"}}'], profile={"structured_output": True})
    agent = create_agent(
        model,
        [],
        middleware=[TurnguardMiddleware(guard(categories={"Violence": action}))],
        response_format=strategy(Answer),
        checkpointer=saver() if saver else None,
    )
    state = await go(agent, way, said(), CONFIG)
    assert "hurt" in state["messages"][-1].content
    assert state.get("structured_response") is None
    assert "__interrupt__" not in state


async def test_a_structured_answer_is_judged_once_over_turns(way: str) -> None:
    def answer(number: int) -> AIMessage:
        call = {"name": "Answer", "args": {"text": f"answer {number}"}, "id": f"a{number}"}
        return AIMessage("", tool_calls=[call])

    judge = moderator()
    agent = create_agent(
        Scripted(script=[answer(1), answer(2)]),
        [],
        middleware=[TurnguardMiddleware(guard(judge))],
        response_format=ToolStrategy(Answer),
        checkpointer=InMemorySaver(),
    )
    await go(agent, way, said(), CONFIG)
    await go(agent, way, said("And now?"), CONFIG)
    assert len(judge.asked) == 4, "two inputs, two answers; the echo of an answer is no tool's result"


# ---------------------------------------------------------------- blocking by exception, and beside the model


@pytest.mark.parametrize("checks", [{}, {"input": "beside"}])
@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_what_was_blocked_by_exception_leaves_the_thread_clean_and_usable(
    way: str, durability: str, checks: dict[str, Any]
) -> None:
    for text, script in ((PROSE, ["Fine.", "Fine."]), ("Hello", [PROSE, "Fine."])):
        saver = InMemorySaver()
        model = Scripted(script=script)
        ours = TurnguardMiddleware(guard(checks=checks), exit_behavior="error")
        agent: Any = create_agent(model, [], middleware=[ours], checkpointer=saver)
        with pytest.raises(Blocked):
            await go(agent, way, said(text), CONFIG, durability=durability)
        assert UNSAFE not in repr((await agent.aget_state(CONFIG)).values)
        if durability == "exit" or text == "Hello":
            assert UNSAFE not in stored(saver)
        state = await go(agent, way, said("And now?"), CONFIG)
        assert state["messages"][-1].content == "Fine."
        assert UNSAFE not in repr(model.prompts) or checks


async def test_a_block_is_raised_whatever_other_middleware_says_last(way: str) -> None:
    class Signing(AgentMiddleware):
        def after_agent(self, state: Any, runtime: Any) -> Any:
            return {"messages": [AIMessage("Yours, the agent.")]}

    ours = TurnguardMiddleware(guard(), exit_behavior="error")
    for script, text in (([PROSE], "Hello"), (["Fine."], PROSE)):
        agent = create_agent(Scripted(script=script), [], middleware=[ours, Signing()])
        with pytest.raises(Blocked):
            await go(agent, way, said(text))


async def test_turns_that_are_blocked_at_once_for_the_same_words_all_raise() -> None:
    ours = TurnguardMiddleware(guard(), exit_behavior="error")
    agent: Any = create_agent(Scripted(script=[PROSE]), [], middleware=[ours])
    given = [agent.ainvoke(said()) for _ in range(4)]
    assert [type(one) for one in await asyncio.gather(*given, return_exceptions=True)] == [Blocked] * 4
    with pytest.raises(Blocked):
        async for _ in agent.astream(said(PROSE), stream_mode="messages"):
            pass


async def test_an_unsafe_input_beside_a_model_that_fails_is_refused(way: str) -> None:
    judge = moderator(delay=0.03)
    agent = create_agent(
        Scripted(script=[RuntimeError("down")]),
        [],
        middleware=[TurnguardMiddleware(guard(judge, checks={"input": "beside"}))],
        checkpointer=InMemorySaver(),
    )
    state = await go(agent, way, said(PROSE), CONFIG)
    assert UNSAFE not in repr(state)
    assert "hurt" in state["messages"][-1].content
    with pytest.raises(RuntimeError, match="down"):
        await go(agent, way, said("Hello"), {"configurable": {"thread_id": "2"}})


# ---------------------------------------------------------------- other surfaces


def _given(answer: Any, _messages: Any) -> Any:
    return answer


async def test_any_runnable_that_answers_may_be_guarded(way: str) -> None:
    for answer in ("Fine.", AIMessage("Fine.")):
        guarded = guard_model(RunnableLambda(partial(_given, answer)), guard())
        result = await guarded.ainvoke("hi") if way == "async" else await asyncio.to_thread(guarded.invoke, "hi")
        assert result.content == "Fine."
        assert "".join([str(chunk.content) async for chunk in guarded.astream("hi")]) == "Fine."
    unsafe = guard_model(RunnableLambda(lambda _messages: PROSE), guard())
    assert "hurt" in str((await unsafe.ainvoke("hi")).content)


async def test_the_handler_asks_once_about_each_call_of_an_agent(way: str) -> None:
    judge = moderator()
    handler: BaseCallbackHandler = TurnguardCallbackHandler(guard(judge))
    model = Scripted(script=[calls("one", "two"), calls("three", first=2), "Done."])
    agent = create_agent(model, [searching()])
    await go(agent, way, said(), {"callbacks": [handler]})
    assert len(judge.asked) == 1 + 3 + 3 + 1
    await searching().ainvoke({"q": "one"}, {"callbacks": [handler]})
    assert len(judge.asked) == 9, "a call that no model proposed is judged; its result is known"


# ---------------------------------------------------------------- what runs inside, and what went before


@pytest.mark.parametrize("mode", ["messages", "updates", "values", "tasks", "debug"])
async def test_a_guarded_agent_in_a_tool_shows_nothing_through_the_outer_stream(mode: Any) -> None:
    inner: Any = create_agent(
        Scripted(script=[f"It says {PROSE} and more"]), [], middleware=[TurnguardMiddleware(guard())], name="inner"
    )

    @tool
    async def ask(q: str) -> str:
        """Ask the other agent."""
        return str((await inner.ainvoke(said(q)))["messages"][-1].content)

    agent = agent_of(Scripted(script=[calls("cats", tool="ask"), "Done."]), [ask])
    shown = [chunk async for chunk in agent.astream(said(), stream_mode=[mode], subgraphs=True)]
    assert len({chunk[0] for chunk in shown}) > 1, "the inner graph is in the stream"
    assert UNSAFE not in repr(shown)


async def test_a_guarded_model_given_to_another_middleware_shows_nothing_through_the_stream(way: str) -> None:
    summaries = guard_model(Scripted(script=[f"They spoke of {PROSE}"]), guard())
    model = Scripted(script=[calls("a"), calls("b", first=1), "Done."])
    summing: Any = SummarizationMiddleware(model=summaries, trigger=("messages", 3), keep=("messages", 2))
    agent: Any = create_agent(model, [searching()], middleware=[summing, TurnguardMiddleware(guard())])
    if way == "sync":
        shown = await asyncio.to_thread(lambda: list(agent.stream(said(), stream_mode=["messages", "values"])))
    else:
        shown = [chunk async for chunk in agent.astream(said(), stream_mode=["messages", "values"])]
    assert UNSAFE not in repr(shown) + repr(model.prompts)
    assert "hurt" in repr(model.prompts[-1]), "its summary was refused"


async def test_a_fork_from_an_earlier_checkpoint_is_judged_like_a_first_run(way: str) -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return "found"

    model = Scripted(script=[calls("cats"), "Done.", "Done again."])
    agent: Any = create_agent(model, [search], middleware=[TurnguardMiddleware(guard())], checkpointer=InMemorySaver())
    await go(agent, way, said(), CONFIG)
    past = {state.next: state async for state in agent.aget_state_history(CONFIG)}
    call = past[("tools",)].values["messages"][-1]
    edited = call.model_copy(update={"tool_calls": [{**call.tool_calls[0], "args": {"q": PROSE}}]})
    forked = await agent.aupdate_state(past[("model",)].config, {"messages": [call, edited]}, as_node="model")
    await go(agent, way, None, forked)
    asked = {"messages": [HumanMessage(PROSE)]}
    forked = await agent.aupdate_state(past[("model",)].config, asked, as_node="TurnguardMiddleware.before_agent")
    state = await go(agent, way, None, forked)
    assert ran == ["cats"]
    assert UNSAFE not in repr(model.prompts) + repr(state)


@pytest.mark.parametrize("version", ["log", "v1", "batch"])
async def test_older_ways_to_run_an_agent_show_nothing_either(version: str) -> None:
    agent = agent_of(Scripted(script=[f"It says {PROSE} and more"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if version == "log":
            shown = [entry async for entry in agent.astream_log(said())]
        elif version == "v1":
            shown = [event async for event in agent.astream_events(said(), version="v1")]
        else:
            shown = [*agent.batch([said(), said("Hi")]), *await agent.abatch([said(), said("Hi")])]
    assert shown
    assert UNSAFE not in repr(shown)
