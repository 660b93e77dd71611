"""The events of past turns, in place of NeMo's own cache of them: that one knows no pictures, so that two chats with
equal texts share an entry, keeps blocked turns, and lets none go.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from turnguard.nemo.erase import clear_events
from turnguard.nemo.transcripts import Message, is_answer
from turnguard.nemo.turn import current

MOST_KEPT = 32_000_000
"""Characters of the events that are kept; the engine itself would keep them all. What several conversations share
counts for each.
"""


class History(dict[str, Any]):
    """What the engine takes for its cache: it finds nothing there, and what it writes is kept for us, by everything
    that the messages hold. Without `keeps` nothing is.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__()
        self.kept: OrderedDict[bytes, tuple[list[Any], int]] = OrderedDict()
        self._keeps = keeps
        self._size = 0

    def clear(self) -> None:
        """Forget all conversations."""
        super().clear()
        self.kept.clear()
        self._size = 0

    def __contains__(self, key: object) -> bool:
        return False

    def __setitem__(self, key: str, events: list[Any]) -> None:
        turn = current.get()
        if (
            not self._keeps
            or turn is None
            or turn.key is None
            or turn.withheld
            or turn.stopped
            or turn.refusal is not None
        ):
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
        said = "\n".join(str(script) for script in reversed(scripts))
        clear_events(events, turn)
        turn.key = _answered(turn.key, said)
        if turn.streaming:
            turn.waiting = events  # until the stream was judged to its end
        else:
            self.keep(turn.key, events)

    def keep(self, key: bytes, events: list[Any]) -> None:
        """Keep these; the oldest go."""
        size = _size(events)
        self._size += size - self.kept.pop(key, ([], 0))[1]
        self.kept[key] = events, size
        while self._size > MOST_KEPT:
            self._size -= self.kept.popitem(last=False)[1][1]

    def drop(self, key: bytes | None) -> None:
        """Forget one conversation."""
        if key is not None:
            self._size -= self.kept.pop(key, ([], 0))[1]

    def of(self, messages: Sequence[Message]) -> tuple[int, list[Any], bytes]:
        """How many of the messages have events here, those events, and the key of all the messages."""
        if not self._keeps:
            return 0, [], b""
        start = 0
        events: list[Any] = []
        running = hashlib.sha256()
        for index, message in enumerate(messages):
            if 0 < index < len(messages) - 1 and is_answer(message):
                kept = self.kept.get(_answered(running.digest(), message.get("content")))
                if kept is not None:
                    start, events = index + 1, list(kept[0])
            _feed(running, message)
        return start, events, running.digest()


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return 64 + sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 8


def _answered(key: bytes, said: Any) -> bytes:
    """The key of the messages that had this key, and an answer."""
    running = hashlib.sha256(key)
    _feed(running, said)
    return running.digest()


def _feed(running: Any, value: Any) -> None:
    """Take in everything that a message holds, pictures and tool calls too."""
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        running.update(b"s%d:" % len(encoded))
        running.update(encoded)
    elif isinstance(value, Mapping):
        running.update(b"{%d:" % len(value))
        for key in sorted(value, key=str):
            _feed(running, key)
            _feed(running, value[key])
    elif isinstance(value, (list, tuple)):
        running.update(b"[%d:" % len(value))
        for item in value:
            _feed(running, item)
    elif value is None or isinstance(value, (bool, int, float)):
        running.update(b"%s;" % repr(value).encode())
    else:
        running.update(os.urandom(32))  # two that differ may be written alike: nothing is found again by them
