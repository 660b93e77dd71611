"""The coverage matrix: every cell is a run of an agent, searched for the unsafe content wherever it could have gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from tests.langchain.kit import UNSAFE, Scripted, Witness, b64, calls, guard, moderator, picture, stored
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.langchain import TurnguardMiddleware

DURABILITIES = ("exit", "async", "sync")
MODES = ("values", "updates", "messages", "custom", "tasks", "checkpoints", "debug")
ENTRIES = (
    "invoke",
    "ainvoke",
    *(f"stream {mode}" for mode in MODES),
    *(f"astream {mode}" for mode in MODES),
    "astream_events v2",
    "stream_events v3",
    "astream_events v3",
)
ACTIONS = ("block", "rewrite", "review")
PLACES = ("state", "checkpoints", "stream", "next prompt", "callbacks")

SHOT = picture()
SHOT_B64 = b64(SHOT)
NEEDLES = (UNSAFE, SHOT_B64[40:100], repr(SHOT)[60:100])
LONG = "some harmless words " * 15


class Answer(BaseModel):
    """A structured answer."""

    text: str


@dataclass(frozen=True)
class Case:
    """One stage and kind of content: what the person says, what the model says, what the tool gives back."""

    stage: str
    kind: str
    said: Any = "Hello"
    script: tuple[Any, ...] = ("Fine.",)
    result: Any = "fine"
    structured: bool = False

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.stage}: {self.kind}"


def _image() -> dict[str, Any]:
    return {"type": "image", "base64": SHOT_B64, "mime_type": "image/png"}


def _called(text: str = "") -> AIMessage:
    return calls("cats", text=text)


def _answer(name: str, content: Any, **more: Any) -> Callable[[str], Any]:
    return lambda identity: ToolMessage(content, tool_call_id=identity, name=name, **more)


CASES = (
    Case("input", "text", said=f"{LONG} {UNSAFE}"),
    Case("input", "image", said=[{"type": "text", "text": "What is this?"}, _image()]),
    Case("output", "text", script=(f"{LONG} {UNSAFE} {LONG}",)),
    Case(
        "output", "reasoning", script=(AIMessage("Fine.", additional_kwargs={"reasoning_content": f"{LONG} {UNSAFE}"}),)
    ),
    Case("output", "content blocks", script=(AIMessage([{"type": "text", "text": f"{LONG} {UNSAFE}"}]),)),
    Case("output", "text beside a call", script=(_called(f"{LONG} {UNSAFE}"), "Done.")),
    Case(
        "output",
        "structured",
        script=(AIMessage("", tool_calls=[{"name": "Answer", "args": {"text": UNSAFE}, "id": "a"}]),),
        structured=True,
    ),
    Case("tool call", "arguments", script=(calls("cats", f"{LONG} {UNSAFE}", text="Let me look."), "Done.")),
    Case(
        "tool call",
        "invalid arguments",
        script=(
            AIMessage(
                "Let me look.",
                invalid_tool_calls=[
                    {
                        "name": "search",
                        "args": f"{{{UNSAFE} {LONG}",
                        "id": "x",
                        "error": "e",
                        "type": "invalid_tool_call",
                    }
                ],
            ),
            "Done.",
        ),
    ),
    Case("tool result", "text", script=(_called(), "Done."), result=f"page {UNSAFE}"),
    Case("tool result", "JSON", script=(_called(), "Done."), result={"rows": [{"name": UNSAFE}]}),
    Case("tool result", "image", script=(_called(), "Done."), result=[{"type": "text", "text": "shot"}, _image()]),
    Case(
        "tool result", "artifact", script=(_called(), "Done."), result=_answer("search", "shot", artifact={"png": SHOT})
    ),
    Case(
        "tool result",
        "Command",
        script=(_called(), "Done."),
        result=lambda identity: Command(
            update={"messages": [ToolMessage(f"page {UNSAFE}", tool_call_id=identity, name="search")]}
        ),
    ),
    Case(
        "tool result",
        "list",
        script=(_called(), "Done."),
        result=lambda identity: [
            ToolMessage("fine", tool_call_id=identity, name="search"),
            Command(update={"messages": [HumanMessage(f"page {UNSAFE}")]}),
        ],
    ),
    Case(
        "tool result",
        "of the provider",
        script=(
            AIMessage(
                [
                    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "news"}},
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "s1",
                        "content": [{"type": "web_search_result", "title": f"about {UNSAFE}", "url": "https://x.test"}],
                    },
                    {"type": "text", "text": "Here is the news."},
                ]
            ),
        ),
    ),
)


@dataclass
class Cell:
    """What one run left where. `host` counts what LangGraph and LangChain themselves show, before or beside our
    hooks.
    """

    leaks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLACES, 0))
    host: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLACES, 0))
    shown: int = 0


def unsafe(text: Any) -> bool:
    """Whether anything of the unsafe content stands in it."""
    text = text if isinstance(text, str) else repr(text)
    return any(needle in text for needle in NEEDLES)


def judge(exchange: Exchange) -> Verdict | None:
    """The scripted word rule, and every picture unsafe."""
    if exchange.picture is None:
        return None
    return Verdict(user="unsafe", categories=("Violence",), p_user=0.99)


def policy(action: str) -> dict[str, Any]:
    """The action for every stage; a call can only be rewritten by redaction."""
    return {"default": {"action": "rewrite", "with": "redact"} if action == "rewrite" else action}


class Run:
    """One cell's run."""

    def __init__(
        self, case: Case, entry: str, action: str, *, saver: bool, guarded: bool = True, delay: float = 0.0
    ) -> None:
        self.case, self.entry, self.action = case, entry, action
        self.saver = InMemorySaver() if saver else None
        self.model = Scripted(script=list(case.script))
        self.witness = Witness()
        self.given: Any = {"messages": [HumanMessage(case.said)]}
        self.moderator = moderator(script=judge, delay=delay)

        @tool
        def search(q: str, tool_call_id: str = "call-0") -> Any:
            """Search."""
            return case.result(tool_call_id) if callable(case.result) else case.result

        stream = {"window": 40, "max_delay": 0.05}
        ours = TurnguardMiddleware(guard(self.moderator, stream=stream, **policy(action)))
        self.agent: Any = create_agent(
            self.model,
            [search],
            middleware=[ours] if guarded else [],
            checkpointer=self.saver,
            response_format=ToolStrategy(Answer) if case.structured else None,
        )
        self.config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [self.witness], "recursion_limit": 12}

    async def cell(self) -> Cell:
        """Run, resume with a rejection where a person is waited for, and look everywhere."""
        cell = Cell()
        given: Any = self.given
        for _ in range(3):
            shown, waiting = await self._shown(given)
            for event in shown:
                cell.shown += 1
                if unsafe(event):
                    (cell.host if self._is_host(event, shown) else cell.leaks)["stream"] += 1
            if not waiting:
                break
            given = Command(resume={"decisions": [{"type": "reject"}] * waiting})
        state = self.agent.get_state(self.config).values if self.saver is not None else self._final
        cell.leaks["state"] += unsafe(state)
        if self.saver is not None:
            cell.leaks["checkpoints"] += unsafe(stored(self.saver)) and not self._in_interrupts()
        cell.leaks["next prompt"] += unsafe(self.model.prompts)
        for name, text in self.witness.seen:
            if unsafe(text):
                (cell.host if self._is_hosts_callback(name, text) else cell.leaks)["callbacks"] += 1
        return cell

    async def kept(self, durability: str, *, cancelled: bool = False) -> list[int]:
        """The steps of the checkpoints that hold unsafe content after one run, in order. `cancelled`: the run is called
        off while the moderator has not answered yet.
        """
        run = asyncio.ensure_future(self.agent.ainvoke(self.given, self.config, durability=durability))
        if cancelled:
            while not self.moderator.asked:
                await asyncio.sleep(0)
            run.cancel()
        await asyncio.gather(run, return_exceptions=cancelled)
        found = [
            int(one.metadata["step"])
            for one in self.agent.checkpointer.list(self.config)
            if unsafe(one.checkpoint["channel_values"]) or unsafe(one.pending_writes)
        ]
        assert bool(found) == unsafe(stored(self.saver)), "every place in the store was read"
        return sorted(found)

    _final: Any = None

    async def _shown(self, given: Any) -> tuple[list[Any], int]:
        entry, config = self.entry, self.config
        durability: dict[str, Any] = {"durability": "exit"} if self.saver is not None else {}
        way, _, mode = entry.partition(" ")
        if way == "invoke":
            shown = [self.agent.invoke(given, config, **durability)]
        elif way == "ainvoke":
            shown = [await self.agent.ainvoke(given, config, **durability)]
        elif way == "stream":
            shown = list(self.agent.stream(given, config, stream_mode=[mode, "values"], **durability))
        elif way == "astream":
            stream = self.agent.astream(given, config, stream_mode=[mode, "values"], **durability)
            shown = [chunk async for chunk in stream]
        elif entry == "astream_events v2":
            shown = [event async for event in self.agent.astream_events(given, config, version="v2", **durability)]
        elif entry == "stream_events v3":
            shown = list(self.agent.stream_events(given, config, version="v3", **durability))
        else:
            shown = [
                event async for event in await self.agent.astream_events(given, config, version="v3", **durability)
            ]
        if self.saver is not None:
            waiting = self.agent.get_state(config).interrupts
            return shown, sum(len(one.value["action_requests"]) for one in waiting)
        self._final = shown[-1]
        return shown, 0

    def _in_interrupts(self) -> bool:
        """By contract the arguments of a call stand in the interrupt that asks a person about it."""
        return self.action == "review" and self.case.stage == "tool call"

    def _is_host(self, event: Any, shown: list[Any]) -> bool:
        if self._in_interrupts() and "action_requests" in repr(event):
            return True
        if self.case.stage == "input":
            return is_echo(self.entry, event, shown)
        return False

    def _is_hosts_callback(self, name: str, text: str) -> bool:
        if self._in_interrupts() and "action_requests" in text:
            return True
        if self.case.stage == "input":
            return name == "on_chain_start"
        return False


