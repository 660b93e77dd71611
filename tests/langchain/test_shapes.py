"""The many shapes of messages and results: each judged, none left half replaced."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import BaseModel

from tests.langchain.kit import UNSAFE, Scripted, b64, calls, guard, moderator, picture, said
from turnguard.langchain import TurnguardMiddleware


class Answer(BaseModel):
    """A structured answer."""

    text: str


def build(
    model: Scripted, *tools: Any, judge: Any = None, options: Any = None, agent: Any = None, **policy: Any
) -> Any:
    """An agent under guard."""
    middleware = TurnguardMiddleware(guard(judge, **policy), **(options or {}))
    built: Any = create_agent(model, list(tools), middleware=[middleware], **(agent or {}))
    return built


def returning(value: Any, **options: Any) -> Any:
    """A tool that gives back `value`."""

    def search(q: str) -> Any:
        """Search."""
        return value() if callable(value) else value

    return tool(**options)(search) if options else tool(search)


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"page {UNSAFE}", id="text"),
        pytest.param([{"type": "text", "text": f"page {UNSAFE}"}], id="blocks"),
        pytest.param({"title": "x", "body": {"deep": [f"{UNSAFE}"]}}, id="json"),
        pytest.param(lambda: ToolMessage(f"page {UNSAFE}", tool_call_id="call-0", name="search"), id="message"),
        pytest.param(
            lambda: [
                ToolMessage("fine", tool_call_id="call-0", name="search"),
                Command(update={"messages": [HumanMessage(f"page {UNSAFE}")]}),
            ],
            id="list",
        ),
        pytest.param(
            lambda: Command(update={"messages": [ToolMessage(f"page {UNSAFE}", tool_call_id="call-0", name="search")]}),
            id="command",
        ),
        pytest.param(
            lambda: ToolMessage("fine", tool_call_id="call-0", name="search", artifact={"page": f"{UNSAFE}"}),
            id="artifact",
        ),
        pytest.param(
            lambda: ToolMessage("fine", tool_call_id="call-0", name="search", additional_kwargs={"raw": UNSAFE}),
            id="kwargs",
        ),
    ],
)
async def test_an_unsafe_result_goes_nowhere_in_any_form(value: Any) -> None:
    model = Scripted(script=[calls("x"), "Done."])
    state = await build(model, returning(value)).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)
    assert state["messages"][-1].content == "Done."
    answered = {message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)}
    assert answered == {"call-0"}


async def test_documents_of_a_retriever_are_judged_with_their_metadata() -> None:
    @tool(response_format="content_and_artifact")
    def search(q: str) -> Any:
        """Search."""
        return "two documents", [Document("fine"), Document("fine", metadata={"note": UNSAFE})]

    model = Scripted(script=[calls("x"), "Done."])
    state = await build(model, search).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert state["messages"][-2].artifact is None


@pytest.mark.parametrize("dialect", ["v1", "openai", "anthropic", "nested", "artifact"])
async def test_an_unsafe_screenshot_goes_nowhere(dialect: str) -> None:
    from turnguard.core.exchange import Exchange
    from turnguard.core.verdict import Verdict

    def script(exchange: Exchange) -> Verdict | None:
        if exchange.picture is None:
            return None
        return Verdict(user="unsafe", categories=("Violence",), p_user=0.99)

    data = b64(picture())
    block: Any = {
        "v1": {"type": "image", "base64": data, "mime_type": "image/png"},
        "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        "nested": {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image", "base64": data}]},
        "artifact": {"type": "text", "text": "a screenshot"},
    }[dialect]
    artifact = {"png": picture()} if dialect == "artifact" else None
    value = ToolMessage([block], tool_call_id="call-0", name="search", artifact=artifact)
    model = Scripted(script=[calls("x"), "Done."])
    judge = moderator(script=script)
    state = await build(model, returning(lambda: value), judge=judge).ainvoke(said())
    assert any(exchange.picture is not None for exchange in judge.asked)
    assert data not in repr(state) + repr(model.prompts)
    assert repr(picture())[:60] not in repr(state)
    assert state["messages"][-1].content == "Done."


async def test_a_direct_result_is_judged_though_no_model_reads_it() -> None:
    model = Scripted(script=[calls("x")])
    state = await build(model, returning(f"page {UNSAFE}", return_direct=True)).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert len(model.prompts) == 1


async def test_a_commands_other_state_is_judged_too() -> None:
    value: Any = lambda: Command(  # noqa: E731
        update={
            "messages": [ToolMessage("fine", tool_call_id="call-0", name="search")],
            "structured_response": {"note": UNSAFE},
        }
    )
    state = await build(Scripted(script=[calls("x"), "Done."]), returning(value)).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert state["messages"][-2].content == "fine"


async def test_a_rewrite_of_a_result_keeps_what_is_safe() -> None:
    value = [
        {"type": "text", "text": f"This is kept. Here is {UNSAFE}. And this is kept."},
        {"type": "text", "text": "All of this. Is kept."},
    ]
    model = Scripted(script=[calls("x"), "Done."])
    policy = {"stages": {"tool_result": {"categories": {"Violence": {"action": "rewrite", "with": "redact"}}}}}
    state = await build(model, returning(value), **policy).ainvoke(said())
    result = state["messages"][-2]
    assert UNSAFE not in repr(state)
    assert result.content[0]["text"].startswith("This is kept. [redacted]")
    assert result.content[1] == value[1]
    assert result.status == "success"


# ---------------------------------------------------------------- calls


async def test_arguments_are_redacted_before_the_tool_sees_them() -> None:
    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return "found"

    policy = {"categories": {"Violence": {"action": "rewrite", "with": "redact"}}}
    model = Scripted(script=[calls(f"my number is {UNSAFE}"), "Done."])
    state = await build(model, search, **policy).ainvoke(said())
    assert len(ran) == 1
    assert UNSAFE not in ran[0]
    assert UNSAFE not in repr(state)
    assert state["messages"][1].tool_calls[0]["args"]["q"] == ran[0]


async def test_invalid_calls_are_judged_and_leave_no_trace() -> None:
    broken = AIMessage(
        "Trying.",
        invalid_tool_calls=[
            {"name": "search", "args": f"{{'q': {UNSAFE}", "id": "x", "error": "no JSON", "type": "invalid_tool_call"}
        ],
    )
    state = await build(Scripted(script=[broken, "Done."]), returning("fine")).ainvoke(said())
    assert UNSAFE not in repr(state)


async def test_a_safe_invalid_call_stays() -> None:
    broken = AIMessage(
        "Trying.",
        invalid_tool_calls=[
            {"name": "search", "args": "{'q'", "id": "x", "error": "no JSON", "type": "invalid_tool_call"}
        ],
    )
    state = await build(Scripted(script=[broken]), returning("fine")).ainvoke(said())
    assert state["messages"][-1].invalid_tool_calls[0]["args"] == "{'q'"


def provider_message() -> AIMessage:
    """A call as Anthropic and OpenAI both leave it: in the parsed list, in a block, and in the raw fields."""
    return AIMessage(
        [
            {"type": "text", "text": "I will look."},
            {"type": "tool_use", "id": "call-0", "name": "search", "input": {"q": f"{UNSAFE}"}},
            {"type": "tool_use", "id": "call-1", "name": "search", "input": {"q": "cats"}},
        ],
        tool_calls=[
            {"name": "search", "args": {"q": f"{UNSAFE}"}, "id": "call-0"},
            {"name": "search", "args": {"q": "cats"}, "id": "call-1"},
        ],
        additional_kwargs={
            "tool_calls": [
                {
                    "id": "call-0",
                    "type": "function",
                    "function": {"name": "search", "arguments": f'{{"q": "{UNSAFE}"}}'},
                },
                {"id": "call-1", "type": "function", "function": {"name": "search", "arguments": '{"q": "cats"}'}},
            ]
        },
        response_metadata={"model_provider": "anthropic", "logprobs": {"content": [{"token": UNSAFE}]}},
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    )


async def test_no_block_of_the_provider_keeps_a_blocked_call() -> None:
    judge = moderator()
    model = Scripted(script=[provider_message(), "Done."])
    state = await build(model, returning("fine"), judge=judge).ainvoke(said())
    assert UNSAFE not in repr(state)
    proposed = state["messages"][1]
    assert [block["type"] for block in proposed.content] == ["text", "tool_use"]
    assert [call["args"] for call in proposed.tool_calls] == [{}, {"q": "cats"}]
    assert proposed.usage_metadata["total_tokens"] == 7
    asked = [exchange for exchange in judge.asked if exchange.stage in ("tool_call", "output")]
    assert len(asked) == 4, "the text, each call once, and the last answer"


async def test_a_blocked_answer_takes_its_calls_and_blocks_with_it() -> None:
    message = provider_message()
    content: Any = message.content
    content[0]["text"] = f"I will {UNSAFE}."
    state = await build(Scripted(script=[message]), returning("fine")).ainvoke(said())
    assert UNSAFE not in repr(state)
    assert len(state["messages"]) == 2
    assert not state["messages"][1].tool_calls
    assert isinstance(state["messages"][1].content, str)


async def test_results_of_tools_that_the_provider_ran_are_judged_as_results() -> None:
    message = AIMessage(
        [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "news"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s1",
                "content": [{"type": "web_search_result", "title": f"all about {UNSAFE}", "url": "https://x.test"}],
            },
            {"type": "text", "text": "Here is the news."},
        ]
    )
    judge = moderator()
    state = await build(Scripted(script=[message]), judge=judge).ainvoke(said())
    assert any(exchange.stage == "tool_result" for exchange in judge.asked)
    assert UNSAFE not in repr(state)
    kinds = [block["type"] for block in state["messages"][1].content]
    assert kinds == ["text", "text"], "no provider takes a notice in place of its own result: the call goes with it"
    assert "withheld" in state["messages"][1].content[0]["text"]
    assert state["messages"][1].content[1]["text"] == "Here is the news."


# ---------------------------------------------------------------- structured output


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
@pytest.mark.parametrize("way", ["sync", "async", "stream"])
async def test_an_unsafe_structured_answer_is_refused_and_does_not_loop(strategy: Any, way: str) -> None:
    if strategy is ToolStrategy:
        message = AIMessage("", tool_calls=[{"name": "Answer", "args": {"text": UNSAFE}, "id": "a"}])
    else:
        message = AIMessage(f'{{"text": "{UNSAFE}"}}')
    model = Scripted(script=[message])
    agent = build(model, agent={"response_format": strategy(Answer)})
    config = {"recursion_limit": 8}
    if way == "stream":
        shown = list(agent.stream(said(), config, stream_mode=["messages", "values", "updates"]))
        state = [chunk for mode, chunk in shown if mode == "values"][-1]
        assert UNSAFE not in repr(shown)
    else:
        state = agent.invoke(said(), config) if way == "sync" else await agent.ainvoke(said(), config)
    assert UNSAFE not in repr(state)
    assert state.get("structured_response") is None
    assert len(model.prompts) == 1
    assert len(state["messages"]) == 2


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
async def test_a_safe_structured_answer_passes(strategy: Any) -> None:
    if strategy is ToolStrategy:
        message = AIMessage("", tool_calls=[{"name": "Answer", "args": {"text": "fine"}, "id": "a"}])
    else:
        message = AIMessage('{"text": "fine"}')
    judge = moderator()
    state = await build(Scripted(script=[message]), judge=judge, agent={"response_format": strategy(Answer)}).ainvoke(
        said()
    )
    assert state["structured_response"] == Answer(text="fine")
    assert len(judge.asked) == 2


# ---------------------------------------------------------------- what the caller brings


async def test_supplied_history_is_judged_and_kept_in_pairs() -> None:
    history = [
        HumanMessage(f"earlier {UNSAFE}", id="h1"),
        AIMessage("", id="a1", tool_calls=[{"name": "search", "args": {"q": UNSAFE}, "id": "old"}]),
        ToolMessage(f"{UNSAFE}", tool_call_id="old", id="t1"),
        AIMessage(f"{UNSAFE}", id="a2"),
        HumanMessage("And now?", id="h2"),
    ]
    model = Scripted(script=["Fine."])
    state = await build(model, returning("x")).ainvoke({"messages": history})
    assert UNSAFE not in repr(state)
    assert UNSAFE not in repr(model.prompts)
    assert [message.id for message in state["messages"][:5]] == ["h1", "a1", "t1", "a2", "h2"]
    assert [call["id"] for call in state["messages"][1].tool_calls] == ["old"]
    assert state["messages"][4].content == "And now?"
    assert state["messages"][-1].content == "Fine."


async def test_the_applications_own_messages_are_not_judged_unless_they_may_be_the_clients() -> None:
    given: Any = {"messages": [SystemMessage(f"Never talk about {UNSAFE}"), HumanMessage("Hello")]}
    state = await build(Scripted(script=["Fine."])).ainvoke(given)
    assert state["messages"][-1].content == "Fine."
    strict = TurnguardMiddleware(guard(checks={"trusted_roles": []}))
    model = Scripted(script=["Fine."])
    state = await create_agent(model, [], middleware=[strict]).ainvoke(given)
    assert UNSAFE not in repr(model.prompts)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram", "data": "blue words"},
        {"type": "image", "file_id": "file-1"},
        {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
        {"type": "image", "base64": "not an image", "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
    ],
    ids=["unknown", "file-id", "audio", "broken", "private-url"],
)
async def test_what_cannot_be_checked_is_blocked_by_default_and_follows_the_policy(block: Any) -> None:
    content = [{"type": "text", "text": "What is this?"}, block]
    model = Scripted(script=["Fine."])
    state = await build(model).ainvoke(said(content))
    assert model.prompts == []
    assert len(state["messages"]) == 2
    assert "blue words" not in repr(state["messages"])
    lax = Scripted(script=["Fine."])
    state = await build(lax, on_uncheckable="flag").ainvoke(said(content))
    assert state["messages"][-1].content == "Fine."
    assert state["messages"][0].response_metadata["turnguard"]["action"] == "flag"


@pytest.mark.parametrize("content", ["", "   ", [], [{"type": "text", "text": ""}]])
async def test_empty_messages_pass_without_a_request(content: Any) -> None:
    judge = moderator()
    state = await build(Scripted(script=[AIMessage(content)]), judge=judge).ainvoke(said(content))
    assert judge.asked == []
    assert len(state["messages"]) == 2


async def test_a_huge_result_is_cut_where_judging_ended() -> None:
    model = Scripted(script=[calls("x"), "Done."])
    state = await build(model, returning("word " * 200_000 + UNSAFE)).ainvoke(said())
    result = state["messages"][2].content
    assert result.startswith("word word")
    assert len(result) < 200_000
    assert UNSAFE not in repr(state)
    assert state["messages"][-1].content == "Done."
    strict = Scripted(script=[calls("x"), "Done."])
    state = await build(strict, returning("word " * 200_000), on_uncheckable="block").ainvoke(said())
    assert len(repr(state)) < 20_000


async def test_the_prompt_of_an_output_is_the_persons_newest_request() -> None:
    judge = moderator()
    await build(Scripted(script=["Fine."]), judge=judge).ainvoke(
        {"messages": [HumanMessage("First"), AIMessage("One"), HumanMessage("Second")]}
    )
    last = [exchange for exchange in judge.asked if exchange.response == "Fine."]
    assert [exchange.prompt for exchange in last] == ["Second"]
