"""One run of a tool: what it is called with, what it tells while it runs, and what it gives back, each judged once."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from turnguard.langchain import notices
from turnguard.langchain.custom_events import Telling
from turnguard.langchain.drive import Steps, adrive, drive
from turnguard.langchain.extension import Extension
from turnguard.langchain.judge import Judging
from turnguard.langchain.results import blocks_of, fallen, is_result, receive
from turnguard.langchain.rulings import ALONE, Ruling, Surface
from turnguard.langchain.tool_arguments import injected
from turnguard.langchain.tool_streams import held_deltas
from turnguard.transcripts.conversation import Request

Tell = Callable[[list[Ruling]], object]

_entered: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar("turnguard_entered", default=None)
"""The tool that was called by `invoke`, and its run."""


class ToolRun:
    """Judges what one run of a tool gives back. `tell` is told the rulings; it may raise what they ask for."""

    def __init__(
        self,
        judging: Judging,
        asked: Callable[[], Request],
        name: str,
        call_id: str | None,
        *,
        surface: Surface = ALONE,
        tell: Tell = bool,
    ) -> None:
        self.telling: Telling | None = None
        self._judging = judging
        self._asked = asked
        self._name = name
        self._call_id = call_id
        self._surface = surface
        self._tell = tell
        self._passed: Any = None  # what was judged already: a digest, or an error

    def passed(self, result: Any) -> bool:
        """Whether this was judged when the tool's function returned it."""
        judged = self._passed is not None and isinstance(result, ToolMessage)
        return judged and self._judging.digest(result, self._asked()) == self._passed

    async def result(self, result: Any) -> Any:
        """What LangGraph takes as a result, as it may go on."""
        await self._heard_out()
        received, rulings = await receive(self._judging, result, self._asked(), self._name, self._surface)
        self._tell(rulings)
        return received

    async def returned(self, value: Any, *, pair: bool) -> Any:
        """What the tool's function returned, before anyone hears of it. `pair`: content and artifact."""
        content, artifact = value if pair and isinstance(value, tuple) and len(value) == 2 else (value, None)
        if is_result(content):
            received = await self.result(content)
            return value if received is content else (received, None) if pair else received
        message = ToolMessage(blocks_of(content), artifact=artifact, tool_call_id=self._call_id or "", name=self._name)
        received = await self.result(message)
        if isinstance(received, ToolMessage):
            self._passed = self._judging.digest(received, self._asked())
        if received is message:
            return value
        return self.given(received, pair=pair)

    def given(self, message: Any, *, pair: bool) -> Any:
        """A message as the function of a tool gives it; a tool that is called without a call gives its content."""
        content = message if self._call_id is not None else message.content
        return (content, None) if pair else content

    async def error(self, error: Exception) -> ToolMessage:
        """The notice in place of an error, or the error where it may be raised."""
        if error is self._passed:
            raise error
        await self._heard_out()
        self._passed = error  # where it is raised, it passed
        decision = await fallen(self._judging, error, self._asked(), self._name, self._surface, self._tell)
        text = notices.result_notice(self._judging.guard, decision)
        notice = notices.answer(text, self._call_id, self._name, notices.about(decision))
        self._judging.accept(notice, self._asked())
        return notice

    async def _heard_out(self) -> None:
        """Show what the tool has told, and say so where some of it was withheld."""
        telling, self.telling = self.telling, None
        withheld = None if telling is None else await telling.finished()
        if withheld is not None:
            self._tell([Ruling(None, (withheld,))])


class Runs(Protocol):
    """What an extended tool asks about its calls."""

    @property
    def known(self) -> Mapping[str, Any] | None:
        """Arguments that were judged already; None where all are to be judged."""

    async def look(self, arguments: Any, given: Any) -> Any:
        """The arguments to run with, or what stands in the place of a result. `given` is what the tool is called with,
        a call or arguments alone.
        """

    def begin(self, call_id: str | None) -> ToolRun | None:
        """What judges a run; None where results are not judged here."""

    def around(self, run: ToolRun | None, given: Any, config: Any) -> AbstractContextManager[tuple[Any, Any]]:
        """What the tool runs in: its input and configuration there."""


