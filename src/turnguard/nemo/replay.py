"""What NeMo's engine replays, searches and runs in place of messages: wrappers around its private parts.

Past tool calls end its input rails, its event cache ignores pictures and keeps blocked turns, its flow over results
skips all but the first, and without dialog flows it searches its knowledge base past every retrieval rail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError
from turnguard.nemo import transcripts
from turnguard.nemo.history import History
from turnguard.nemo.host import Host
from turnguard.nemo.turn import Turn, current

if TYPE_CHECKING:
    from nemoguardrails import LLMRails


def use_own_cache(app: LLMRails) -> None:
    # the server puts a plain dict in its place after loading
    if app.config.colang_version == "1.0" and not isinstance(app.events_history_cache, History):
        app.events_history_cache = History(keeps=_has_dialog(app))


def _has_dialog(app: LLMRails) -> bool:
    """Whether flows run in which earlier turns matter. Without any, their events are what the messages say."""
    own = (each for each in app.config.flows if not each.get("is_system_flow"))
    return bool(app.config.user_messages) or any(not str(each.get("id")).startswith("turnguard ") for each in own)


def wrap_events(app: LLMRails, host: Host) -> None:
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


def replace_tool_flow(app: LLMRails, host: Host) -> None:
    """Put our flow over tool results in the place of the engine's, where our rail for them is listed."""
    flows = app.runtime.flow_configs
    ours = flows.pop(f"turnguard {_TOOL_FLOW}", None)
    if ours is not None and "tool_result" in host.stages:
        flows[_TOOL_FLOW] = replace(ours, id=_TOOL_FLOW)


_TOOL_FLOW = "process user tool messages"


def wrap_knowledge(app: LLMRails, host: Host) -> None:
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
