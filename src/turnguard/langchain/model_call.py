"""One model call of an agent, from the request to what enters the state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain.agents.middleware import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.types import Command

from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.langchain import notices
from turnguard.langchain.agent_run import AgentRun, tell
from turnguard.langchain.messages import newest_other
from turnguard.langchain.model import Guarding, guarded
from turnguard.langchain.review import has_checkpointer
from turnguard.langchain.rulings import Ruling, Surface, Unknown
from turnguard.langchain.tool_definitions import Definitions
from turnguard.langchain.turn import Turn


class GuardedRequest(ModelRequest[Any]):
    """A request whose model is guarded, also where a middleware inside ours chooses another or falls back to one."""

    _guards: Callable[[Any], Any]

    @classmethod
    def of(cls, request: ModelRequest[Any], guards: Callable[[Any], Any]) -> GuardedRequest:
        """The request with a guarded model. Another guarded agent's request keeps its guards inside ours."""
        made = object.__new__(cls)
        made.__dict__.update(request.__dict__)
        inner: Callable[[Any], Any] = getattr(request, "_guards", lambda model: model)
        made.__dict__["_guards"] = lambda model: guards(inner(model))
        made.__dict__["model"] = guards(request.model)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        guards = self.__dict__.get("_guards")  # absent while it is made
        super().__setattr__(name, guards(value) if name == "model" and guards is not None else value)

    def override(self, **overrides: Any) -> GuardedRequest:
        """As the request's own; a model in it is guarded."""
        if "model" in overrides:
            overrides["model"] = self._guards(overrides["model"])
        made = super().override(**overrides)
        made.__dict__["_guards"] = self._guards
        return cast("GuardedRequest", made)  # `dataclasses.replace` keeps the class


