"""Wrappers around NeMo's private parts, for the versions that were tested with them; `replay` and `live` hold others.

NeMo's engine lets content pass unjudged in ways that no flow can close (each was seen in a run; the tests name them):
past tool calls end its input rails, blocked turns stay in its event cache, that cache ignores pictures, and its
streaming judges chunks without what came before them. One wrapper around each entry point closes them.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nemoguardrails.exceptions import InvalidRailsConfigurationError, StreamingNotSupportedError

from turnguard.core.errors import ConfigError
from turnguard.nemo import transcripts
from turnguard.nemo.erase import clear, clear_explained, without_content
from turnguard.nemo.host import RAIL_OF, Host, InvalidRequest
from turnguard.nemo.live import wrap_streaming
from turnguard.nemo.replay import replace_tool_flow, use_own_cache, wrap_events, wrap_knowledge
from turnguard.nemo.turn import Run, Turn, checking, current, streaming
from turnguard.runtime.fork import watch
from turnguard.telemetry import listening

if TYPE_CHECKING:
    from nemoguardrails import LLMRails


SUPPORTED = ((0, 24, 1), (0, 25))

_PRIVATE = (
    "_get_events_for_messages",
    "_run_output_rails_in_streaming",
    "_init_kb",
    "_validate_config",
    "events_history_cache",
    "runtime",
)


def require_supported() -> None:
    """Raise `ConfigError` unless this is a NeMo Guardrails whose engine is known."""
    import nemoguardrails

    found = str(nemoguardrails.__version__)
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        raise ConfigError(
            f"Turnguard's rails were tested with nemoguardrails>=0.24.1,<0.25 and found {found}: they close holes in "
            "its engine by private parts. With another version take guarded() from turnguard.nemo, which needs none"
        )


class LoadError(ConfigError, InvalidRailsConfigurationError):  # type: ignore[misc] # NeMo is read as Any
    """A `ConfigError` that NeMo knows as its own, as its server answers for those."""


def refuse_to_load(app: LLMRails, error: ConfigError) -> None:
    """Let loading end with this error. What `init` raises NeMo wraps into one that names a file of ours instead."""
    told = LoadError(*error.problems)
    if not hasattr(app, "_validate_config"):
        raise told

    def validate() -> None:
        raise told

    app._validate_config = validate


def install(app: LLMRails, host: Host) -> None:
    """Wrap the entry points of one `LLMRails`. Raises `ConfigError` where the engine is not the one that is known."""
    missing = [name for name in _PRIVATE if not hasattr(app, name)]
    if missing:
        raise ConfigError(
            f"this nemoguardrails has no {', '.join(missing)}: its engine is not the one that Turnguard knows"
        )
    app.register_action_param("turnguard", host)
    _wrap_generate(app, host)
    _wrap_events_api(app)
    if app.config.colang_version == "1.0":
        wrap_events(app, host)
        _wrap_check(app, host)
        wrap_streaming(app, host)
        wrap_knowledge(app, host)
        replace_tool_flow(app, host)
        _wrap_steps(app)
    else:
        app.stream_async = _no_streaming
        app.check_async = _no_check


async def _no_check(*_args: Any, **_kwargs: Any) -> Any:
    """Colang 2.x gives no log, which is what `check` reads, and says so only after the main model was called."""
    raise InvalidRailsConfigurationError("Turnguard's rails have no check with Colang 2.x: use Colang 1.0")


def _no_streaming(*_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:
    """Colang 2.x pushes the main model's text into the stream before its output rails run."""
    raise StreamingNotSupportedError(
        "Turnguard's rails do not stream with Colang 2.x: use Colang 1.0, or generate_async()"
    )


# ---------------------------------------------------------------- generate


def _wrap_generate(app: LLMRails, host: Host) -> None:
    original = app.generate_async
    parameters = inspect.signature(original)

    async def generate_async(*args: Any, **kwargs: Any) -> Any:
        asked = parameters.bind(*args, **kwargs)
        given = asked.arguments
        prompt, messages, options = (given.get(name) for name in ("prompt", "messages", "options"))
        state, streaming_handler = given.get("state"), given.get("streaming_handler")
        if (prompt is None) == (messages is None):
            return await original(*args, **kwargs)
        stream, check = streaming.get(), checking.get()
        with _alone(nested=streaming_handler is None and current.get() is not None):
            if stream is None:
                _refuse_unjudged_streaming(host, streaming_handler)
            rails = _rails(options)
            if app.config.colang_version != "1.0":
                _require_carried(messages or [])
            host.require_untouched(messages or [], state, rails, checking=check is not None)
            # the engine writes into the caller's own list (passthrough), and what is cleared must not change it either
            copied: list[dict[str, Any]] = (
                _copied(messages) if messages is not None else [{"role": "user", "content": prompt}]
            )
            # without our output rail nothing judges the stream, and nothing waits for it
            judged = stream is not None and "output" in host.stages
            turn = Turn(copied, transcripts.newest(copied), streaming=judged)
            for run in (stream, check):
                if run is not None:
                    run.turn = turn
            use_own_cache(app)
            _use_own_adapters(app)
            current.set(turn)
            turn.explained = app._ensure_explain_info()
            try:
                await host.screen(turn, rails, checking=check is not None)
                if prompt is not None:
                    given["prompt"] = turn.messages[-1]["content"]
                else:
                    given["messages"] = turn.messages
                result = await original(*asked.args, **asked.kwargs)
                if "output" in host.stages and rails.get("output", True) and not judged and turn.refusal is None:
                    await _judge_unheard(app, host, turn, result)
            except BaseException:
                clear_explained(app, turn)  # nobody may have judged it
                raise
            if check is not None:
                _as_text(result)
            if turn.stopped:
                clear_explained(app, turn)
            return clear(result, turn, app)

    app.generate_async = generate_async


