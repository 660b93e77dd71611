"""`guarded` built into an `LLMRails` that lists our rails: what was asked is judged before the engine sees any of it.

The rails inside the engine report that to its flows and its log, and judge what the engine makes of it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from nemoguardrails.context import raw_llm_request, streaming_handler_var
from nemoguardrails.exceptions import InvalidRailsConfigurationError, StreamingNotSupportedError

from turnguard.core.decision import Decision
from turnguard.nemo import answers, engine, requests
from turnguard.nemo.host import Host, InvalidRequest
from turnguard.nemo.judging import Judging
from turnguard.nemo.reports import report
from turnguard.nemo.requests import Judge, Judged
from turnguard.nemo.turn import Turn, current, entered, without

if TYPE_CHECKING:
    from nemoguardrails import LLMRails

_WRAPPED = ("generate_async", "stream_async", "check_async")
_OWN_CONTEXT = ("generate_events_async", "process_events_async")


def install(app: LLMRails, host: Host) -> DropIn:
    """Put a guard around the entry points of one `LLMRails`."""
    door = DropIn(app, host)
    app.register_action_param("turnguard", door)
    for name in _WRAPPED:
        setattr(app, name, getattr(door, name))
    for name in _OWN_CONTEXT:
        setattr(app, name, _alone_in_events(getattr(app, name)))
    engine.adapt(app, host)
    return door


class DropIn(Judging):
    """The guard of one `LLMRails`. `host` says which of our rails it lists."""

    __slots__ = ("_own", "host")

    def __init__(self, app: LLMRails, host: Host) -> None:
        super().__init__(app, host.guard, host.policy)
        self.host = host
        self._own = {name: getattr(app, name) for name in _WRAPPED}

    @property
    def judge(self) -> Judge:
        """Who judges what belongs to no turn of ours."""
        return Judge(self._guard, self._guard.chosen(self.host.policy))

    # ------------------------------------------------------------ entry points

    async def generate_async(self, *args: Any, **kwargs: Any) -> Any:
        """The engine's answer, judged. A stream and a check reach the engine's own through this."""
        asked = _bound(self._own["generate_async"], args, kwargs)
        if (running := entered.get()) is not None and running[0] is self:
            with without(entered, current):
                return await self._inside(running[1], asked)
        if (asked.get("prompt") is None) == (asked.get("messages") is None):
            return await self._own["generate_async"](**asked)
        handler, nested = asked.get("streaming_handler"), current.get() is not None
        if "output" in self.host.stages and (handler or (None if nested else streaming_handler_var.get())) is not None:
            raise StreamingNotSupportedError(
                "generate_async(streaming_handler=...) would show text before Turnguard's output rail has judged it: "
                "use stream_async() with rails.output.streaming.enabled: true"
            )
        with without(entered, current, *([streaming_handler_var] if nested else [])):
            turn, answer = await self._called(asked, self._generate)
            return await self._answered(turn, answer)

    def stream_async(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The engine's chunks, judged."""
        if self.engine.config.colang_version != "1.0":  # it streams the main model's text before its output rails run
            raise StreamingNotSupportedError(
                "Turnguard's rails do not stream with Colang 2.x: use Colang 1.0, or generate_async()"
            )
        asked = _bound(self._own["stream_async"], args, kwargs)
        return self._streamed(asked, in_frames=bool(asked.get("include_metadata")))

    async def check_async(self, messages: list[Any], rail_types: Any = None, **more: Any) -> Any:
        """The engine's result for these messages, judged."""
        if self.engine.config.colang_version != "1.0":  # it has no log, which is what `check` reads
            raise InvalidRailsConfigurationError("Turnguard's rails have no check with Colang 2.x: use Colang 1.0")
        with without(entered, current):
            return await super().check_async(messages, rail_types, **more)

    # ------------------------------------------------------------ before the engine

    async def _judge(self, by: Judge, listed: list[Any], asked: dict[str, Any], *, checking: bool) -> Judged:
        options = asked.get("options")
        if self.engine.config.colang_version != "1.0":
            _require_carried(listed)
        self.host.require_untouched(listed, options)
        only = self.host.judged(listed, options, checking=checking)
        chunks = "retrieval" not in self.host.stages and not self._guard.checks.trusted_roles
        return await requests.judge(by, listed, only, chunks=chunks)

    def _call(self, asked: dict[str, Any], messages: list[Any]) -> dict[str, Any]:
        if asked.get("prompt") is not None:
            return {**asked, "prompt": messages[-1]["content"]}
        made = requests.copied(messages)
        if requests.trailing_tools(made):  # with dialog flows in passthrough mode the engine writes the results over it
            last = next((at for at in range(len(made) - 1, -1, -1) if requests.role_of(made[at]) == "user"), None)
            if last is not None:
                made[last] = requests.Unwritable(made[last])
        return {**asked, "messages": made}

    def _is_beside(self) -> bool:
        return False

    def _judges_output(self, turn: Turn) -> bool:
        return "output" in self.host.on(turn.asked.get("options"))

    def _goes_on(self, turn: Turn) -> bool:
        """On a refusal too, where a rail of ours runs that ends the turn, so that log and flows tell of it."""
        if turn.refusal is None:
            return True
        on = self.host.on(turn.asked.get("options"))
        messages = turn.call.get("messages")
        if messages is None or (messages and requests.role_of(messages[-1]) == "user"):
            return "input" in on
        if requests.trailing_tools(messages) and "tool_result" in on:
            return True
        notice = self._guard.removed(turn.judged.refusing, policy=turn.judge.policy) if turn.judged.refusing else ""
        messages.append({"role": "user", "content": notice})
        return "input" in on

    async def refusal(self, decision: Decision, by: Judge) -> str:
        """What to tell the person."""
        return self.host.own_refusal or await super().refusal(decision, by)

    def _told(self, turn: Turn) -> str:
        return error_chunk(turn.refusal or "", "turnguard check output") if self.host.exceptions else turn.refusal or ""

    def _has_rails(self, rail_types: Any) -> bool:
        rails = self.engine.config.rails
        return self.host.others or any(not getattr(rails, each.value).flows for each in rail_types or ())

    # ------------------------------------------------------------ in the engine

    async def _generate(self, turn: Turn) -> Any:
        return await self._inside(turn, turn.call)

    def _stream(self, turn: Turn) -> AsyncIterator[Any]:
        """In a task of its own, with this context."""
        turn.streaming = self._judges_output(turn)
        current.set(turn)
        if turn.asked.get("generator") is None:
            entered.set((self, turn))
        made: AsyncIterator[Any] = self._own["stream_async"](**turn.call)
        return made

    async def _check(self, turn: Turn, rail_types: Any, **more: Any) -> Any:
        entered.set((self, turn))
        return await self._own["check_async"](turn.call["messages"], rail_types, **more)

    async def _inside(self, turn: Turn, call: Mapping[str, Any]) -> Any:
        current.set(turn)
        turn.explained = engine.prepared(self.engine)
        try:
            return await self._own["generate_async"](**call)
        except BaseException:
            turn.stopped = True  # nobody may have judged it
            raise
        finally:
            if turn.stopped:
                engine.clear_explained(self.engine, turn)

    # ------------------------------------------------------------ after the engine

    async def _answered(self, turn: Turn, answer: Any) -> Any:
        if answer is None and turn.refusal is not None:
            return report(self._refused(turn), turn.judged.decisions, turn.asked.get("options"))
        if turn.refusal is not None and (turn.ended or not turn.told):
            if not _is_exception(answer):
                answer = answers.withheld(answer, turn.refusal, turn.asked.get("state"))
        elif said := self._unheard(turn, answer):
            answer, _ = await self._passed(turn, answer, said, [])
        if turn.changed:
            engine.clear_explained(self.engine, turn)
            answers.clear(answer, turn.pairs)
        return answer

    def _unheard(self, turn: Turn, answer: Any) -> list[Any]:
        """What the answer says, where a part of it went past our output rails.

        The engine runs none on predefined messages, and fills their variables with whatever an action or a model has
        put there. Lines that stand in the configuration as they are need no judgement.
        """
        if not self._judges_output(turn) or _is_exception(answer):
            return []
        said = answers.said(answer)
        texts = [text for each in said for text in (each.get("content"), each.get("reasoning_content")) if text]
        heard = [*turn.heard, *(text for each in self.engine.config.bot_messages.values() for text in each)]
        known = {line.strip() for text in heard if isinstance(text, str) for line in text.splitlines()}
        if all(not line.strip() or line.strip() in known for text in texts for line in str(text).splitlines()):
            return []
        return [{key: value for key, value in each.items() if key not in ("tool_calls", "events")} for each in said]

    def _ended(self, turn: Turn, *, passed: bool) -> None:
        turn.stopped = turn.stopped or not passed
        if turn.stopped:
            engine.clear_explained(self.engine, turn)
        engine.keep_events(self.engine, turn)


