"""One tool call of an agent, from the model's proposal to what enters the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

from langchain_core.tools import BaseTool

from turnguard.langchain import notices
from turnguard.langchain.agent_run import AgentRun, tell
from turnguard.langchain.extension import extend
from turnguard.langchain.messages import call_of
from turnguard.langchain.review import has_checkpointer
from turnguard.langchain.rulings import Ruling, Surface
from turnguard.langchain.tool_run import JudgedTool, ToolRun
from turnguard.langchain.tool_streams import Others, hushed, telling_of
from turnguard.transcripts.conversation import Request


class AgentTool:
    """A call as LangGraph asks for it. What hooks inside ours change of it is judged; see `tool_run.Runs`."""

    def __init__(self, of: AgentRun, request: Any) -> None:
        self._of = of
        self._judging = of.judging
        self._request = request
        self.known: Any = request.tool_call["args"]
        self.run: ToolRun | None = None
        self.asked: Callable[[], Request] = cache(self._asked)  # it reads the conversation

    def admitted(self) -> bool:
        """Whether this very call was judged with its message."""
        if not self._judging.check_tool_calls:
            return True
        call, under = call_of(self._request.tool_call), self.asked()
        return self._judging.known_call(call, under) and not self._of.reviews.asked_about(call, under)

    def approved(self) -> bool:
        """Whether a person has approved this very call."""
        return self._of.reviews.approved(call_of(self._request.tool_call), self.asked())

    async def judge(self) -> Any:
        """None where the call may run, as it was or with other arguments; else the notice in place of its result."""
        tool_call = self._request.tool_call
        call = call_of(tool_call)
        decision, args = await self._of.reviews.call(call, self.asked())
        tell(self._request.runtime, [Ruling(None, () if decision.action == "allow" else (decision,))])
        if args is None:
            text = notices.call_notice(self._judging.guard, decision)
            return notices.answer(text, call.id, call.name, notices.about(decision))
        if args is not call.arguments:
            self._request = self._request.override(tool_call={**tool_call, "args": args})
            self.known = args
        return None

    @contextmanager
    def inside(self) -> Iterator[Any]:
        """The request as it goes on to the tool."""
        request, runtime = self._request, {}
        name = str(request.tool_call["name"])
        if self._judging.check_tool_results:
            self.run = ToolRun(
                self._judging,
                self.asked,
                getattr(request.tool, "name", None) or name,
                request.tool_call["id"],
                surface=Surface(reviewable=has_checkpointer()),
                tell=partial(tell, request.runtime),
            )
        if isinstance(request.tool, BaseTool):
            request = request.override(tool=extend(request.tool, JudgedTool, self))
        others = getattr(request.runtime, "tools", None)
        if others:
            runtime["tools"] = Others(others, lambda tool: extend(tool, JudgedTool, _OtherTool(self, tool)))
        write = getattr(request.runtime, "stream_writer", None)
        if write is None or self.run is None or not self._of.hold:
            yield request.override(runtime=replace(request.runtime, **runtime)) if runtime else request
            return
        self.run.telling = telling = telling_of(self._judging, write, self.asked, name)
        with hushed(request.runtime.config, telling, judged=self._judging.checks_all):
            kept = {**request.runtime.config}  # restored for us, not for what the tool leaves running
            inside = replace(request.runtime, stream_writer=telling, config=kept, **runtime)
            yield request.override(runtime=inside)

    # ------------------------------------------------------------ as what a judged tool asks

    def begin(self, call_id: str | None) -> ToolRun | None:
        return self.run

    async def look(self, arguments: Any, given: Any) -> Any:
        if not self._judging.check_tool_calls:
            return arguments
        call = {**self._request.tool_call, "name": self.name, "args": arguments}
        changed = AgentTool(self._of, self._request.override(tool_call=call))
        changed.asked = self.asked
        notice = None if changed.admitted() else await changed.judge()
        return changed.known if notice is None else notice

    def around(self, run: ToolRun | None, given: Any, config: Any) -> Any:
        return nullcontext((given, config))

    @property
    def name(self) -> str:
        """The name of the tool that is called."""
        return str(self._request.tool_call["name"])

    def _asked(self) -> Request:
        state = self._request.state
        if isinstance(state, dict):
            state = state.get("messages")
        return self._judging.asked((state if isinstance(state, list) else getattr(state, "messages", None)) or [])


class _OtherTool(AgentTool):
    """A call that a hook inside ours sends to another of the agent's tools."""

    def __init__(self, first: AgentTool, tool: BaseTool) -> None:
        super().__init__(first._of, first._request)
        self.known = None
        self.run = first.run
        self.asked = first.asked
        self._tool = tool

    @property
    def name(self) -> str:
        return self._tool.name