def is_echo(entry: str, event: Any, shown: list[Any]) -> bool:
    """LangGraph shows the caller's own input before a hook has run."""
    if entry.startswith(("stream ", "astream ")):
        mode, chunk = event
        if mode == "values":
            return event is next(one for one in shown if one[0] == "values")
        if mode in ("tasks", "checkpoints", "debug"):
            payload = chunk.get("payload", chunk)
            if "input" in payload:  # a task that begins: only the first node's may hold the raw input
                return "before_agent" in str(payload.get("name"))
            return bool(payload.get("metadata", {}).get("step", 9) <= 0)  # the checkpoints of the input itself
    if entry == "astream_events v2":
        data = {key: value for key, value in event["data"].items() if key != "input"}
        return not unsafe(data)
    if "v3" in entry:
        params = event["params"]
        return event["method"] in ("values", "tasks", "lifecycle", "checkpoints") and _early(event, shown, params)
    return False


def _early(event: Any, shown: list[Any], _params: Any) -> bool:
    """Before the first thing that our hook wrote."""
    for one in shown:
        if one is event:
            return True
        if one["method"] == "updates" or (one["method"] == "values" and not unsafe(one)):
            return False
    return False


def cells(case: Case, action: str, entries: Sequence[str] = ENTRIES) -> Iterator[tuple[str, bool, Cell]]:
    """All runs of one case under one action."""
    for saver in (False, True):
        for entry in entries:
            yield entry, saver, asyncio.run(Run(case, entry, action, saver=saver).cell())
