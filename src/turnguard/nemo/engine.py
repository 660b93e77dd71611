"""NeMo's private parts, all in this one file however long, for the versions that were tested with it.

NeMo's engine lets content pass unjudged in ways that no flow can close (each was seen in a run; the tests name them):
past tool calls end its input rails, blocked turns stay in its event cache, that cache ignores pictures, and its
streaming judges chunks without what came before them. One wrapper around each entry point closes them.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nemoguardrails.exceptions import InvalidRailsConfigurationError, StreamingNotSupportedError

from turnguard.checking.stream import Released
from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.core.step import Stage
from turnguard.nemo import transcripts
from turnguard.nemo.erase import clear, clear_explained, without_content
from turnguard.nemo.history import History
from turnguard.nemo.host import RAIL_OF, Host, InvalidRequest
from turnguard.nemo.turn import Turn, current
from turnguard.runtime.fork import watch

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
_streaming: ContextVar[_Run | None] = ContextVar("turnguard_nemo_streaming", default=None)
_checking: ContextVar[_Run | None] = ContextVar("turnguard_nemo_checking", default=None)


@dataclass(slots=True, eq=False)
class _Run:
    """A `stream_async` or `check_async` in progress, and the turn that it runs: its own alone, not those of actions
    in it.
    """

    turn: Turn | None = None


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
        _wrap_events(app, host)
        _wrap_check(app, host)
        _wrap_streaming(app, host)
        _wrap_knowledge(app, host)
        _replace_tool_flow(app, host)
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
        streaming, checking = _streaming.get(), _checking.get()
        with _alone(nested=streaming_handler is None and current.get() is not None):
            if streaming is None:
                _refuse_unjudged_streaming(host, streaming_handler)
            rails = _rails(options)
            if app.config.colang_version != "1.0":
                _require_carried(messages or [])
            host.require_untouched(messages or [], state, rails, checking=checking is not None)
            # the engine writes into the caller's own list (passthrough), and what is cleared must not change it either
            copied: list[dict[str, Any]] = (
                _copied(messages) if messages is not None else [{"role": "user", "content": prompt}]
            )
            # without our output rail nothing judges the stream, and nothing waits for it
            judged = streaming is not None and "output" in host.stages
            turn = Turn(copied, transcripts.newest(copied), streaming=judged)
            for run in (streaming, checking):
                if run is not None:
                    run.turn = turn
            _use_own_cache(app)
            _use_own_adapters(app)
            current.set(turn)
            turn.explained = app._ensure_explain_info()
            try:
                await host.screen(turn, rails, checking=checking is not None)
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
            if checking is not None:
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

    tokens: list[tuple[ContextVar[Any], Any]] = [(each, each.set(None)) for each in (_streaming, _checking)]
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


# ---------------------------------------------------------------- the events that stand for messages


def _use_own_cache(app: LLMRails) -> None:
    # the server puts a plain dict in its place after loading
    if app.config.colang_version == "1.0" and not isinstance(app.events_history_cache, History):
        app.events_history_cache = History(keeps=_has_dialog(app))


def _has_dialog(app: LLMRails) -> bool:
    """Whether flows run in which earlier turns matter. Without any, their events are what the messages say."""
    own = (each for each in app.config.flows if not each.get("is_system_flow"))
    return bool(app.config.user_messages) or any(not str(each.get("id")).startswith("turnguard ") for each in own)


def _wrap_events(app: LLMRails, host: Host) -> None:
    original = app._get_events_for_messages

    def events_for(messages: list[dict[str, Any]], state: Any) -> list[Any]:
        turn = current.get()
        if turn is None:
            return original(messages, state)
        cache = app.events_history_cache
        tool_rails = "tool_result" in host.stages and _on(messages, "tool_input")
        replayed = transcripts.plain(messages, tool_rails=tool_rails, alone=host.alone)
        start = 0
        events: list[Any] = []
        if state is None and isinstance(cache, History):
            start, events, turn.key = cache.of(messages)
        rest = [message for index, message in replayed if index >= start]
        _keep_the_question(turn)
        return events + original(rest, state)

    app._get_events_for_messages = events_for


class _Fixed(dict[str, Any]):
    """A message that the engine cannot write into."""

    def __setitem__(self, key: str, value: Any) -> None:
        return


def _keep_the_question(turn: Turn) -> None:
    """With dialog flows in passthrough mode the engine writes what it takes as the user's message over the last one.

    That is right for a rewrite, which stands in the turn's own messages by then, and loses the question where tool
    results take the user's place.
    """
    if transcripts.trailing_tools(turn.messages):
        for index in range(len(turn.messages) - 1, -1, -1):
            if turn.messages[index].get("role") == "user":
                turn.messages[index] = _Fixed(turn.messages[index])
                return


def _on(messages: list[dict[str, Any]], rails: str) -> bool:
    """Whether the options, which the engine puts first as a context message, leave these rails on."""
    first = messages[0] if messages else {}
    options = first.get("content", {}).get("generation_options") if first.get("role") == "context" else None
    return not options or bool(options["rails"].get(rails, True))


def _replace_tool_flow(app: LLMRails, host: Host) -> None:
    """Put our flow over tool results in the place of the engine's, where our rail for them is listed."""
    flows = app.runtime.flow_configs
    ours = flows.pop(f"turnguard {_TOOL_FLOW}", None)
    if ours is not None and "tool_result" in host.stages:
        flows[_TOOL_FLOW] = replace(ours, id=_TOOL_FLOW)


