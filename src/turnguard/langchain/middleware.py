"""Agent middleware for langchain 1.x: every step of the turn is judged before anyone acts on it or sees it.

Where the hooks stand: `before_agent` judges what the caller brings; `wrap_model_call` judges what the model says and
proposes, before it enters the state; `wrap_tool_call` judges results before they do. Reviews happen in
`before_model`, `after_model` and `after_agent`: nodes of their own, in which nothing else runs, because LangGraph
runs a node again on resume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.types import Command

from turnguard import sync
from turnguard.decision import Decision
from turnguard.errors import Blocked, ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.judging import Judging, Ruling, Surface, Unknown, unsettled
from turnguard.langchain.model import guarded, muted
from turnguard.langchain.reading import Asked, Call, asked
from turnguard.langchain.results import receive
from turnguard.langchain.reviewing import Reviews, asks_a_person, has_checkpointer
from turnguard.langchain.turn import Turn

State = AgentState[Any]
Update = dict[str, Any] | None


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
    blocked input or output does; "end" answers with the refusal and ends the turn, "error" raises `Blocked`.
    `retries`: how often the model may try again after a blocked output, told which rule it broke.

    A blocked call or result is answered with a notice that names the rule, and the agent goes on. A review needs a
    checkpointer and becomes a block without one. Content that waits for a reviewer is held in this process: at resume
    elsewhere it counts as rejected.

    LangGraph itself echoes the caller's own input before any hook runs (the first `values` chunk, the first
    checkpoint): run with `durability="exit"` to keep a blocked input out of the checkpoints. LangChain shows raw tool
    output to `on_tool_end` callbacks and to the `tools` events of `version="v3"`.
    """

    trace_policy = _trace_policy()

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
    ) -> None:
        if str(exit_behavior) not in ("end", "error"):
            raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
        if type(retries) is not int or retries < 0:
            raise ConfigError(f"retries must be a whole number from 0 on, not {retries!r}")
        super().__init__()
        self.tools = []
        self.guard = Guard.of(guard)
        self.judging = Judging(self.guard, check_input, check_output, check_tool_calls, check_tool_results)
        self._name = name
        self._raises = exit_behavior == "error"
        self._retries = retries
        self._reviews = Reviews(self.judging)
        if not isinstance(self, _ReviewHooks) and asks_a_person(self.guard.policy):
            # LangChain adds a node for each hook that a class has
            self.__class__ = type(type(self).__name__, (_ReviewHooks, type(self)), {})

    @property
    def name(self) -> str:
        """Tells instances apart in one agent."""
        return self._name

    # ------------------------------------------------------------ what the caller brings

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        unknown = self._brought(state)
        return sync.run(self._admit(unknown, state["messages"], runtime)) if unknown else None

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        unknown = self._brought(state)
        return await self._admit(unknown, state["messages"], runtime) if unknown else None

    def _brought(self, state: State) -> list[Unknown]:
        unknown = list(self.judging.unknown(state["messages"]))
        if self.guard.checks.input == "beside":
            newest = _newest(state["messages"])
            unknown = [one for one in unknown if one.at <= newest or not isinstance(one.message, HumanMessage)]
        return unknown

    async def _admit(self, unknown: Sequence[Unknown], messages: Sequence[BaseMessage], runtime: Any) -> Update:
        rulings = await self._sweep(unknown)
        self._tell(runtime, rulings)
        replaced = [
            ruling.message for one, ruling in zip(unknown, rulings, strict=True) if ruling.message is not one.message
        ]
        refused = _refused(unknown, rulings, messages)
        if refused is not None:
            if self._raises:
                raise Blocked(refused)
            return {"jump_to": "end", "messages": [*replaced, await self._refusal(refused)]}
        return {"messages": replaced} if replaced else None

    async def _sweep(self, unknown: Sequence[Unknown]) -> list[Ruling]:
        """Rule on what a conversation holds that was not judged yet. Its calls were answered already, or never will
        be.
        """
        surface = Surface(reviewable=has_checkpointer())
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

    async def _refusal(self, decision: Decision) -> AIMessage:
        return notices.ai(None, await self.guard.arefusal(decision), notices.about(decision))

    # ------------------------------------------------------------ what the model says and proposes

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], ModelResponse[Any]]) -> Any:
        """Judge what the model says before it enters the state."""
        call = _ModelCall(self, request)
        if call.work:
            sync.run(call.open())
        try:
            while True:
                try:
                    with muted() as callbacks:
                        response: Any = handler(call.next_request(callbacks))
                except StructuredOutputError as error:
                    response = error
                done = sync.run(call.close(response))
                if done is not None:
                    return done
        finally:
            call.end()

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[Any], Awaitable[ModelResponse[Any]]]
    ) -> Any:
        """Judge what the model says before it enters the state."""
        call = _ModelCall(self, request)
        if call.work:
            await call.open()
        try:
            while True:
                try:
                    with muted() as callbacks:
                        response: Any = await handler(call.next_request(callbacks))
                except StructuredOutputError as error:
                    response = error
                done = await call.close(response)
                if done is not None:
                    return done
        finally:
            call.end()

    # ------------------------------------------------------------ what tools are asked and give back

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        admitted = self._admitted(request) or sync.run(self._judge_call(request))
        if not hasattr(admitted, "tool_call"):
            return admitted
        result = handler(admitted)
        return sync.run(self._receive(request, result)) if self.judging.check_tool_results else result

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        admitted = self._admitted(request) or await self._judge_call(request)
        if not hasattr(admitted, "tool_call"):
            return admitted
        result = await handler(admitted)
        return await self._receive(request, result) if self.judging.check_tool_results else result

    def _admitted(self, request: Any) -> Any:
        """The request, where this very call was judged with its message; None where it has to be judged now."""
        if not self.judging.check_tool_calls:
            return request
        call = Call(request.tool_call["name"], request.tool_call["args"], request.tool_call["id"])
        return request if self.judging.known_call(call, self._asked(request)) else None

    async def _judge_call(self, request: Any) -> Any:
        """A call as it will run, or the notice in place of its result: another middleware or a person may have edited
        it.
        """
        tool_call = request.tool_call
        call = Call(tool_call["name"], tool_call["args"], tool_call["id"])
        decision, args = await self._reviews.call(call, self._asked(request))
        self._tell(request.runtime, [Ruling(None, () if decision.action == "allow" else (decision,))])
        if args is None:
            text = notices.call_notice(self.guard, decision)
            return notices.answer(text, call.id, call.name, notices.about(decision))
        return request if args is call.args else request.override(tool_call={**tool_call, "args": args})

    async def _receive(self, request: Any, result: Any) -> Any:
        tool = getattr(request.tool, "name", None) or request.tool_call["name"]
        received, rulings = await receive(
            self.judging, result, self._asked(request), tool, Surface(reviewable=has_checkpointer())
        )
        self._tell(request.runtime, rulings)
        return received

    def _asked(self, request: Any) -> Asked:
        state = request.state
        messages = state if isinstance(state, list) else _field(state, "messages") or []
        return asked(messages, self.guard.checks.history)

    # ------------------------------------------------------------ what waits for a person

    def _waits(self, state: State) -> bool:
        last = _last_ai(state["messages"])
        return last is not None and bool({"held", "calls"} & set(notices.marked(last)))

    async def _settle(self, state: State, runtime: Any) -> Update:
        settled, refused = await self._reviews.messages(state["messages"])
        if refused is not None:
            if self._raises:
                raise Blocked(refused)
            return {"jump_to": "end", "messages": [*settled, await self._refusal(refused)]}
        return {"messages": settled}

    async def _settle_answer(self, state: State, runtime: Any) -> Update:
        last = _last_ai(state["messages"])
        assert last is not None  # noqa: S101 - `_waits` found it
        settled, refused = await self._reviews.answer(last, asked(state["messages"], self.guard.checks.history))
        if refused is not None:
            if self._raises:
                raise Blocked(refused)
            return {"jump_to": "end", "messages": settled}
        return {"messages": settled}

    def _tell(self, runtime: Any, rulings: Sequence[Ruling]) -> None:
        """Every decision other than allow, as a custom stream event without content."""
        writer = getattr(runtime, "stream_writer", None)
        if writer is not None:
            for ruling in rulings:
                for decision in ruling.decisions:
                    writer({notices.KEY: notices.about(decision)})


