"""One tool under guard, for agents and graphs of any make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked, ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.callback import blocks_of
from turnguard.langchain.custom_events import Telling
from turnguard.langchain.judge import Judging, Surface
from turnguard.langchain.messages import Asked, Call
from turnguard.langchain.results import fallen, receive
from turnguard.langchain.tool_arguments import injected
from turnguard.langchain.tool_streams import RUNTIME, hushed, require_known, telling_of
from turnguard.runtime import sync


def guard_tool(tool: BaseTool, guard: GuardLike, *, exit_behavior: Literal["end", "error"] = "end") -> BaseTool:
    """Wrap a tool so that its arguments are judged before it runs and its result before anyone reads it.

    A withheld call or result is the notice that names the rule, or raises `Blocked` with `exit_behavior="error"`. A
    tool alone does not know the person's request, so calls are judged without it, and it cannot wait for a reviewer:
    a review blocks. Raises `ConfigError` where what the tool streams could not be held.
    """
    if exit_behavior not in ("end", "error"):
        raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
    require_known()
    wrapped = GuardedTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.args_schema if tool.args_schema is not None else tool.get_input_schema(),
        return_direct=tool.return_direct,
        response_format=tool.response_format,
        tags=tool.tags,
        metadata=tool.metadata,
        inner=tool,
    )
    wrapped._judging = Judging(Guard.of(guard))
    wrapped._raises = exit_behavior == "error"
    return wrapped


class GuardedTool(BaseTool):
    """The wrapper that `guard_tool` returns."""

    inner: BaseTool
    _judging: Any = PrivateAttr(default=None)
    _raises: bool = PrivateAttr(default=False)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Judge the arguments, run the tool, judge the result."""
        admitted, notice = sync.run(self._admit(input))
        if notice is not None:
            return notice
        within, telling = self._inside(input, config)
        try:
            with hushed(within, telling):
                told = _told(admitted, telling, within)
                result = self.inner.invoke(told, cast("RunnableConfig", within), **kwargs)
        except Exception as error:  # noqa: BLE001 - judged, and raised where it passes
            return sync.run(self._fell(input, error, telling))
        return sync.run(self._receive(input, result, telling))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Judge the arguments, run the tool, judge the result."""
        admitted, notice = await self._admit(input)
        if notice is not None:
            return notice
        within, telling = self._inside(input, config)
        try:
            with hushed(within, telling):
                result = await self.inner.ainvoke(
                    _told(admitted, telling, within), cast("RunnableConfig", within), **kwargs
                )
        except Exception as error:  # noqa: BLE001 - judged, and raised where it passes
            return await self._fell(input, error, telling)
        return await self._receive(input, result, telling)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self.invoke(kwargs or (args[0] if args else {}))

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        return await self.ainvoke(kwargs or (args[0] if args else {}))

    async def _admit(self, given: Any) -> tuple[Any, Any]:
        """The input to run with, or the notice in place of a result."""
        whole = given["args"] if _is_call(given) else given
        names = injected(self.inner, whole) if isinstance(whole, dict) else frozenset()
        proposed = {key: value for key, value in whole.items() if key not in names} if names else whole
        call = Call(self.name, proposed, given.get("id") if _is_call(given) else None)
        decision = await self._judging.rule_call(call, Asked())
        if decision.withheld:
            text = notices.call_notice(self._judging.guard, decision)
            return None, self._notice(given, decision, text)
        if decision.action != "rewrite":
            return given, None
        args = decision.parts[0].arguments
        if names:
            args = {**whole, **args}
        return ({**given, "args": args} if _is_call(given) else args), None

    def _inside(self, given: Any, config: Any) -> tuple[dict[str, Any], Telling]:
        """What the tool runs with, and what takes its custom events. A configuration that was given is changed in
        place and restored, because the tool's runtime may hold it too.
        """
        within: dict[str, Any] = {**(var_child_runnable_config.get() or {})} if config is None else config
        node = (within.get("configurable") or {}).get(RUNTIME)
        speaking = [one for one in (node, *_runtimes(given).values()) if one is not None]  # outside a graph: maybe none
        write = speaking[0].stream_writer if speaking else _nobody
        return within, telling_of(self._judging.guard, write, Asked, self.name)

    async def _fell(self, given: Any, error: Exception, telling: Telling) -> Any:
        """The notice in place of the tool's error, or the error where it may be raised."""
        await telling.finished()
        decision = await fallen(self._judging, error, Asked(), self.name, Surface())
        return self._notice(given, decision, notices.result_notice(self._judging.guard, decision))

    async def _receive(self, given: Any, result: Any, telling: Telling) -> Any:
        await telling.finished()
        if isinstance(result, (ToolMessage, list)) or type(result).__name__ == "Command":
            received, rulings = await receive(self._judging, result, Asked(), self.name, Surface())
            self._raise(rulings)
            return received
        message = ToolMessage(blocks_of(result), tool_call_id="", name=self.name)
        received, rulings = await receive(self._judging, message, Asked(), self.name, Surface())
        self._raise(rulings)
        return result if received is message else received.content

    def _raise(self, rulings: Any) -> None:
        if self._raises:
            for ruling in rulings:
                for decision in ruling.decisions:
                    if decision.withheld:
                        raise Blocked(decision)

    def _notice(self, given: Any, decision: Decision, text: str) -> Any:
        if self._raises:
            raise Blocked(decision)
        if not _is_call(given):
            return text
        return notices.answer(text, given.get("id"), self.name, notices.about(decision))


def _nobody(event: Any) -> None:
    """Hears an event where there is no stream."""


def _runtimes(given: Any) -> dict[str, Any]:
    """The runtimes that LangGraph put in among the arguments."""
    arguments = given.get("args") if _is_call(given) else given
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
    return {**given, "args": {**given["args"], **runtimes}} if _is_call(given) else {**given, **runtimes}


def _is_call(given: Any) -> bool:
    return isinstance(given, dict) and given.get("type") == "tool_call" and "args" in given