_TOOL_FLOW = "process user tool messages"


# ---------------------------------------------------------------- check


def _wrap_check(app: LLMRails, host: Host) -> None:
    original = app.check_async

    async def check_async(messages: list[dict[str, Any]], rail_types: Any = None) -> Any:
        if rail_types is None and not any(message.get("role") in ("user", "assistant") for message in messages):
            return await _checked_alone(host, messages)
        run = _Run()
        token = _checking.set(run)
        messages = transcripts.ending_in_speech(messages)
        try:
            return _told(await original(messages, rail_types), run.turn, messages)
        finally:
            _checking.reset(token)

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


# ---------------------------------------------------------------- streaming


class _OnlyOthers:
    """The app as its streaming sees it: without our output rail, which has judged the text before that."""

    def __init__(self, app: LLMRails, others: list[str]) -> None:
        output = app.config.rails.output.model_copy(update={"flows": others})
        rails = app.config.rails.model_copy(update={"output": output})
        self.config = app.config.model_copy(update={"rails": rails})
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _wrap_streaming(app: LLMRails, host: Host) -> None:
    """Nothing reaches the engine's own streaming, or the caller, before our output rail has judged the text up to it.

    The engine runs the first action of a flow on each chunk and its latest neighbours alone, ignores rewrites, shows
    chunks first by default (`stream_first`), and in parallel shows them even when a rail fails (NeMo-Guardrails #588,
    #1192).
    """
    original_stream = app.stream_async

    def stream_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        token = _streaming.set(_Run())
        try:
            return original_stream(*args, **kwargs)  # makes its task here, with this context
        finally:
            _streaming.reset(token)

    app.stream_async = stream_async
    if "output" not in host.stages:
        return
    judges = type(app)._run_output_rails_in_streaming
    others = [flow for flow in app.config.rails.output.flows if flow not in host.first_flows]

    def run_output_rails(
        streaming_handler: AsyncIterator[Any],
        output_rails_streaming_config: Any,
        prompt: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        stream_first: bool | None = None,
    ) -> AsyncIterator[Any]:
        run = _streaming.get() or _Run()
        history = [dict(message) for message in messages or [{"role": "user", "content": prompt}]]

        async def judge(text: str) -> Decision:
            turn = Turn(history, transcripts.newest(history))
            (decision,) = await turn.judge(host.guard, (), [{"role": "assistant", "content": text}])
            return decision

        async def judged() -> AsyncIterator[Any]:
            released = Released(streaming_handler, _text_of, judge, host.guard.stream_settings)
            ended = False

            async def told() -> AsyncIterator[Any]:
                nonlocal ended
                async for chunk in released:
                    yield chunk
                ended = not released.withheld

            chunks: AsyncIterator[Any] = told()
            if others:
                chunks = judges(
                    _OnlyOthers(app, others), chunks, output_rails_streaming_config, prompt, messages, stream_first
                )
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                _ended(app, run.turn, passed=ended)
            if released.withheld and released.decision is not None:
                refusal = await host.refusal(released.decision)
                yield error_chunk(refusal, RAIL_OF["output"]) if host.exceptions else refusal

        return judged()

    app._run_output_rails_in_streaming = run_output_rails


