"""What an `LLMRails` replays of a conversation: its messages made plain, or the events that past turns left."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from turnguard.nemo.requests import Message, exchanged, is_answer, is_tool, spoken, trailing_tools
from turnguard.nemo.turn import current
from turnguard.runtime.caches import Cache
from turnguard.transcripts.seen import Unfreezable, feed

MOST_KEPT = 32_000_000
"""Characters of the events that are kept; the engine itself would keep them all. What several conversations share
counts for each.
"""


class History(dict[str, Any]):
    """What the engine takes for its cache of events, which knows no pictures, keeps blocked turns, and lets none go.

    The engine finds nothing here, and what it writes is kept for us, by everything that the messages hold. Without
    `keeps` nothing is.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__()
        self.kept: Cache[bytes, list[Any]] = Cache(weight=MOST_KEPT, weigh=size)
        self._keeps = keeps

    def clear(self) -> None:
        """Forget all conversations."""
        self.kept.clear()

    def __contains__(self, key: object) -> bool:
        return False

    def __setitem__(self, key: str, events: list[Any]) -> None:
        turn = current.get()
        if not self._keeps or turn is None or turn.key is None or turn.stopped or turn.refusal is not None:
            return
        scripts: list[Any] = []
        for event in reversed(events):
            kind = event["type"]
            if kind == "BotToolCalls":
                return
            if kind == "StartUtteranceBotAction":
                scripts.append(event["script"])
            elif kind == "UtteranceUserActionFinished":
                break  # what stands before it is of earlier turns
        if not scripts:
            return
        for old, new in turn.pairs:
            events = exchanged(events, old, new)
        turn.key = _key(turn.key, "\n".join(str(script) for script in reversed(scripts)))
        if turn.streaming:
            turn.waiting = events  # until the stream was judged to its end
        else:
            self.kept.put(turn.key, events)

    def of(self, messages: Sequence[Message]) -> tuple[int, list[Any], bytes]:
        """How many of the messages have events here, those events, and the key of all the messages."""
        start, events, key = 0, [], b""
        for index, message in enumerate(messages if self._keeps else ()):
            if 0 < index < len(messages) - 1 and is_answer(message):
                kept = self.kept.get(_key(key, message.get("content")))
                if kept is not None:
                    start, events = index + 1, list(kept)
            key = _key(key, message)
        return start, events, key


def size(value: Any) -> int:
    """Characters that a structure holds, roughly."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return 64 + sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, (list, tuple)) else 8


def _key(before: bytes, value: Any) -> bytes:
    """The key of what has the key `before`, and of this behind it."""
    digest = blake2b(before, digest_size=20)
    try:
        feed(digest, dict(value) if isinstance(value, Mapping) else value)
    except Unfreezable:
        digest.update(os.urandom(32))  # two that differ may be written alike: nothing is found again by them
    return digest.digest()


def plain(messages: Sequence[Message], *, tool_rails: bool, alone: bool) -> list[tuple[int, Message]]:
    """What the engine replays, each with the index of the message that it stands for.

    Past tool calls become plain assistant text and past tool results go: either would end the engine's input rails.
    Results at the end become the event of the tool rails, where ours is among them. Else they become a user message for
    our input rail, if that stands `alone`: no rail of others judges results as if a person had said them.
    """
    tools = trailing_tools(messages)
    replayed: list[tuple[int, Message]] = []
    for index, message in enumerate(messages):
        if index not in tools and not is_tool(message):
            replayed.append((index, _plain(message, closes=index == len(messages) - 1)))
    if tools and tool_rails:
        results = [
            {
                "content": messages[index].get("content"),
                "name": messages[index].get("name", "unknown"),
                "tool_call_id": messages[index].get("tool_call_id", ""),
            }
            for index in tools
        ]
        event = {"type": "UserToolMessages", "tool_messages": results}
        replayed.append((tools[0], {"role": "event", "event": event}))
    elif tools and alone:
        replayed.append((tools[0], {"role": "user", "content": spoken(messages)}))
    else:
        replayed += [(index, {**messages[index], "role": "tool"}) for index in tools]
    return replayed


def _plain(message: Message, *, closes: bool) -> Message:
    if message.get("tool_calls"):
        return message if closes else {"role": "assistant", "content": message.get("content") or "[called a tool]"}
    if message.get("role") == "assistant" and message.get("content") is None:
        return {**message, "content": message.get("refusal") or ""}
    return message
