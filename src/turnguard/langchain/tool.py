"""One tool under guard, for agents and graphs of any make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar

from langchain_core.tools import BaseTool

from turnguard.core.errors import Blocked, ConfigError
from turnguard.core.step import ToolCall
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.custom_events import Telling
from turnguard.langchain.extension import extend
from turnguard.langchain.judge import Judging
from turnguard.langchain.private_names import AMBIENT, RUNTIME, require_streams
from turnguard.langchain.rulings import Ruling
from turnguard.langchain.tool_run import JudgedTool, ToolRun, is_call
from turnguard.langchain.tool_streams import hushed, telling_of
from turnguard.transcripts.conversation import Request

T = TypeVar("T", bound=BaseTool)


def guard_tool(tool: T, guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end") -> T:
    """Guard a tool: the result is a tool of the same class, whose arguments are judged before it runs and whose
    result is judged before anyone hears of it.

    A withheld call or result is the notice that names the rule, or raises `Blocked` with `exit_behavior="error"`. A
    tool alone does not know the person's request, so calls are judged without it, and it cannot wait for a reviewer:
    a review blocks. Raises `ConfigError` where what the tool streams could not be held.
    """
    if exit_behavior not in ("end", "error"):
        raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
    require_streams()
    return extend(tool, JudgedTool, _Guarded(tool, Judging(Guard.of(guard)), raises=exit_behavior == "error"))


class _Guarded:
    """A guarded tool's calls: it knows of no request, and nobody can be asked."""

    known = None

    def __init__(self, tool: BaseTool, judging: Judging, *, raises: bool) -> None:
        self._judging = judging
        self._tool = tool
        self._raises = raises

    def begin(self, call_id: str | None) -> ToolRun:
        return ToolRun(self._judging, Request, self._tool.name, call_id, tell=self._told)

    async def look(self, arguments: Any, given: Any) -> Any:
        call_id = given.get("id") if is_call(given) else None
        decision = await self._judging.rule_call(ToolCall(self._tool.name, arguments, call_id), Request())
        if decision.withheld:
            self._told([Ruling(None, (decision,))])
            text = notices.call_notice(self._judging.guard, decision)
            return notices.answer(text, call_id, self._tool.name, notices.about(decision)) if is_call(given) else text
        part = decision.parts[0]
        return part.arguments if decision.action == "rewrite" and isinstance(part, ToolCall) else arguments

    @contextmanager
    def around(self, run: ToolRun | None, given: Any, config: Any) -> Iterator[tuple[Any, Any]]:
        # a configuration that was given is changed in place and restored: the tool's runtime may hold it too
        within: dict[str, Any] = {**(AMBIENT.get() or {})} if config is None else config
        node = (within.get("configurable") or {}).get(RUNTIME)
        speaking = [one for one in (node, *_runtimes(given).values()) if one is not None]  # outside a graph: maybe none
        write = speaking[0].stream_writer if speaking else _nobody
        telling = telling_of(self._judging, write, Request, self._tool.name)
        if run is not None:
            run.telling = telling
        with hushed(within, telling):
            yield _told(given, telling, within), within

    def _told(self, rulings: Sequence[Ruling]) -> None:
        for ruling in rulings if self._raises else ():
            for decision in ruling.decisions:
                if decision.withheld:
                    raise Blocked(decision)


def _nobody(event: Any) -> None:
    """Hears an event where there is no stream."""


def _runtimes(given: Any) -> dict[str, Any]:
    """The runtimes that LangGraph put in among the arguments."""
    arguments = given.get("args") if is_call(given) else given
    if not isinstance(arguments, dict):
        return {}
    return {key: one for key, one in arguments.items() if hasattr(one, "stream_writer")}


def _told(given: Any, telling: Telling, within: dict[str, Any]) -> Any:
    """The input with runtimes that tell the same, and keep the same configuration."""
    runtimes = {
        key: replace(one, stream_writer=telling, **({"config": {**within}} if hasattr(one, "config") else {}))
        for key, one in _runtimes(given).items()
    }
    if not runtimes:
        return given
    return {**given, "args": {**given["args"], **runtimes}} if is_call(given) else {**given, **runtimes}