@contextmanager
def _alone(*, nested: bool = False, events: bool = False) -> Iterator[None]:
    """A call for itself: what actions call while it runs is no part of the stream or check that it belongs to.

    `nested` is a call from another's action: its text has no place in the other's stream. `events` is one through the
    events API, which has no messages: the other's must not stand for them.
    """
    from nemoguardrails.context import raw_llm_request, streaming_handler_var

    tokens: list[tuple[ContextVar[Any], Any]] = [(each, each.set(None)) for each in (streaming, checking)]
    tokens.append((current, current.set(None)))
    if nested:
        tokens.append((streaming_handler_var, streaming_handler_var.set(None)))
    if events:
        tokens.append((raw_llm_request, raw_llm_request.set(None)))
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


def _wrap_events_api(app: LLMRails) -> None:
    """An action that uses the events API is judged for what it sends, not for the turn that it runs in."""
    generate, process = app.generate_events_async, app.process_events_async

    async def generate_events_async(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        with _alone(nested=current.get() is not None, events=True):
            made: list[dict[str, Any]] = await generate(events)
            return made

    async def process_events_async(events: list[dict[str, Any]], state: Any = None, blocking: bool = False) -> Any:
        with _alone(nested=current.get() is not None, events=True):
            return await process(events, state, blocking)

    app.generate_events_async = generate_events_async
    app.process_events_async = process_events_async


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _as_text(result: Any) -> None:
    """`check` takes text only, so that an exception (`enable_rails_exceptions`) would fail there."""
    for answer in result.response if isinstance(getattr(result, "response", None), list) else ():
        if answer.get("role") == "exception":
            answer.update(role="assistant", content=str(answer["content"].get("message", "")))


def _require_carried(messages: list[dict[str, Any]]) -> None:
    """Raise `InvalidRequest` for what Turnguard's rails cannot judge under Colang 2.x."""
    for message in messages:
        content = message.get("content")
        if message.get("role") == "tool" or message.get("tool_calls"):
            raise InvalidRequest("Turnguard's rails judge no tool messages with Colang 2.x: use Colang 1.0")
        if message.get("role") == "context" and isinstance(content, dict) and content.get("relevant_chunks"):
            raise InvalidRequest("Turnguard's rails judge no retrieved chunks with Colang 2.x: use Colang 1.0")


def _rails(options: Any) -> Mapping[str, Any]:
    """Which rails the caller's options leave on: everything where nothing is said."""
    if options is None:
        return {}
    from nemoguardrails.rails.llm.options import GenerationOptions

    parsed = GenerationOptions(**options) if isinstance(options, dict) else options
    return parsed.rails.model_dump() if isinstance(parsed, GenerationOptions) else {}


def _refuse_unjudged_streaming(host: Host, handler: Any) -> None:
    """`generate_async(streaming_handler=...)` shows the main model's text as it comes, whatever the output rails
    say.
    """
    from nemoguardrails.context import streaming_handler_var

    if "output" in host.stages and (handler or streaming_handler_var.get()) is not None:
        raise StreamingNotSupportedError(
            "generate_async(streaming_handler=...) would show text before Turnguard's output rail has judged it: "
            "use stream_async() with rails.output.streaming.enabled: true"
        )


# ---------------------------------------------------------------- check


def _wrap_check(app: LLMRails, host: Host) -> None:
    original = app.check_async

    async def check_async(messages: list[dict[str, Any]], rail_types: Any = None) -> Any:
        if rail_types is None and not any(message.get("role") in ("user", "assistant") for message in messages):
            return await _checked_alone(host, messages)
        run = Run()
        token = checking.set(run)
        messages = transcripts.ending_in_speech(messages)
        try:
            return _told(await original(messages, rail_types), run.turn, messages)
        finally:
            checking.reset(token)

    app.check_async = check_async


async def _checked_alone(host: Host, messages: list[dict[str, Any]]) -> Any:
    """Tool results, context and system messages alone, which the engine passes without running a rail."""
    from nemoguardrails.rails.llm.options import RailsResult, RailStatus

    copied = _copied(messages)
    turn = Turn(copied, range(len(copied)))
    with _alone():
        decisions = await host.screen(turn, {}, checking=True, alone=True)
    content = turn.messages[-1].get("content") if turn.messages else ""
    text = content if isinstance(content, str) else transcripts.text_of(content)
    if turn.refusal is not None:
        return RailsResult(status=RailStatus.BLOCKED, content=turn.refusal, rail=turn.rail)
    changed = not all(decision.allowed for decision in decisions)
    return RailsResult(status=RailStatus.MODIFIED if changed else RailStatus.PASSED, content=text)


def _told(result: Any, turn: Turn | None, messages: list[dict[str, Any]]) -> Any:
    """The engine's result, corrected: it overlooks refusals by event, and takes a picture's message for a changed
    one.
    """
    from nemoguardrails.rails.llm.options import RailsResult, RailStatus

    if turn is None:
        return result
    if turn.refusal is not None:
        return RailsResult(status=RailStatus.BLOCKED, content=turn.refusal, rail=turn.rail or result.rail)
    if not turn.looked and turn.messages:  # the engine ran no rail and answers nothing
        changed = turn.messages[-1].get("content") != messages[-1].get("content")
        status = RailStatus.MODIFIED if changed else RailStatus.PASSED
        return RailsResult(status=status, content=transcripts.text_of(turn.messages[-1].get("content")))
    if result.status == RailStatus.MODIFIED and result.content == str(turn.said):
        changed = turn.said != transcripts.spoken(messages)
        status = RailStatus.MODIFIED if changed else RailStatus.PASSED
        return RailsResult(status=status, content=transcripts.text_of(turn.said))
    return result


# ---------------------------------------------------------------- predefined messages


async def _judge_unheard(app: LLMRails, host: Host, turn: Turn, result: Any) -> None:
    """Judge what the answer says and no output rail has heard.

    The engine runs none on predefined messages, and fills their variables with whatever an action or a model has put
    there. Lines that stand in the configuration as they are need no judgement.
    """
    known = {line for texts in app.config.bot_messages.values() for text in texts for line in text.splitlines()}
    known.update(line for text in turn.heard for line in text.splitlines())
    said = transcripts.answers_in(result)
    if all(line in known or not line.strip() for text in said for line in text.splitlines()):
        return
    decisions = await turn.judge(host.guard, (), [{"role": "assistant", "content": text} for text in said])
    for decision in decisions:
        if not decision.allowed:
            turn.refuse(await host.refusal(decision), RAIL_OF["output"])
            app.events_history_cache.drop(turn.key)


# ---------------------------------------------------------------- threads


class _OneThreadAtATime:
    """Lets one thread at a time into the engines of all apps.

    The engine parses each expression anew, and `ast.parse` fails in several threads at once ("AST constructor recursion
    depth mismatch", cpython#106905).
    """

    def __init__(self) -> None:
        self._after_fork()
        watch(self)

    def _after_fork(self) -> None:
        self.lock = threading.RLock()


_engines = _OneThreadAtATime()


def _wrap_steps(app: LLMRails) -> None:
    compute = app.runtime._compute_next_steps

    async def compute_next_steps(*args: Any, **kwargs: Any) -> Any:
        with _engines.lock:  # the engine awaits nothing there
            return await compute(*args, **kwargs)

    app.runtime._compute_next_steps = compute_next_steps


# ---------------------------------------------------------------- tracing


def _use_own_adapters(app: LLMRails) -> None:
    """The engine exports a turn before it returns it, and so before it can be cleared."""
    adapters = app._log_adapters
    if adapters and not isinstance(adapters[0], _Cleared):
        app._log_adapters = [_Cleared(adapter) for adapter in adapters]


class _Cleared:
    """A tracing adapter that is shown no content of a turn in which something was withheld, rewritten, or streams."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def __aenter__(self) -> Any:
        return await self._adapter.__aenter__()

    async def __aexit__(self, *raised: object) -> Any:
        return await self._adapter.__aexit__(*raised)

    async def transform_async(self, interaction_log: Any) -> Any:
        turn = current.get()
        if turn is not None and (turn.streaming or turn.changed):
            interaction_log = without_content(interaction_log)
        if listening():  # Turnguard's own spans show these calls
            others = [span for span in interaction_log.trace if not span.name.startswith("turnguard_check_")]
            interaction_log = interaction_log.model_copy(update={"trace": others})
        return await self._adapter.transform_async(interaction_log)
