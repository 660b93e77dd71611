"""Agent middleware for langchain 1.x: every step of the turn is judged before anyone acts on it or sees it.

Where the hooks stand: `before_agent` judges what the caller brings; `wrap_model_call` judges what the model says and
proposes, before it enters the state; `wrap_tool_call` judges results before they do. Reviews happen in
`before_model`, `after_model` and `after_agent`: nodes of their own, in which nothing else runs, because LangGraph
runs a node again on resume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal
from uuid import uuid4

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import BaseTool

from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.drive import Steps, adrive, drive
from turnguard.langchain.extension import extend
from turnguard.langchain.held import HELD
from turnguard.langchain.hooks import RaisingHooks, ReviewHooks, State, Update
from turnguard.langchain.judge import Judging, replacing
from turnguard.langchain.messages import call_of
from turnguard.langchain.model_call import ModelCall, newest_other
from turnguard.langchain.muting import muted
from turnguard.langchain.review import Reviews, asks_a_person, has_checkpointer
from turnguard.langchain.rulings import Ruling, Surface, Unknown
from turnguard.langchain.tool_run import JudgedTool, ToolRun
from turnguard.langchain.tool_streams import Others, hushed, require_known, speaks_for_itself, telling_of
from turnguard.runtime.caches import Cache
from turnguard.transcripts.conversation import Request


def _trace_policy() -> Any:
    """Keep payloads out of the hooks' own spans, where this LangGraph knows how."""
    try:
        from langgraph.types import TracePolicy, omit_payload
    except ImportError:
        return None
    return TracePolicy(process_inputs=omit_payload, process_outputs=omit_payload)