def _alone_in_events(call: Any) -> Any:
    """An action that uses the events API is judged for what it sends, not for the turn that it runs in."""

    async def called(*args: Any, **kwargs: Any) -> Any:
        nested = [] if current.get() is None else [streaming_handler_var]
        with without(entered, current, raw_llm_request, *nested):
            return await call(*args, **kwargs)

    return called


def error_chunk(message: str, rail: str) -> str:
    """The chunk by which NeMo's streams say that a rail blocked, with our message in it; NeMo's server knows it."""
    error = {"message": message, "type": "guardrails_violation", "param": rail, "code": "content_blocked"}
    return json.dumps({"error": error}, ensure_ascii=False)


def _bound(call: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by their names; a subclass may have more of them."""
    bound = inspect.signature(call).bind(*args, **kwargs)
    more = next((each.name for each in bound.signature.parameters.values() if each.kind == each.VAR_KEYWORD), None)
    given = dict(bound.arguments)
    return {**given, **(given.pop(more, {}) if more else {})}


def _is_exception(answer: Any) -> bool:
    """Whether an answer is the event of `enable_rails_exceptions`. Colang 2.x puts it beside the answer."""
    if not isinstance(answer, Mapping):
        given = getattr(answer, "response", None)
        return isinstance(given, list) and any(_is_exception(each) for each in given)
    events = answer.get("events") or ()
    return answer.get("role") == "exception" or any(str(each.get("type")).endswith("Exception") for each in events)


def _require_carried(messages: list[Any]) -> None:
    """Raise `InvalidRequest` for what Turnguard's rails cannot judge under Colang 2.x."""
    for message in messages:
        if requests.is_tool(message) or message.get("tool_calls"):
            raise InvalidRequest("Turnguard's rails judge no tool messages with Colang 2.x: use Colang 1.0")
        content = message.get("content")
        if message.get("role") == "context" and isinstance(content, dict) and content.get("relevant_chunks"):
            raise InvalidRequest("Turnguard's rails judge no retrieved chunks with Colang 2.x: use Colang 1.0")