class ModelCall:
    """One model call of an agent, with its tries."""

    def __init__(self, of: AgentRun, request: ModelRequest[Any]) -> None:
        self._of = of
        self._judging = of.judging
        self._unknown = list(self._judging.unknown(request.messages))
        self._definitions = Definitions(of.judging, request.tools)
        self._replaced: list[BaseMessage] = []
        self._request = request
        self._retries = of.retries
        self._turn: Turn | None = None
        self._gate: asyncio.Task[Decision | None] | None = None
        self._asked = self._judging.asked(request.messages)
        structured = _structured(request.response_format)
        self._structured = request.response_format is not None
        names = frozenset(filter(None, (getattr(tool, "name", None) for tool in request.tools)))
        self._surface = Surface(
            has_checkpointer(),
            structured=structured,
            parsed=isinstance(request.response_format, (ProviderStrategy, AutoStrategy)),
            tools=names | structured,
        )

    @property
    def work(self) -> bool:
        """Whether there is anything to do before the model is called."""
        return bool(self._unknown) or self._definitions.unknown

    async def open(self) -> None:
        """Judge what came into the conversation without passing a hook; beside the model, where that is asked for."""
        if self._definitions.unknown:
            decisions = await self._definitions.judge()
            tell(self._request.runtime, [Ruling(None, (one,)) for one in decisions if one.action != "allow"])
        beside = self._judging.guard.checks.input == "beside"
        newest = newest_other(self._request.messages)
        fresh = [one for one in self._unknown if beside and one.at > newest and isinstance(one.message, HumanMessage)]
        others = [one for one in self._unknown if one not in fresh]
        rulings = await self._of.sweep(others)
        messages = list(self._request.messages)
        for one, ruling in zip(others, rulings, strict=True):
            messages[one.at] = ruling.message
            if ruling.message is not one.message and one.message.id is not None:
                self._replaced.append(ruling.message)
        tell(self._request.runtime, rulings)
        if any(one is not other for one, other in zip(messages, self._request.messages, strict=True)):
            # otherwise the list stays: other middleware writes into it and expects to find it in the state
            self._request = self._request.override(messages=messages)
        if fresh:
            _refuse_provider_tools(self._request)
            self._gate = asyncio.ensure_future(self._beside(fresh))

    async def _beside(self, fresh: Sequence[Unknown]) -> Decision | None:
        """The verdict on the newest input. What cannot be carried out once the model has it becomes a block."""
        rulings = await asyncio.gather(*(self._judging.rule(one.message, one.request) for one in fresh))
        tell(self._request.runtime, rulings)
        refused: Decision | None = None
        for one, ruling in zip(fresh, rulings, strict=True):
            if ruling.message is not one.message:
                self._replaced.append(ruling.message)
            worst = next((decision for decision in ruling.decisions if not decision.allowed), None)
            refused = refused or ruling.ended or worst
        return refused

    def next_request(self) -> ModelRequest[Any]:
        """The request of the next try. Its model is guarded, and so is any that takes its place."""
        tools = self._definitions.offered(self._request.messages)
        if list(map(id, tools)) != list(map(id, self._request.tools)):
            self._request = self._request.override(tools=tools)
        again = self._retries > 0
        seen = list(self._request.messages)
        self._turn = Turn(self._judging, self._asked, self._surface, self._gate, again=again, seen=seen)
        return GuardedRequest.of(self._request, lambda model: guarded(model, self))

    # ------------------------------------------------------------ as the guarding of the models that are called

    @property
    def judged(self) -> bool:
        """Whether every stage is judged here."""
        return self._judging.checks_all

    def turn(self, messages: Sequence[BaseMessage]) -> Turn:
        """This try's turn, whichever model is called in it."""
        assert self._turn is not None  # noqa: S101 - a request was made before its model is called
        return self._turn

    def raising(self) -> Guarding:
        """The agent ends its turn by itself."""
        return self

    def blocked(self, message: BaseMessage) -> None:
        """Nothing is raised inside an agent."""

    # ------------------------------------------------------------ what came of it

    def catches(self, error: Exception) -> bool:
        """Whether an error waits for the verdict: one that a refusal explains, or one beside which the input is
        judged.
        """
        return isinstance(error, StructuredOutputError) or self._gate is not None

    def settled(self, response: Any) -> Any:
        """What goes into the state, where it is what the guarded model gave and passed as it was; None otherwise."""
        if self._gate is not None or self._turn is None or isinstance(response, Exception):
            return None
        messages, structured = _result(response)
        for message in messages:
            if isinstance(message, AIMessage):
                ruling = self._turn.ruling(message)
                plain = ruling is not None and ruling.message is message and not (ruling.decisions or ruling.answers)
                if not plain or not self._turn.unchanged(message):
                    return None
        return self._response(messages, structured)

    async def close(self, response: Any) -> Any:
        """What goes into the state; None to try again."""
        assert self._turn is not None  # noqa: S101 - a request was made before its response
        done = self.settled(response)
        if done is not None:
            return done
        refused = None if self._gate is None else await self._gate
        if isinstance(response, Exception):
            parsed = isinstance(response, StructuredOutputError)
            ruling = next((one for one in self._turn.rulings if parsed and one.ended is not None), None)
            if ruling is None and refused is None:
                raise response
            messages, structured = [] if ruling is None else ruling.messages, None
        else:
            messages, structured = _result(response)
            ruling = None
        if refused is not None:
            return await self._refuse(refused, next((m for m in messages if isinstance(m, AIMessage)), None))
        if ruling is None:
            messages, ruling = await self._ruled(messages)
        rulings = list(self._turn.rulings)
        if ruling is not None and ruling not in rulings:
            rulings.append(ruling)
        tell(self._request.runtime, rulings)
        if ruling is None:
            return self._response(messages, structured)
        if ruling.ended is not None:
            if self._retries > 0:
                self._retries -= 1
                notice = HumanMessage(notices.retry_notice(self._judging.guard, ruling.ended))
                self._request = self._request.override(messages=[*self._request.messages, notice])
                return None
            self._of.blocks(ruling.ended, messages[0])
            return self._response(messages, None, end=self._structured)
        return self._response(messages, None if ruling.held else structured, end=False)

    async def _ruled(self, messages: list[BaseMessage]) -> tuple[list[BaseMessage], Ruling | None]:
        """The response's messages as they may enter the state, and the ruling that changed them."""
        assert self._turn is not None  # noqa: S101
        changed: Ruling | None = None
        kept: list[BaseMessage] = []
        for message in messages:
            ruling = self._turn.ruling(message) if isinstance(message, AIMessage) else None
            if isinstance(message, AIMessage) and not self._same(message, ruling):
                ruling = await self._judging.rule(message, self._asked, self._surface)
            if ruling is None:
                kept.append(message)
                continue
            named = ruling.message
            if named.id is None:
                named = named.model_copy(update={"id": message.id})
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
        assert self._turn is not None  # noqa: S101
        if message is ruling.message:
            return self._turn.unchanged(message)
        changed = ruling.ended is not None or ruling.held is not None
        changed = changed or any(decision.action != "flag" for decision in ruling.decisions)
        # what we changed stands as we left it, whatever they made of it
        return changed or self._turn.unchanged(message) or self._judging.known(message, self._asked)

    async def _refuse(self, decision: Decision, original: AIMessage | None) -> Any:
        """The input was refused beside the model: nothing of the answer is kept."""
        text = await self._judging.refusal(decision)
        refusal = notices.ai(None, text, notices.about(decision))
        refusal.id = original.id if original is not None else None
        self._of.blocks(decision, refusal)
        return self._response([refusal], None, end=self._structured)

    def _response(self, messages: list[BaseMessage], structured: Any, *, end: bool = False) -> Any:
        if structured is not None:
            self._accept_echo(messages)
        response = ModelResponse(result=messages, structured_response=structured)
        update: dict[str, Any] = {"messages": self._replaced} if self._replaced else {}
        if end:
            update["jump_to"] = "end"  # a plain refusal would be asked for its structure again and again
        return ExtendedModelResponse(response, Command(update=update)) if update else response

    def _accept_echo(self, messages: Sequence[BaseMessage]) -> None:
        """LangChain answers the call that is the structured answer with its data: no tool gave that, and it was
        judged.
        """
        for message in messages:
            if isinstance(message, ToolMessage):
                message.id = message.id or str(uuid4())
                self._judging.approve(message, self._asked)

    def end(self) -> None:
        """No check outlives its call."""
        if self._gate is not None and not self._gate.done():
            self._gate.get_loop().call_soon_threadsafe(self._gate.cancel)


def _result(response: Any) -> tuple[list[BaseMessage], Any]:
    """The messages of a model's response, and what was made of them."""
    response = response.model_response if isinstance(response, ExtendedModelResponse) else response
    if isinstance(response, AIMessage):
        return [response], None
    return list(response.result), response.structured_response


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