class TurnguardMiddleware(AgentMiddleware[Any, Any, Any]):
    """Judges a person's input, the model's output, proposed tool calls and tool results, in sync, async and streams.

    `guard`: a `Guard`, or the path of a `turnguard.yaml`. `name` tells instances apart. `exit_behavior`: what a
    blocked input or output does; "end" answers with the refusal and ends the turn, "error" also raises `Blocked` once
    the turn has ended, so that the thread stays clean and usable. `retries`: how often the model may try again after a
    blocked output, told which rule it broke.

    A blocked call or result, or error of a tool, is answered with a notice that names the rule, and the agent goes on;
    an error that passes is raised. A review needs a checkpointer and becomes a block without one. Content that waits
    for a reviewer is held in this process: at resume elsewhere it counts as rejected.

    LangGraph itself echoes the caller's own input before any hook runs (the first `values` chunk, the first
    checkpoint): run with `durability="exit"` to keep a blocked input out of the checkpoints.

    `tool_streams`: what a tool shows while it runs. "hold": models and agents inside it are heard where they are
    guarded themselves, and its custom events once they are judged; "pass" leaves that to you.
    """

    trace_policy = _trace_policy()
    guard: Guard

    def __new__(cls, guard: Any = None, *_: Any, exit_behavior: Any = None, **__: Any) -> TurnguardMiddleware:
        """Choose the class with the nodes that this guard needs: LangChain adds one for each hook that a class has.
        A subclass that takes other arguments has them all.
        """
        own = cls.__init__ is TurnguardMiddleware.__init__
        settled = Guard.of(guard) if own else None
        raises = settled is None or exit_behavior == "error"
        asks = settled is None or asks_a_person(settled.policy)
        kind: Any = cls  # of a class with properties, mypy doubts the hash
        made: TurnguardMiddleware = object.__new__(_with_hooks(kind, raises, asks))
        if settled is not None:
            made.guard = settled
        return made

    def __init__(
        self,
        guard: GuardLike,
        *,
        name: str = "TurnguardMiddleware",
        check_input: bool = True,
        check_output: bool = True,
        check_tool_calls: bool = True,
        check_tool_results: bool = True,
        exit_behavior: Literal["end", "error"] = "end",
        retries: int = 0,
        tool_streams: Literal["hold", "pass"] = "hold",
    ) -> None:
        if str(exit_behavior) not in ("end", "error"):
            raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
        if type(retries) is not int or retries < 0:
            raise ConfigError(f"retries must be a whole number from 0 on, not {retries!r}")
        if str(tool_streams) not in ("hold", "pass"):
            raise ConfigError(f"tool_streams must be 'hold' or 'pass', not {tool_streams!r}")
        if tool_streams == "hold":
            require_known()
        super().__init__()
        self.tools = []
        self.guard = getattr(self, "guard", None) or Guard.of(guard)
        self.judging = Judging(self.guard, check_input, check_output, check_tool_calls, check_tool_results, name)
        self._name = name
        self._raises = exit_behavior == "error"
        self.blocked: Cache[str, Decision] = Cache(HELD)
        self._retries = retries
        self._hold = tool_streams == "hold"
        self.reviews = Reviews(self.judging)

    @property
    def name(self) -> str:
        """Tells instances apart in one agent."""
        return self._name

    # ------------------------------------------------------------ what the caller brings

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        return drive(self._before(state, runtime))

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        return await adrive(self._before(state, runtime))

    def _before(self, state: State, runtime: Any) -> Steps[Update]:
        refused = self._refused_before(state["messages"])
        if refused is not None:
            refusal = yield self.refusal(refused)
            self.blocks(refused, refusal)
            return {"jump_to": "end", "messages": [refusal]}
        unknown = self._brought(state)
        if not unknown:
            return None
        update: Update = yield self._admit(unknown, state["messages"], runtime)
        return update

    def _refused_before(self, messages: Sequence[BaseMessage]) -> Decision | None:
        """The decision on an input that was refused before it was stored."""
        if not self.judging.refused:
            return None
        marks = (notices.marked(message) for message in messages[newest_other(messages) + 1 :])
        found = (self.judging.refused.take(str(mark["id"])) for mark in marks if "id" in mark)
        return next((decision for decision in found if decision is not None), None)

    def _brought(self, state: State) -> list[Unknown]:
        if self.judging.checks_all:
            speaks_for_itself()
        unknown = list(self.judging.unknown(state["messages"]))
        if self.guard.checks.input == "beside":
            newest = newest_other(state["messages"])
            unknown = [one for one in unknown if one.at <= newest or not isinstance(one.message, HumanMessage)]
        return unknown

    async def _admit(self, unknown: Sequence[Unknown], messages: Sequence[BaseMessage], runtime: Any) -> Update:
        rulings = await self._sweep(unknown)
        self._tell(runtime, rulings)
        update = replacing(messages, {one.at: [ruling.message] for one, ruling in zip(unknown, rulings, strict=True)})
        refused = _refused(unknown, rulings, messages)
        if refused is not None:
            refusal = await self.refusal(refused)
            self.blocks(refused, refusal)
            return {"jump_to": "end", "messages": [*update, refusal]}
        return {"messages": update} if update else None

    async def admitted(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages of an input as they may be stored. The turn that they begin is refused where they were."""
        made = list(messages)
        unknown = list(self.judging.unknown(messages))
        for one, ruling in zip(unknown, await self._sweep(unknown, reviewable=False), strict=True):
            made[one.at] = ruling.message
            if ruling.ended is not None:
                self.judging.refused.put(ruling.ended.id, ruling.ended)
        return made

    async def _sweep(self, unknown: Sequence[Unknown], *, reviewable: bool | None = None) -> list[Ruling]:
        """Rule on what a conversation holds that was not judged yet. Its calls were answered already, or never will
        be.
        """
        surface = Surface(reviewable=has_checkpointer() if reviewable is None else reviewable)
        past = Surface()

        async def rule(one: Unknown) -> Ruling:
            live = not isinstance(one.message, AIMessage)
            ruling = await self.judging.rule(one.message, one.request, surface if live else past)
            if isinstance(one.message, AIMessage):
                return _still_paired(one.message, ruling)
            return ruling

        if len(unknown) == 1:
            return [await rule(unknown[0])]  # a task of its own would cost more than the hook
        return list(await asyncio.gather(*map(rule, unknown)))

    async def refusal(self, decision: Decision) -> AIMessage:
        return notices.ai(None, await self.guard.arefusal(decision), notices.about(decision))

    # ------------------------------------------------------------ what the model says and proposes

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], ModelResponse[Any]]) -> Any:
        """Judge what the model says before it enters the state."""
        return drive(self._model_call(request, handler))

    # The two asynchronous wrappers are no `async def`: LangChain puts LangSmith's `traceable` around them, which takes
    # each coroutine function to a thread and back twice and into a task of its own, whether anything is traced or not
    # (langsmith 0.15, run_helpers.py).

    def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[Any], Awaitable[ModelResponse[Any]]]
    ) -> Coroutine[Any, Any, Any]:
        """Judge what the model says before it enters the state."""
        return adrive(self._model_call(request, handler))

    def _model_call(self, request: ModelRequest[Any], handler: Callable[[Any], Any]) -> Steps[Any]:
        call = ModelCall(self, request)
        if call.work:
            yield call.open()
        try:
            while True:
                try:
                    with muted():
                        response = yield partial(handler, call.next_request())
                except Exception as error:
                    if not call.catches(error):
                        raise
                    response = error
                done = call.settled(response)
                if done is None:
                    done = yield call.close(response)
                if done is not None:
                    return done
        finally:
            call.end()

    # ------------------------------------------------------------ what tools are asked and give back

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        return drive(self._tool_call(request, handler))

    def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Coroutine[Any, Any, Any]:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        return adrive(self._tool_call(request, handler))

    def _tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Steps[Any]:
        admitted = self._admitted(request)
        if admitted is None:
            admitted = yield self._judge_call(request)
        if not hasattr(admitted, "tool_call"):
            return admitted
        call = _Call(self, admitted)
        try:
            with call.inside() as inside:
                result = yield partial(handler, inside)
        except Exception as error:
            if call.run is None:
                raise
            notice = yield call.run.error(error)
            return notice
        if call.run is not None:
            result = yield call.run.result(result)
        return result

    def _admitted(self, request: Any) -> Any:
        """The request, where this very call was judged with its message; None where it has to be judged now."""
        if not self.judging.check_tool_calls:
            return request
        call = call_of(request.tool_call)
        under = self._asked(request)
        known = self.judging.known_call(call, under) and not self.reviews.asked_about(call, under)
        return request if known else None

    async def _judge_call(self, request: Any) -> Any:
        """A call as it will run, or the notice in place of its result: another middleware or a person may have edited
        it.
        """
        tool_call = request.tool_call
        call = call_of(tool_call)
        decision, args = await self.reviews.call(call, self._asked(request))
        self._tell(request.runtime, [Ruling(None, () if decision.action == "allow" else (decision,))])
        if args is None:
            text = notices.call_notice(self.guard, decision)
            return notices.answer(text, call.id, call.name, notices.about(decision))
        return request if args is call.arguments else request.override(tool_call={**tool_call, "args": args})

    def _asked(self, request: Any) -> Request:
        state = request.state
        messages = state if isinstance(state, list) else _field(state, "messages") or []
        return self.judging.asked(messages)

    def blocks(self, decision: Decision, refusal: BaseMessage) -> None:
        """Remember to raise this one when the turn has ended. Raised at once it would leave the input in the thread,
        which would then be refused for ever, and other middleware would take it for a failure of the model.
        """
        if self._raises:
            refusal.id = refusal.id or str(uuid4())
            self.blocked.put(refusal.id, decision)

    def _tell(self, runtime: Any, rulings: Sequence[Ruling]) -> None:
        """Every decision other than allow, as a custom stream event without content."""
        writer = getattr(runtime, "stream_writer", None)
        writer = getattr(writer, "unjudged", writer)  # inside another guarded agent's tool
        if writer is not None:
            for ruling in rulings:
                for decision in ruling.decisions:
                    writer({notices.KEY: notices.about(decision)})


class _Call:
    """One call of a tool in an agent, as it goes on to the hooks inside ours: what they change of it is judged."""

    def __init__(self, middleware: TurnguardMiddleware, request: Any) -> None:
        self._of = middleware
        self._request = request
        self.known: Any = request.tool_call["args"]
        self.run: ToolRun | None = None
        self._asked: Callable[[], Request] = cache(partial(middleware._asked, request))  # it reads the conversation
        if middleware.judging.check_tool_results:
            self.run = ToolRun(
                middleware.judging,
                self._asked,
                getattr(request.tool, "name", None) or str(request.tool_call["name"]),
                request.tool_call["id"],
                surface=Surface(reviewable=has_checkpointer()),
                tell=partial(middleware._tell, request.runtime),
            )

    @contextmanager
    def inside(self) -> Iterator[Any]:
        """The request as it goes on to the tool."""
        request, runtime = self._request, {}
        if isinstance(request.tool, BaseTool):
            request = request.override(tool=extend(request.tool, JudgedTool, self))
        others = getattr(request.runtime, "tools", None)
        if others:
            runtime["tools"] = Others(others, lambda tool: extend(tool, JudgedTool, _OtherTool(self._of, self, tool)))
        write = getattr(request.runtime, "stream_writer", None)
        if write is None or self.run is None or not self._of._hold:
            yield request.override(runtime=replace(request.runtime, **runtime)) if runtime else request
            return
        name = str(request.tool_call["name"])
        self.run.telling = telling = telling_of(self._of.guard, write, self._asked, name)
        with hushed(request.runtime.config, telling, judged=self._of.judging.checks_all):
            kept = {**request.runtime.config}  # restored for us, not for what the tool leaves running
            inside = replace(request.runtime, stream_writer=telling, config=kept, **runtime)
            yield request.override(runtime=inside)

    # ------------------------------------------------------------ as what a judged tool asks

    def begin(self, call_id: str | None) -> ToolRun | None:
        return self.run

    async def look(self, arguments: Any, given: Any) -> Any:
        if not self._of.judging.check_tool_calls:
            return arguments
        call = {**self._request.tool_call, "name": self.name, "args": arguments}
        changed = self._request.override(tool_call=call)
        judged = self._of._admitted(changed) or await self._of._judge_call(changed)
        return judged.tool_call["args"] if hasattr(judged, "tool_call") else judged

    def around(self, run: ToolRun | None, given: Any, config: Any) -> Any:
        return nullcontext((given, config))

    @property
    def name(self) -> str:
        """The name of the tool that is called."""
        return str(self._request.tool_call["name"])


class _OtherTool(_Call):
    """A call that a hook inside ours sends to another of the agent's tools."""

    def __init__(self, middleware: TurnguardMiddleware, first: _Call, tool: BaseTool) -> None:
        super().__init__(middleware, first._request)
        self.known = None
        self.run = first.run
        self._tool = tool

    @property
    def name(self) -> str:
        return self._tool.name


@cache
def _with_hooks(cls: Any, raises: bool, asks: bool) -> Any:
    hooks = [RaisingHooks] * raises + [ReviewHooks] * asks
    return type(cls.__name__, (*hooks, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__}) if hooks else cls


def _refused(unknown: Sequence[Unknown], rulings: Sequence[Ruling], messages: Sequence[BaseMessage]) -> Decision | None:
    """The decision that ends the turn: the newest input's. Older messages are only replaced."""
    newest = newest_other(messages)
    ended = [ruling.ended for one, ruling in zip(unknown, rulings, strict=True) if one.at > newest and ruling.ended]
    return ended[0] if ended else None


def _still_paired(original: AIMessage, ruling: Ruling) -> Ruling:
    """A withheld message of the past keeps its calls, empty, because their answers follow it; no answer is added
    twice.
    """
    if ruling.ended is None or not original.tool_calls:
        return Ruling(ruling.message, ruling.decisions, ruling.ended) if ruling.answers else ruling
    calls = [{**call, "args": {}} for call in original.tool_calls]
    message = ruling.message.model_copy(update={"tool_calls": calls})
    return Ruling(message, ruling.decisions, ruling.ended)


def _field(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, dict) else getattr(state, name, None)