class _ReviewHooks(TurnguardMiddleware):
    """The nodes in which a person is asked. Each costs time in every loop, so only a policy that can ask has them."""

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the input and the tool results that wait."""
        return sync.run(self._settle(state, runtime)) if unsettled(state["messages"]) else None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the input and the tool results that wait."""
        return await self._settle(state, runtime) if unsettled(state["messages"]) else None

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the answer and the calls that wait."""
        return sync.run(self._settle_answer(state, runtime)) if self._waits(state) else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the answer and the calls that wait."""
        return await self._settle_answer(state, runtime) if self._waits(state) else None

    def after_agent(self, state: State, runtime: Any) -> Update:
        """Let a person review the result of a `return_direct` tool."""
        return self.before_model(state, runtime)

    async def aafter_agent(self, state: State, runtime: Any) -> Update:
        """Let a person review the result of a `return_direct` tool."""
        return await self.abefore_model(state, runtime)


class _ModelCall:
    """One model call of an agent, with its tries."""

    def __init__(self, middleware: TurnguardMiddleware, request: ModelRequest[Any]) -> None:
        self._of = middleware
        self._judging = middleware.judging
        self._unknown = list(self._judging.unknown(request.messages))
        self._replaced: list[BaseMessage] = []
        self._request = request
        self._retries = middleware._retries
        self._turn: Turn | None = None
        self._gate: asyncio.Task[Decision | None] | None = None
        self._asked = asked(request.messages, middleware.guard.checks.history)
        structured = _structured(request.response_format)
        self._structured = request.response_format is not None
        names = frozenset(filter(None, (getattr(tool, "name", None) for tool in request.tools)))
        self._surface = Surface(has_checkpointer(), structured=structured, tools=names | structured)

    @property
    def work(self) -> bool:
        """Whether there is anything to do before the model is called."""
        return bool(self._unknown)

    async def open(self) -> None:
        """Judge what came into the conversation without passing a hook; beside the model, where that is asked for."""
        beside = self._of.guard.checks.input == "beside"
        newest = _newest(self._request.messages)
        fresh = [one for one in self._unknown if beside and one.at > newest and isinstance(one.message, HumanMessage)]
        others = [one for one in self._unknown if one not in fresh]
        rulings = await self._of._sweep(others)
        messages = list(self._request.messages)
        for one, ruling in zip(others, rulings, strict=True):
            messages[one.at] = ruling.message
            if ruling.message is not one.message and one.message.id is not None:
                self._replaced.append(ruling.message)
        self._of._tell(self._request.runtime, rulings)
        self._request = self._request.override(messages=messages)
        if fresh:
            _refuse_provider_tools(self._request)
            self._gate = asyncio.ensure_future(self._beside(fresh))

    async def _beside(self, fresh: Sequence[Unknown]) -> Decision | None:
        """The verdict on the newest input. What cannot be carried out once the model has it becomes a block."""
        rulings = await asyncio.gather(*(self._judging.rule(one.message, one.request) for one in fresh))
        self._of._tell(self._request.runtime, rulings)
        refused: Decision | None = None
        for one, ruling in zip(fresh, rulings, strict=True):
            if ruling.message is not one.message:
                self._replaced.append(ruling.message)
            worst = next((decision for decision in ruling.decisions if not decision.allowed), None)
            refused = refused or ruling.ended or worst
        return refused

    def next_request(self, callbacks: Any) -> ModelRequest[Any]:
        """The request of the next try, to a model that is guarded."""
        again = self._retries > 0
        self._turn = Turn(self._judging, self._asked, self._surface, self._gate, again=again)
        turn = self._turn
        return self._request.override(model=guarded(self._request.model, lambda _messages: turn, callbacks))

    async def close(self, response: Any) -> Any:
        """What goes into the state; None to try again."""
        assert self._turn is not None  # noqa: S101 - a request was made before its response
        refused = None if self._gate is None else await self._gate
        if isinstance(response, Exception):
            ruling = next((one for one in self._turn.rulings.values() if one.ended is not None), None)
            if ruling is None:
                raise response
            messages, structured = ruling.messages, None
        else:
            response = response.model_response if isinstance(response, ExtendedModelResponse) else response
            result = [response] if isinstance(response, AIMessage) else response.result
            structured = None if isinstance(response, AIMessage) else response.structured_response
            messages = list(result)
            ruling = None
        if refused is not None:
            return await self._refuse(refused, next((m for m in messages if isinstance(m, AIMessage)), None))
        if ruling is None:
            messages, ruling = await self._ruled(messages)
        rulings = list(self._turn.rulings.values())
        if ruling is not None and ruling not in rulings:
            rulings.append(ruling)
        self._of._tell(self._request.runtime, rulings)
        if ruling is None:
            return self._response(messages, structured)
        if ruling.ended is not None:
            if self._retries > 0:
                self._retries -= 1
                notice = HumanMessage(notices.retry_notice(self._of.guard, ruling.ended))
                self._request = self._request.override(messages=[*self._request.messages, notice])
                return None
            if self._of._raises:
                raise Blocked(ruling.ended)
            return self._response(messages, None, end=self._structured)
        return self._response(messages, None if ruling.held else structured, end=False)

    async def _ruled(self, messages: list[BaseMessage]) -> tuple[list[BaseMessage], Ruling | None]:
        """The response's messages as they may enter the state, and the ruling that changed them."""
        assert self._turn is not None  # noqa: S101
        changed: Ruling | None = None
        kept: list[BaseMessage] = []
        for message in messages:
            ruling = self._turn.rulings.get(message.id) if isinstance(message, AIMessage) else None
            if isinstance(message, AIMessage) and not self._same(message, ruling):
                ruling = await self._judging.rule(message, self._asked, self._surface)
            if ruling is None:
                kept.append(message)
                continue
            named = ruling.message
            if message.name and named.name != message.name:
                named = named.model_copy(update={"name": message.name})
            kept += [named, *ruling.answers]
            if ruling.ended is not None or ruling.held is not None:
                return [
                    named,
                    *ruling.answers,
                ], ruling  # what was made of the message, such as parsed data, goes with it
            if ruling.decisions:
                changed = ruling
        return kept, changed

    def _same(self, message: AIMessage, ruling: Ruling | None) -> bool:
        """Whether this is what the guarded model gave, and no inner middleware put something else in its place."""
        if ruling is None:
            return self._judging.known(message, self._asked)
        return (
            ruling.ended is not None
            or ruling.held is not None
            or bool(ruling.decisions)
            or message is ruling.message
            or self._judging.known(message, self._asked)
        )

    async def _refuse(self, decision: Decision, original: AIMessage | None) -> Any:
        """The input was refused beside the model: nothing of the answer is kept."""
        if self._of._raises:
            raise Blocked(decision)
        text = await self._of.guard.arefusal(decision)
        refusal = notices.ai(None, text, notices.about(decision))
        refusal.id = original.id if original is not None else None
        return self._response([refusal], None, end=self._structured)

    def _response(self, messages: list[BaseMessage], structured: Any, *, end: bool = False) -> Any:
        response = ModelResponse(result=messages, structured_response=structured)
        update: dict[str, Any] = {"messages": self._replaced} if self._replaced else {}
        if end:
            update["jump_to"] = "end"  # a plain refusal would be asked for its structure again and again
        return ExtendedModelResponse(response, Command(update=update)) if update else response

    def end(self) -> None:
        """No check outlives its call."""
        if self._gate is not None and not self._gate.done():
            self._gate.get_loop().call_soon_threadsafe(self._gate.cancel)


