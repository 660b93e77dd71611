"""NeMo's streams with our output rail before everything else, and refusals that reach them.

The engine judges chunks without what came before them, ignores rewrites, and shows chunks first by default.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from turnguard.checking.stream import Released
from turnguard.core.decision import Decision
from turnguard.core.step import Stage
from turnguard.nemo import transcripts
from turnguard.nemo.erase import clear_explained
from turnguard.nemo.history import History
from turnguard.nemo.host import RAIL_OF, Host
from turnguard.nemo.turn import Run, Turn, streaming

if TYPE_CHECKING:
    from nemoguardrails import LLMRails


class _OnlyOthers:
    """The app as its streaming sees it: without our output rail, which has judged the text before that."""

    def __init__(self, app: LLMRails, others: list[str]) -> None:
        output = app.config.rails.output.model_copy(update={"flows": others})
        rails = app.config.rails.model_copy(update={"output": output})
        self.config = app.config.model_copy(update={"rails": rails})
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def wrap_streaming(app: LLMRails, host: Host) -> None:
    """Nothing reaches the engine's own streaming, or the caller, before our output rail has judged the text up to it.

    The engine runs the first action of a flow on each chunk and its latest neighbours alone, ignores rewrites, shows
    chunks first by default (`stream_first`), and in parallel shows them even when a rail fails (NeMo-Guardrails #588,
    #1192).
    """
    original_stream = app.stream_async

    def stream_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        token = streaming.set(Run())
        try:
            return original_stream(*args, **kwargs)  # makes its task here, with this context
        finally:
            streaming.reset(token)

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
        run = streaming.get() or Run()
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
