"""What a surface remembers between hooks: content that passed, and content that waits for a reviewer. Both are
bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import uuid4

from langchain_core.messages import BaseMessage, ToolMessage

from turnguard.core.decision import Decision
from turnguard.langchain.messages import Call
from turnguard.runtime.fork import watch

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PASSED = 50_000
HELD = 1_000


class Bounded(Generic[K, V]):
    """A mapping that forgets what was not touched for longest. Safe to share between threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        watch(self)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def get(self, key: K) -> V | None:
        """The value, now the newest; None when it is gone."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key]

    def put(self, key: K, value: V) -> None:
        """Keep a value; the oldest is dropped when there are too many."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._most:
                self._items.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget one."""
        self.take(key)

    def take(self, key: K) -> V | None:
        """The value, once: it is forgotten."""
        with self._lock:
            return self._items.pop(key, None)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Held:
    """What waits for a reviewer: a whole message (with answers to its calls that were blocked), or one call of a
    message.
    """

    decision: Decision
    message: BaseMessage | None = field(default=None, repr=False)
    answers: tuple[ToolMessage, ...] = field(default=(), repr=False)
    call: Call | None = field(default=None, repr=False)


class Holding(Bounded[str, Held]):
    """Held content under ids that cannot be guessed."""

    def __init__(self, most: int = HELD) -> None:
        super().__init__(most)

    def hold(self, held: Held) -> str:
        """Keep it and name it."""
        identity = uuid4().hex
        self.put(identity, held)
        return identity