def _newest(messages: Sequence[BaseMessage]) -> int:
    """Where the newest message stands that is not the person's: what follows it is their newest input."""
    return max((at for at, message in enumerate(messages) if not isinstance(message, HumanMessage)), default=-1)


def _refused(unknown: Sequence[Unknown], rulings: Sequence[Ruling], messages: Sequence[BaseMessage]) -> Decision | None:
    """The decision that ends the turn: the newest input's. Older messages are only replaced."""
    newest = _newest(messages)
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


def _last_ai(messages: Sequence[BaseMessage]) -> AIMessage | None:
    return next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)


def _field(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, dict) else getattr(state, name, None)


def _structured(response_format: Any) -> frozenset[str]:
    """The names of the calls that are the agent's answer itself."""
    if response_format is None or isinstance(response_format, ProviderStrategy):
        return frozenset()
    if isinstance(response_format, AutoStrategy):
        response_format = ToolStrategy(response_format.schema)
    elif not isinstance(response_format, ToolStrategy):
        response_format = ToolStrategy(response_format)
    return frozenset(spec.name for spec in response_format.schema_specs)


_CLIENT_SIDE = (None, "function", "custom")


def _refuse_provider_tools(request: ModelRequest[Any]) -> None:
    bound = list(request.tools) + list(request.model_settings.get("tools") or ())
    kwargs = getattr(request.model, "kwargs", None)
    bound += list((kwargs or {}).get("tools") or ()) if isinstance(kwargs, dict) else []
    for tool in bound:
        if isinstance(tool, dict) and (tool.get("type") not in _CLIENT_SIDE or not ({"function", "name"} & set(tool))):
            raise ConfigError(
                "checks.input: beside cannot be used where the provider runs tools itself (here "
                f"{tool.get('type') or ', '.join(map(str, tool))}): they would run before the verdict; use before"
            )