def _ended(app: LLMRails, turn: Turn | None, *, passed: bool) -> None:
    """The stream of this turn is over. Unless all of it was judged and `passed`, nothing that the engine made of it
    stays, now or when its main model is done.
    """
    if turn is None:
        return
    if not passed:
        turn.stopped = True
        clear_explained(app, turn)
    elif turn.waiting is not None and turn.key is not None and isinstance(app.events_history_cache, History):
        app.events_history_cache.keep(turn.key, turn.waiting)
    turn.waiting = None


def _text_of(chunk: Any) -> str:
    text = chunk.get("text") if isinstance(chunk, dict) else chunk
    return text if isinstance(text, str) else ""


def error_chunk(message: str, rail: str) -> str:
    """The chunk by which NeMo's streams say that a rail blocked, with our message in it; NeMo's server knows it."""
    error = {"message": message, "type": "guardrails_violation", "param": rail, "code": "content_blocked"}
    return json.dumps({"error": error}, ensure_ascii=False)


# ---------------------------------------------------------------- refusing


async def show(message: str, stage: Stage, *, exceptions: bool) -> None:
    """Put the refusal into the stream, where there is one: events alone never reach it."""
    from nemoguardrails.context import streaming_handler_var

    handler = streaming_handler_var.get()
    if handler is not None:
        await handler.push_chunk(error_chunk(message, RAIL_OF[stage]) if exceptions else message)


def refusal_events(message: str, stage: Stage, *, exceptions: bool) -> list[dict[str, Any]]:
    """End the turn by events: a flow's own `bot ...` and `stop` let the main model answer after them in parallel
    rails.
    """
    name = stage.title().replace("_", "")
    told: dict[str, Any] = {"type": "StartUtteranceBotAction", "script": message}
    if exceptions:
        told = {"type": f"Turnguard{name}RailException", "message": message}
    # without the first one, the engine returns the very calls that were blocked
    none = [{"type": "StartToolCallBotAction", "tool_calls": []}] if stage == "tool_call" else []
    return [*none, told, {"type": "BotIntent", "intent": "stop"}]


# ---------------------------------------------------------------- knowledge


def _wrap_knowledge(app: LLMRails, host: Host) -> None:
    """Without dialog flows the engine searches its knowledge base while it writes the prompt, past every retrieval
    rail.
    """
    if "retrieval" not in host.stages or app.config.passthrough:
        return
    if app.config.user_messages:
        if app.config.docs and app.config.rails.dialog.single_call.enabled:
            raise ConfigError(
                "rails.dialog.single_call.enabled: with a knowledge base, NeMo writes its chunks into that one prompt "
                "before any retrieval rail runs: switch single_call off, or take the turnguard check retrieval rail out"
            )
        return
    flows = app.runtime.flow_configs
    flows[_INTENT] = replace(flows[f"turnguard {_INTENT}"], id=_INTENT)
    original = app._init_kb

    async def init_kb() -> None:
        await original()
        host.knowledge, app._kb = app._kb, None

    app._init_kb = init_kb


_INTENT = "generate user intent"


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
        return await self._adapter.transform_async(interaction_log)
