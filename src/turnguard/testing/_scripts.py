"""What a fake says and how it fails, in which order: scripts are kept by the test's thread and read by the server's."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnguard.sandbox.wire import Answer, ChatRequest, Label

if TYPE_CHECKING:
    from turnguard.testing.faults import Fault

Matcher = str | bytes | Callable[[ChatRequest], bool]
"""Text that stands in the prompt or the response, an image's bytes (or their SHA-256 digest), or a predicate."""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing to say: labels, categories and P(unsafe), or any text (`raw`)."""

    user: Label | None = None
    response: Label | None = None
    categories: tuple[str, ...] = ()
    p: float | None = None
    p_response: float | None = None
    raw: str | None = None
    reasoning: str | None = None

    def to(self, chat: ChatRequest, match: Matcher | None) -> Answer | str:
        """The answer to a request. Without labels, what matched is unsafe on the side where it stands."""
        if self.raw is not None:
            return self.raw
        user, response = self.user, self.response
        if user is None and response is None and match is not None:
            user = "unsafe" if not isinstance(match, str) or match in chat.prompt else "safe"
            response = "unsafe" if isinstance(match, str) and match in (chat.response or "") else "safe"
        rated: Label | None = None if chat.response is None else response or "safe"
        p = self.p if self.user is not None or user == "unsafe" else None
        return Answer(user or "safe", rated, self.categories, p, self.p_response, self.reasoning)


@dataclass(slots=True)
class _Script:
    match: Matcher | None
    said: Said
    left: int | None


@dataclass(slots=True)
class _Planted:
    match: Matcher | None
    fault: Fault
    left: int | None
    probability: float


class Scripts:
    """The newest fitting rule, else the oldest queued reply, else the default; and the faults, oldest first."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - which request fails is no secret
        self._lock = threading.Lock()
        self._default = Said("safe")
        self._scripts: list[_Script] = []
        self._planted: list[_Planted] = []

    def by_default(self, said: Said) -> None:
        """Say this where nothing else fits."""
        self._default = said

    def add(self, match: Matcher | None, said: Said, times: int | None) -> None:
        """Say this where `match` fits (None: to whatever comes next), `times` times (None: for ever)."""
        with self._lock:
            self._scripts.append(_Script(match, said, times))

    def plant(self, fault: Fault, match: Matcher | None, times: int | None, probability: float) -> None:
        """Plant a fault."""
        with self._lock:
            self._planted.append(_Planted(match, fault, times, probability))

    def heal(self) -> None:
        """Take back the faults."""
        with self._lock:
            self._planted.clear()

    def forget(self) -> None:
        """Take back everything."""
        with self._lock:
            self._planted.clear()
            self._scripts.clear()
            self._default = Said("safe")

    def answer_to(self, chat: ChatRequest) -> Answer | str:
        """What to say to this request."""
        with self._lock:
            queued = [script for script in self._scripts if script.match is None]
            fitting = [s for s in reversed(self._scripts) if s.match is not None and _fits(s.match, chat)]
            if not (fitting or queued):
                return self._default.to(chat, None)
            chosen = (fitting or queued)[0]
            if chosen.left is not None:
                chosen.left -= 1
                if chosen.left <= 0:
                    self._scripts.remove(chosen)
        return chosen.said.to(chat, chosen.match)

    def fault_for(self, chat: ChatRequest | None) -> Fault | None:
        """The fault for this request. Those without a matcher strike before the body is read (`chat` None)."""
        with self._lock:
            for planted in self._planted:
                if (planted.match is None) != (chat is None):
                    continue
                if chat is not None and planted.match is not None and not _fits(planted.match, chat):
                    continue
                if planted.probability < 1.0 and self._random.random() >= planted.probability:
                    continue
                if planted.left is not None:
                    planted.left -= 1
                    if planted.left <= 0:
                        self._planted.remove(planted)
                return planted.fault
        return None


def _fits(match: Matcher, chat: ChatRequest) -> bool:
    if isinstance(match, str):
        return match in chat.prompt or match in (chat.response or "")
    if isinstance(match, bytes):
        return any(match in (image, hashlib.sha256(image).digest()) for image in chat.images)
    return match(chat)
