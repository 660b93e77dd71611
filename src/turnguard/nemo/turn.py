"""One turn: what was asked, how it was judged, and what became of it inside an engine that runs our rails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from turnguard.nemo.requests import Judge, Judged, spoken


@dataclass(slots=True, eq=False)
class Turn:
    """A request as it was judged. `call` holds what the engine is called with, `refusal` what is answered instead.

    The rest is of rails inside an engine. `streaming` says which call runs it; `judged_before` is false where they run
    without one of ours. `told`: a flow has been told of the refusal; `ended`: a rail of ours has ended the turn with
    it; `stopped`: not all of it was judged to its end. `heard` are the texts that such a rail let pass, `pairs` what
    one has rewritten, old and new, for clearing the engine's records. `key` and `waiting` are for the events to keep,
    `explained` is NeMo's record of the calls; `uncounted`: it has not been told of those that judged the request.
    """

    asked: dict[str, Any]
    judged: Judged
    call: dict[str, Any]
    judge: Judge
    refusal: str | None = None
    streaming: bool = False
    judged_before: bool = True
    told: bool = False
    ended: bool = False
    uncounted: bool = True
    stopped: bool = False
    heard: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    key: bytes | None = None
    waiting: list[Any] | None = None
    explained: Any = None

    @property
    def changed(self) -> bool:
        """Whether anything that was said in this turn was withheld or rewritten."""
        return bool(self.pairs or self.ended or self.stopped or self.refusal is not None)

    @property
    def said(self) -> Any:
        """The content that the engine takes as the user's message."""
        return spoken(self.judged.messages)

    def forget_words(self) -> None:
        """NeMo drops what the main model says beside its tool calls, and keeps it in its record, unjudged."""
        for call in reversed(self.explained.llm_calls if self.explained is not None else ()):
            if not (call.task or "").startswith("turnguard_"):
                call.completion, call.raw_response = "", None
                return

    def refuse(self, message: str) -> None:
        """End the turn with this message; the first refusal stands."""
        self.refusal = self.refusal or message
        self.ended = True


current: ContextVar[Turn | None] = ContextVar("turnguard_nemo_turn", default=None)
"""The turn that an engine is running."""
entered: ContextVar[tuple[Any, Turn] | None] = ContextVar("turnguard_nemo_entered", default=None)
"""The engine and the turn of a stream or check that has yet to reach the engine's own `generate_async`."""


@contextmanager
def without(*variables: ContextVar[Any]) -> Iterator[None]:
    """Run what an action calls inside another's turn as a turn of its own."""
    tokens = [(variable, variable.set(None)) for variable in variables]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)
