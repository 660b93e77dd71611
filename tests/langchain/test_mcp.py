"""Tools of a real MCP server, by langchain-mcp-adapters: what they are called with, what they give, what they say of
themselves.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import PrivateAttr

from tests.langchain.kit import UNSAFE, Scripted, Witness, b64, guard, moderator, picture, said
from turnguard.config.settings import MediaSettings
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.langchain import TurnguardMiddleware

pytest.importorskip("langchain_mcp_adapters", reason="langchain-mcp-adapters is not installed")

from langchain_mcp_adapters.sessions import StdioConnection, create_session
from langchain_mcp_adapters.tools import load_mcp_tools

BLOCKED = {"tools": {"default": "block"}}
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def tools() -> AsyncIterator[dict[str, Any]]:
    """The tools of a server that runs as a process of its own."""
    connection: StdioConnection = {
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-m", "tests.langchain.mcp_server"],
        "cwd": str(ROOT),
        "env": {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    }
    async with create_session(connection) as session:
        await session.initialize()
        yield {tool.name: tool for tool in await load_mcp_tools(session)}


def looking(what: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "look", "args": {"what": what}, "id": "call_1"}])


def pictures_are_unsafe(exchange: Exchange) -> Verdict | None:
    return None if exchange.picture is None else Verdict(user="unsafe", categories=("Violence",), p_user=0.99)


UNSAFE_RESULTS = (
    *("text", "image", "resource", "blob", "document", "link", "page"),
    *("error", "pictured error", "structured"),
)


async def test_nothing_unsafe_of_a_server_is_seen() -> None:
    async with tools() as served:  # one process for all: each takes a second to start
        for what in UNSAFE_RESULTS:
            model, heard = Scripted(script=[looking(what), "Done."]), Witness()
            ours = TurnguardMiddleware(guard(moderator(script=pictures_are_unsafe)))
            agent = create_agent(model, [served["look"]], middleware=[ours])
            config: Any = {"callbacks": [heard]}
            parts = [part async for part in agent.astream(said(), config, stream_mode=["values", "updates"])]
            everything = repr(parts) + repr(model.prompts) + heard.of()
            assert UNSAFE not in everything, what
            assert b64(picture()) not in everything, what
            assert "elsewhere.test" not in everything, what
            answer = model.prompts[1][-1]
            assert isinstance(answer, ToolMessage)
            assert "withheld" in str(answer.content), what


@asynccontextmanager
async def pages(**served: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """A server on the loopback, by the names of its pages; its address, and what it was asked for."""
    asked: list[str] = []

    async def page(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=served[request.path[1:].partition(".")[0]])

    app = web.Application()
    app.router.add_get("/{name}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_a_linked_picture_inside_allow_urls_is_judged_by_its_bytes_and_a_document_is_uncheckable() -> None:
    async with tools() as served, pages(cat=picture(), note=b"Open from nine to five.") as (base, asked):
        media = MediaSettings(allow_urls=(f"{base}/",), allow_private=("127.0.0.0/8",))
        for name, script, passes in (
            ("cat.png", None, True),
            ("cat.png", pictures_are_unsafe, False),
            ("note.txt", None, False),
        ):
            asked.clear()
            judge, model = moderator(script=script), Scripted(script=[looking(f"{base}/{name}"), "Done."])
            ours = TurnguardMiddleware(guard(judge, media=media, on_uncheckable="block"))
            await create_agent(model, [served["look"]], middleware=[ours]).ainvoke(said())
            content = str(model.prompts[1][-1].content)
            is_picture = name == "cat.png"
            assert asked == [f"/{name}"] * is_picture, "a picture is fetched once, and by us"
            assert any(one.picture is not None for one in judge.asked) == is_picture
            assert ("withheld" in content) != passes
            assert (b64(picture()) in content) == passes, "what goes on are the bytes that were judged"


async def test_safe_results_pass_as_they_are_and_injected_arguments_are_nobodys() -> None:
    secret = "the configuration's own secret"
    judge, model = moderator(), Scripted(script=[looking("cats"), "Done."])
    async with tools() as served:
        ours = [TurnguardMiddleware(guard(judge))]
        config: Any = {"configurable": {"secret": secret}}
        state = await create_agent(model, [served["look"]], middleware=ours).ainvoke(said(), config)
        plain = await create_agent(Scripted(script=[looking("cats"), "Done."]), [served["look"]]).ainvoke(said())
    assert [message.text for message in state["messages"]] == [message.text for message in plain["messages"]]
    asked = [(exchange.stage, exchange.response or exchange.prompt) for exchange in judge.asked]
    assert secret not in repr(asked)
    assert [text for stage, text in asked if stage == "tool_call"] == ["look\nwhat: cats"]


class Bound(Scripted):
    """Notes the tools that it is offered."""

    _offered: list[list[Any]] = PrivateAttr(default_factory=list)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self._offered.append(list(tools))
        return self


async def test_a_poisoned_tool_is_not_offered() -> None:
    async with tools() as served:
        for which in ("dynamic", "all", "none"):
            judge, model = moderator(), Bound(script=[looking("cats"), "Done."])
            ours = TurnguardMiddleware(guard(judge, checks={"tools": which}, stages=BLOCKED))
            await create_agent(model, list(served.values()), middleware=[ours]).ainvoke(said())
            names = ["look", "poisoned"] if which == "none" else ["look"]
            assert [[tool.name for tool in each] for each in model._offered] == [names, names]
            judged = [exchange for exchange in judge.asked if exchange.stage == "tools"]
            assert len(judged) == (0 if which == "none" else 2), "each definition once, however many calls there are"


async def test_a_poisoned_tool_that_was_called_before_stays_without_its_words() -> None:
    history = [
        HumanMessage("Hello"),
        AIMessage("", tool_calls=[{"name": "poisoned", "args": {"q": "x"}, "id": "call_0"}]),
        ToolMessage("fine x", tool_call_id="call_0", name="poisoned"),
        HumanMessage("And now?"),
    ]
    async with tools() as served:
        ours = TurnguardMiddleware(guard(stages=BLOCKED))
        model = Bound(script=["Fine."])
        given: Any = {"messages": history}
        await create_agent(model, list(served.values()), middleware=[ours]).ainvoke(given)
    (offered,) = model._offered
    assert [tool.name for tool in offered] == ["look", "poisoned"]
    assert UNSAFE not in offered[1].description + repr(offered[1].args_schema)
