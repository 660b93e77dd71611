"""What goes together in a transcript: the parts of one block, a call with its result, a signed block with its calls."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnguard.transcripts.message import CONTENT, Leaf, Reading
from turnguard.transcripts.read import plain

Place = tuple[int, int]
"""Message index and part index."""
Entry = tuple[int, "str | None", "int | None"]
"""A message, a field of it, and an element of that field: the block that a part belongs to."""

_SIGNATURES = frozenset({"signature", "thoughtSignature", "thought_signature", "reasoning_signature"})
_SEALED_TYPES = frozenset({"reasoning", "redacted_thinking", "compaction"})
_DEPTH = 4


def is_signed(block: Any, depth: int = 0) -> bool:
    """Whether a provider verifies this block: an edit would make every later request fail."""
    block = plain(block)
    if isinstance(block, Mapping):
        if str(block.get("type")) in _SEALED_TYPES and (block.get("encrypted_content") or block.get("data")):
            return True
        if any(block.get(key) for key in _SIGNATURES):
            return True
        return depth < _DEPTH and any(is_signed(item, depth + 1) for item in block.values())
    return isinstance(block, list) and depth < _DEPTH and any(is_signed(item, depth + 1) for item in block)


class Pairs:
    """Finds what must be dropped with a part."""

    def __init__(self, messages: Sequence[Any], readings: Sequence[Reading | None]) -> None:
        self._messages = [plain(message) for message in messages]
        self._readings = readings
        self._calls: dict[str, list[Entry]] = defaultdict(list)
        self._results: dict[str, list[Entry]] = defaultdict(list)
        self._pair: dict[Entry, str] = {}
        self._index()

    def entry(self, place: Place) -> Entry:
        """The block that holds a part."""
        leaf = self.leaf(place)
        return place[0], leaf.field, leaf.block.index

    def leaf(self, place: Place) -> Leaf:
        """The part with its place in the message."""
        reading = self._readings[place[0]]
        assert reading is not None  # noqa: S101 - only parts that were read have a place
        return reading.leaves[place[1]]

    def signed(self, entry: Entry) -> bool:
        """Whether the block is signed."""
        number, name, index = entry
        message = self._messages[number]
        if name is None:
            return is_signed(message)
        value = message.get(name) if isinstance(message, Mapping) else None
        if isinstance(value, (list, tuple)) and index is not None and 0 <= index < len(value):
            return is_signed(value[index])
        return isinstance(value, Mapping) and is_signed(value)

    def ran(self, entry: Entry) -> bool:
        """Return whether the provider ran the tool. Its result is then in an assistant message, beside the call."""
        reading = self._readings[entry[0]]
        return reading is not None and reading.speaker == "assistant"

    def together(self, entry: Entry) -> list[Entry]:
        """The block, and all that cannot stay without it, in order."""
        found: dict[Entry, None] = {}
        todo = [entry]
        while todo:
            current = todo.pop()
            if current in found:
                continue
            found[current] = None
            pair = self._pair.get(current)
            if pair is not None:
                todo += [*self._calls[pair], *self._results[pair]]
            if self.signed(current):
                todo += self._calls_after(current)
        return sorted(found, key=lambda each: (each[0], each[2] or 0))

    def orphans(self, dropped: Mapping[Entry, Any]) -> Iterator[Entry]:
        """Reasoning items all of whose calls and messages are dropped: they cannot stand alone."""
        for number, message in enumerate(self._messages):
            if not (isinstance(message, Mapping) and message.get("type") == "reasoning" and self._is_bare(number)):
                continue
            group = list(self._following(number))
            if group and all((each, None, None) in dropped for each in group):
                yield (number, None, None)

    # ------------------------------------------------------------ the index

    def _index(self) -> None:
        unnamed: deque[tuple[str, str]] = deque()
        for number, reading in enumerate(self._readings):
            for leaf in reading.leaves if reading is not None else ():
                entry = (number, leaf.field, leaf.block.index)
                if entry in self._pair:
                    continue
                if leaf.block.region == "call":
                    pair = leaf.block.pair
                    if pair is None:  # Gemini joins by order and by name
                        pair = f"{number}:{leaf.field}:{leaf.block.index}"
                        unnamed.append((leaf.block.tool or "", pair))
                    self._note(self._calls, pair, entry)
                    for mirror in self._mirrors(reading, leaf):
                        self._note(self._calls, pair, (number, mirror.field, mirror.block.index))
                elif leaf.block.region == "result" or (reading is not None and reading.speaker == "tool"):
                    pair = leaf.block.pair or (reading.pair if reading is not None else None)
                    if pair is None:
                        tool = leaf.block.tool or (reading.tool if reading is not None else None)
                        pair = _taken(unnamed, tool)
                    if pair is not None:
                        self._note(self._results, pair, entry)

    def _note(self, to: dict[str, list[Entry]], pair: str, entry: Entry) -> None:
        self._pair[entry] = pair
        to[pair].append(entry)

    @staticmethod
    def _mirrors(reading: Reading | None, leaf: Leaf) -> tuple[Leaf, ...]:
        return reading.mirrors.get(reading.leaves.index(leaf), ()) if reading is not None and reading.mirrors else ()

    def _calls_after(self, entry: Entry) -> list[Entry]:
        """The calls that a signed block belongs to: those behind it in its message, or behind a bare item."""
        number, name, index = entry
        if name is None:
            return [(each, None, None) for each in self._following(number)]
        reading = self._readings[number]
        if reading is None or name not in CONTENT or reading.speaker != "assistant":
            return []
        return [
            (number, leaf.field, leaf.block.index)
            for leaf in reading.leaves
            if leaf.block.region == "call"
            and (
                leaf.field != name or (leaf.block.index is not None and index is not None and leaf.block.index > index)
            )
        ]

    def _following(self, number: int) -> Iterator[int]:
        """The bare items behind a reasoning item that the model made with it."""
        message = self._messages[number]
        if not isinstance(message, Mapping) or message.get("type") != "reasoning":
            return
        for after in range(number + 1, len(self._messages)):
            message = self._messages[after]
            reading = self._readings[after]
            if reading is None or not self._is_bare(after) or reading.speaker != "assistant":
                return
            if message.get("type") == "reasoning":
                return
            yield after

    def _is_bare(self, number: int) -> bool:
        message = self._messages[number]
        return isinstance(message, Mapping) and "role" not in message


def _taken(unnamed: deque[tuple[str, str]], tool: str | None) -> str | None:
    """The first call without an identifier that this result may answer."""
    for call in unnamed:
        if tool is None or call[0] == tool:
            unnamed.remove(call)
            return call[1]
    return None
