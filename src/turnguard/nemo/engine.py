"""Every private part of NeMo's that the drop-in touches, each with the promise that it keeps.

The engine lets content pass unjudged, or keeps what was withheld, in ways that no flow can close. Each was seen in a
run, and a test names it. `SUPPORTED` are the versions that this was tested with.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nemoguardrails.exceptions import InvalidRailsConfigurationError

from turnguard.core.errors import ConfigError
from turnguard.nemo import answers
from turnguard.nemo.history import History, plain
from turnguard.nemo.host import Host
from turnguard.nemo.turn import Turn, current
from turnguard.runtime.fork import watch
from turnguard.telemetry import listening

if TYPE_CHECKING:
    from nemoguardrails import LLMRails


SUPPORTED = ((0, 24, 1), (0, 25))
_PARTS = (
    "_get_events_for_messages",
    "_run_output_rails_in_streaming",
    "_init_kb",
    "_validate_config",
    "events_history_cache",
    "runtime",
)


def require_known(app: LLMRails) -> None:
    """Raise `ConfigError` unless this is an engine that is known."""
    import nemoguardrails

    found = str(nemoguardrails.__version__)
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        raise ConfigError(
            f"Turnguard's rails were tested with nemoguardrails>=0.24.1,<0.25 and found {found}: they close holes in "
            "its engine by private parts. With another version take guarded() from turnguard.nemo, which needs none"
        )
    if missing := [name for name in _PARTS if not hasattr(app, name)]:
        raise ConfigError(
            f"this nemoguardrails has no {', '.join(missing)}: its engine is not the one that Turnguard knows"
        )


def adapt(app: LLMRails, host: Host) -> None:
    """Change what must be changed before the first turn."""
    if app.config.colang_version != "1.0":
        return
    _replay_plainly(app, host)
    _stream_past_ours(app, host)
    _judge_knowledge(app, host)
    _replace_tool_flow(app, host)
    _take_turns(app)


def prepared(app: LLMRails) -> Any:
    """Change what the server or a tracing adapter may have put in place since; NeMo's record of this turn's calls."""
    # the server puts a plain dict in its place after loading
    if app.config.colang_version == "1.0" and not isinstance(app.events_history_cache, History):
        app.events_history_cache = History(keeps=_has_dialog(app))
    adapters = app._log_adapters
    if adapters and not isinstance(adapters[0], _Cleared):
        app._log_adapters = [_Cleared(adapter) for adapter in adapters]
    return app._ensure_explain_info()


# ---------------------------------------------------------------- loading


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


# ---------------------------------------------------------------- what the engine replays


def _replay_plainly(app: LLMRails, host: Host) -> None:
    """Input rails run behind a past tool call, which would end them, and past turns are looked up by all they hold."""
    original = app._get_events_for_messages

    def events_for(messages: list[dict[str, Any]], state: Any) -> list[Any]:
        turn = current.get()
        if turn is None:
            return original(messages, state)
        start, cache = 0, app.events_history_cache
        events: list[Any] = []
        if state is None and isinstance(cache, History):
            start, events, turn.key = cache.of(messages)
        tools = "tool_result" in host.stages and _leaves_on(messages, "tool_input")
        replayed = plain(messages, tool_rails=tools, alone=host.alone)
        return events + original([message for index, message in replayed if index >= start], state)

    app._get_events_for_messages = events_for


def _leaves_on(messages: list[dict[str, Any]], rails: str) -> bool:
    """Whether the options, which the engine puts first as a context message, leave these rails on."""
    first = messages[0] if messages else {}
    options = first.get("content", {}).get("generation_options") if first.get("role") == "context" else None
    return not options or bool(options["rails"].get(rails, True))


def _has_dialog(app: LLMRails) -> bool:
    """Whether flows run in which earlier turns matter. Without any, their events are what the messages say."""
    own = (each for each in app.config.flows if not each.get("is_system_flow"))
    return bool(app.config.user_messages) or any(not str(each.get("id")).startswith("turnguard ") for each in own)


def keep_events(app: LLMRails, turn: Turn) -> None:
    """Keep the events of a stream that was judged to its end, and of no turn that was withheld."""
    cache = app.events_history_cache
    if isinstance(cache, History) and turn.key is not None:
        if turn.stopped or turn.refusal is not None:
            cache.kept.take(turn.key)
        elif turn.waiting is not None:
            cache.kept.put(turn.key, turn.waiting)
    turn.waiting = None


# ---------------------------------------------------------------- streams


class _OnlyOthers:
    """The app as its streaming sees it: without our output rails."""

    def __init__(self, app: LLMRails, others: Sequence[str]) -> None:
        output = app.config.rails.output.model_copy(update={"flows": list(others)})
        rails = app.config.rails.model_copy(update={"output": output})
        self.config = app.config.model_copy(update={"rails": rails})
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _stream_past_ours(app: LLMRails, host: Host) -> None:
    """Streams are judged around the engine, with all that was said before.

    The engine runs the first action of a rail on each chunk and its latest neighbours alone, ignores rewrites, and in
    parallel shows chunks even when a rail fails (NeMo-Guardrails #588, #1192).
    """
    judges = type(app)._run_output_rails_in_streaming

    def run_output_rails(streaming_handler: Any, *args: Any, **kwargs: Any) -> Any:
        if not host.late:
            return streaming_handler
        return judges(_OnlyOthers(app, host.late), streaming_handler, *args, **kwargs)

    if "output" in host.stages:
        app._run_output_rails_in_streaming = run_output_rails


# ---------------------------------------------------------------- flows and knowledge

_TOOL_FLOW = "process user tool messages"
_INTENT = "generate user intent"


def _replace_tool_flow(app: LLMRails, host: Host) -> None:
    """Every tool result is shown to every tool rail, and the turn goes on: the engine's flow does neither."""
    flows = app.runtime.flow_configs
    ours = flows.pop(f"turnguard {_TOOL_FLOW}", None)
    if ours is not None and "tool_result" in host.stages:
        flows[_TOOL_FLOW] = replace(ours, id=_TOOL_FLOW)


def _judge_knowledge(app: LLMRails, host: Host) -> None:
    """Without dialog flows the engine searches its knowledge base while it writes the prompt, past retrieval rails."""
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


def _take_turns(app: LLMRails) -> None:
    compute = app.runtime._compute_next_steps

    async def compute_next_steps(*args: Any, **kwargs: Any) -> Any:
        with _engines.lock:  # the engine awaits nothing there
            return await compute(*args, **kwargs)

    app.runtime._compute_next_steps = compute_next_steps


# ---------------------------------------------------------------- records


def clear_explained(app: LLMRails, turn: Turn) -> None:
    """NeMo's record of the turn's model calls holds no text of what was withheld.

    With several turns at once, the conversation that it writes down at the end can stand in another's record.
    """
    if turn.explained is not None:
        answers.forget_calls(turn.explained.llm_calls)
    for explained in (turn.explained, app._explain_info):
        if explained is not None:
            explained.colang_history = None


class _Cleared:
    """A tracing adapter that is shown no content of a turn in which something was withheld, rewritten, or streams.

    The engine exports a turn before it returns it, and so before it can be cleared.
    """

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def __aenter__(self) -> Any:
        return await self._adapter.__aenter__()

    async def __aexit__(self, *raised: object) -> Any:
        return await self._adapter.__aexit__(*raised)

    async def transform_async(self, log: Any) -> Any:
        turn = current.get()
        if turn is not None and (turn.streaming or turn.changed):
            rails = [rail.model_copy(update={"executed_actions": []}) for rail in log.activated_rails]
            log = log.model_copy(update={"activated_rails": rails, "events": []})
            for span in log.trace:
                for event in getattr(span, "events", None) or ():
                    event.body.pop("content", None)
                if getattr(span, "action_params", None):
                    span.action_params = {}
        if listening():  # Turnguard's own spans show these calls
            others = [span for span in log.trace if not span.name.startswith("turnguard_check_")]
            log = log.model_copy(update={"trace": others})
        return await self._adapter.transform_async(log)