class JudgedTool(Extension):
    """A tool that judges what it is called with, where that was not judged yet, and what it gives back.

    A reviewer's edit by LangChain's own `HumanInTheLoopMiddleware`, or a middleware that writes into arguments, takes
    effect inside `wrap_tool_call`, where the hook outside of it sees nothing of it. What the function of the tool gives
    back is judged before LangChain tells any handler of it.
    """

    __slots__ = ()

    @staticmethod
    def members(base: Any) -> dict[str, Any]:
        """A tool that has no asynchronous way of its own runs the synchronous one, in a thread."""
        own = base._arun is not BaseTool._arun
        return {"_run": property(_run)} | ({"_arun": property(_arun)} if own else {})

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        return drive(self._invoked(super().invoke, input, config, kwargs))  # type: ignore[misc]

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:  # noqa: A002
        return await adrive(self._invoked(super().ainvoke, input, config, kwargs))  # type: ignore[misc]

    def _invoked(self, invoke: Callable[..., Any], given: Any, config: Any, kwargs: Mapping[str, Any]) -> Steps[Any]:
        runs: Runs = self._own
        call_id = given.get("id") if is_call(given) else None
        whole = given["args"] if is_call(given) else given
        proposed = _changed(self._plain, whole, runs.known)
        if proposed is not None:
            judged = yield runs.look(proposed, given)
            if not isinstance(judged, type(proposed)):
                return judged
            if judged is not proposed:
                whole = {**whole, **judged} if isinstance(whole, dict) else judged
                given = {**given, "args": whole} if is_call(given) else whole
        run = runs.begin(call_id)
        entered = _entered.set((self._plain, run))
        try:
            with runs.around(run, given, config) as (inside, within):
                result = yield partial(invoke, inside, within, **kwargs)
        except Exception as error:
            if run is None:
                raise
            notice = yield run.error(error)
            return notice if is_call(given) else notice.content
        finally:
            _entered.reset(entered)
        if run is not None and not run.passed(result):
            result = yield run.returned(result, pair=False)
        return result


def is_call(given: Any) -> bool:
    """Whether a tool is called with a whole call, not with arguments alone."""
    return isinstance(given, dict) and given.get("type") == "tool_call" and "args" in given


def _changed(tool: BaseTool, found: Any, known: Mapping[str, Any] | None) -> Any:
    """What a tool is called with, less what the host puts in; None where that is known."""
    if not isinstance(found, dict):
        return found
    if found == known:
        return None
    names = injected(tool, found)
    own = {key: value for key, value in found.items() if key not in names}
    if known is not None and own == {key: value for key, value in known.items() if key not in names}:
        return None
    return own


def _run(self: Any) -> Any:
    inner = self._plain._run

    @functools.wraps(inner)  # LangChain reads the signature, to know what to put in
    def run(*args: Any, **kwargs: Any) -> Any:
        return drive(_judged(self, inner, args, kwargs))

    return run


def _arun(self: Any) -> Any:
    inner = self._plain._arun

    @functools.wraps(inner)
    async def arun(*args: Any, **kwargs: Any) -> Any:
        return await adrive(_judged(self, inner, args, kwargs))

    return arun


def _judged(tool: Any, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Any]:
    pair = tool.response_format == "content_and_artifact"
    plain, run = _entered.get() or (None, None)
    if plain is not tool._plain:  # called past `invoke`, so that nobody looked at the arguments
        names = injected(tool._plain, kwargs) | {"config", "run_manager"}
        proposed = {key: value for key, value in kwargs.items() if key not in names} or " ".join(map(str, args))
        judged = yield tool._own.look(proposed, kwargs)
        if judged is not proposed:
            if not isinstance(judged, dict):
                return (judged, None) if pair else judged
            kwargs = {**kwargs, **judged}
        run = tool._own.begin(None)
    try:
        with held_deltas(None if run is None else run.telling):
            value = yield partial(inner, *args, **kwargs)
    except Exception as error:
        if run is None:
            raise
        notice = yield run.error(error)
        return run.given(notice, pair=pair)
    if run is not None:
        value = yield run.returned(value, pair=pair)
    return value
