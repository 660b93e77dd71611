"""The events of past turns, in place of NeMo's own cache of them: that one knows no pictures, so that two chats with
equal texts share an entry, keeps blocked turns, and lets none go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from turnguard.nemo import transcripts
from turnguard.nemo.clearing import clear_events
from turnguard.nemo.turn import current

MOST_KEPT = 1000
"""Conversations whose events are kept; the engine itself would keep them all."""


class History(dict[str, Any]):
    """What the engine takes for its cache: it finds nothing there, and what it writes is kept for us, by everything
    that the messages hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: OrderedDict[bytes, list[Any]] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return False

    def __setitem__(self, key: str, events: list[Any]) -> None:
        turn = current.get()
        if turn is None or turn.key is None or turn.withheld or turn.stopped or turn.refusal is not None:
            return
        asked = max(
            (at for at, event in enumerate(events) if event["type"] == "UtteranceUserActionFinished"), default=0
        )
        scripts = [event["script"] for event in events[asked:] if event["type"] == "StartUtteranceBotAction"]
        if not scripts or any(event["type"] == "BotToolCalls" for event in events[asked:]):
            return
        said = "\n".join(str(script) for script in scripts)
        clear_events(events, turn)
        turn.key = transcripts.digests([{"after": turn.key.hex()}, {"role": "assistant", "content": said}])[-1]
        if turn.streaming:
            turn.waiting = events  # until the stream was judged to its end
        else:
            self.keep(turn.key, events)

    def keep(self, key: bytes, events: list[Any]) -> None:
        """Keep these; the oldest go."""
        self.kept[key] = events
        while len(self.kept) > MOST_KEPT:
            self.kept.popitem(last=False)

    def of(self, messages: Sequence[transcripts.Message]) -> tuple[int, list[Any]]:
        """How many of the messages have events here, and those events."""
        start = 0
        events: list[Any] = []
        for length, key in _prefixes(messages):
            if (kept := self.kept.get(key)) is not None:
                start, events = length, list(kept)
        return start, events


def _prefixes(messages: Sequence[transcripts.Message]) -> Iterator[tuple[int, bytes]]:
    """How many messages a prefix that ends with an answer holds, and its key."""
    found = transcripts.digests(messages)
    for index, message in enumerate(messages[:-1]):
        if index and transcripts.is_answer(message):
            after = {"after": found[index - 1].hex()}
            yield index + 1, transcripts.digests([after, {"role": "assistant", "content": message.get("content")}])[-1]
