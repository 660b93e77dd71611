"""A conversation → steps: which parts are judged together, at which stage, and as an answer to which request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from turnguard.core.step import Image, Part, Stage, Step, Text
from turnguard.transcripts.message import Leaf, Reading


@dataclass(frozen=True, slots=True)
class Request:
    """What the person asked last: text, images, and their earlier turns, oldest first."""

    text: str | None = field(default=None, repr=False)
    images: tuple[Image, ...] = field(default=(), repr=False)
    earlier: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A step cut out of a message, and the positions of its parts in that message."""

    message: int
    indexes: tuple[int, ...]
    step: Step

    @property
    def where(self) -> list[tuple[int, int]]:
        """For each part of the step, where it stands."""
        return [(self.message, index) for index in self.indexes]


NOTHING_ASKED = Request()
"""The request at the beginning of every conversation: one object, so that it is recognised by identity."""


class Conversation:
    """Follows a conversation from its first message on. `history`: earlier turns judged together with the newest."""

    def __init__(self, history: int = 0, request: Request = NOTHING_ASKED) -> None:
        self._history = history
        self.request = request
        self._called: dict[str, str] = {}
        self._names: set[str] = set()

    def pieces(self, number: int, reading: Reading) -> list[Piece]:
        """The steps of the next message. A person's message becomes the request of what follows it."""
        found = list(self._cut(number, reading))
        self.skip(reading, next_request(self.request, reading, self._history))
        return found

    def skip(self, reading: Reading, request: Request) -> None:
        """Go past a message that is already known, to the request that follows it."""
        self.request = request
        for call in reading.calls:
            self._names.add(call.tool or "")
            if call.pair:
                self._called[call.pair] = call.tool or ""

    def called(self, reading: Reading) -> frozenset[str]:
        """The tools named on this message's results that were called before."""
        names = (leaf.block.part.text for leaf in reading.names if isinstance(leaf.block.part, Text))
        return frozenset(name for name in names if name in self._names)

    def _cut(self, number: int, reading: Reading) -> Iterator[Piece]:
        groups: dict[tuple[Stage, object], list[int]] = {}
        for index, leaf in enumerate(reading.leaves):
            if not self._is_judged_already(leaf, reading):
                groups.setdefault(self._group(index, leaf, reading), []).append(index)
        for (stage, _), indexes in groups.items():
            parts = tuple(reading.leaves[index].block.part for index in indexes)
            if any(not isinstance(part, Text) or part.text.strip() for part in parts):
                yield Piece(number, tuple(indexes), self._step(stage, parts, reading, reading.leaves[indexes[0]]))

    @staticmethod
    def _group(index: int, leaf: Leaf, reading: Reading) -> tuple[Stage, object]:
        """The stage of a part, and what tells the parts that are judged with it from others."""
        if reading.speaker == "tool":
            return "tool_result", None  # a call that stands in a result is text of the result like any other
        block = leaf.block
        if block.region == "call":
            return "tool_call", index
        if block.region == "result":
            return "tool_result", block.pair or ""
        return ("output" if reading.speaker == "assistant" else "input"), None

    def _is_judged_already(self, leaf: Leaf, reading: Reading) -> bool:
        """A tool's name on its result stands in the call as well, where it was judged."""
        return leaf in reading.names and isinstance(leaf.block.part, Text) and leaf.block.part.text in self._names

    def _step(self, stage: Stage, parts: tuple[Part, ...], reading: Reading, first: Leaf) -> Step:
        request = self.request
        if stage == "input":
            return Step("input", parts, history=request_history(request, self._history))
        if stage == "tool_result":
            pair = first.block.pair or reading.pair
            tool = first.block.tool or reading.tool or self._called.get(pair or "")
            return Step("tool_result", parts, prompt=request.text, tool=tool)
        tool = first.block.tool if stage == "tool_call" else None
        return Step(stage, parts, prompt=request.text, prompt_images=request.images, tool=tool)


def next_request(request: Request, reading: Reading, history: int) -> Request:
    """The request once this message was said as well; another one where a person asks for something in it."""
    text, images = reading.request() if reading.speaker == "person" else (None, ())
    if not (text or images):
        return request
    earlier = (*request.earlier, request.text or "")[-history:] if history else ()
    return Request(text, images, tuple(filter(None, earlier)))


def request_history(request: Request, history: int) -> tuple[str, ...]:
    """The earlier turns that are judged together with the next one."""
    said: Sequence[str] = (*request.earlier, request.text) if request.text else request.earlier
    return tuple(said[-history:]) if history else ()
