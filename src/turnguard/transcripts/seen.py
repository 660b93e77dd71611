"""Messages that were judged before, recognised without being read again.

A message is recognised by its very objects: the same mapping that still holds the same strings, compared by identity.
An equal message made of new objects is recognised by its role and text, or by one digest of its content. Either way it
must stand under the same request, and the moderator must still be the one that judged it; each policy and tenant has
entries of its own. Entries are held by the objects themselves, so that an `id` is never reused, and are bounded in
number, in bytes and in time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import date, timedelta
from datetime import time as clock
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from turnguard.core.decision import Decision
from turnguard.runtime.fork import watch
from turnguard.transcripts.conversation import Conversation, Request
from turnguard.transcripts.message import Reading

ENTRIES = 50_000
BYTES = 64_000_000
SECONDS = 3600.0
_DEPTH = 32
_EMPTY: dict[Any, Any] = {}
"""Stands in every copy for what is empty, so that a comparison reads less memory."""
_FIXED = (date, clock, timedelta, Decimal, UUID)
"""Values beside strings and numbers that cannot change: `date` covers `datetime`."""


class Unfreezable(Exception):
    """The message holds objects that can change without notice."""


@dataclass(slots=True)
class Judged:
    """One message with its decisions: under which request it stood, and the request that follows it."""

    message: Any
    frozen: Any
    reading: Reading
    decisions: tuple[Decision, ...]
    before: Request
    after: Request
    called: frozenset[str]
    judge: str
    until: float
    size: int
    content: Any
    scope: str
    number: int
    marked: bool = False

    def at(self, number: int) -> tuple[Decision, ...]:
        """The decisions for the message at this position, marked as remembered."""
        if not self.marked or number != self.number:
            self.decisions = tuple(_remembered(decision, number) for decision in self.decisions)
            self.number, self.marked = number, True
        return self.decisions


class Seen:
    """What one guard has judged, by message."""

    def __init__(self, entries: int = ENTRIES, max_bytes: int = BYTES, seconds: float = SECONDS) -> None:
        self._most, self._max_bytes, self._seconds = entries, max_bytes, seconds
        self._by_object: OrderedDict[tuple[int, str], Judged] = OrderedDict()
        self._by_content: dict[tuple[Any, str], Judged] = {}
        self._bytes = 0
        self._secret = os.urandom(32)
        self._lock = threading.Lock()
        watch(self)

    def find(self, message: Any, conversation: Conversation, judge: str, scope: str, now: float) -> Judged | None:
        """The entry for this message at this point of a conversation, at the time `now` (monotonic seconds).

        `judge` is what `Guard.identity` says, `scope` the digest of the policy with the tenant.
        """
        request = conversation.request
        entry = self._by_object.get((id(message), scope))
        try:
            # told by identity where the objects are the same, so that this costs nothing for what nobody has replaced
            held = entry is not None and entry.message is message and bool(message == entry.frozen)
        except Exception:  # noqa: BLE001 - what was put into it since may refuse to be compared
            held = False
        if not held:
            content = self._content(message)
            entry = self._by_content.get((content, scope)) if content is not None else None
        if entry is None or entry.judge != judge:
            return None
        if entry.reading.names and entry.called != conversation.called(entry.reading):
            return None
        if entry.before is not request and entry.before != request:
            return None
        if entry.until < now:
            self._drop(entry)
            return None
        return entry

    def keep(
        self,
        message: Any,
        reading: Reading,
        decisions: tuple[Decision, ...],
        before: Request,
        after: Request,
        judge: str,
        scope: str,
        *,
        called: frozenset[str],
    ) -> None:
        """Remember a message that was judged without a failure. One that holds changeable objects is not kept."""
        if not all(_is_final(decision) for decision in decisions):
            return
        number = next((decision.where[0] for decision in decisions if decision.where), 0)
        try:
            frozen, size = frozen_copy(message)
        except Unfreezable:
            return
        content = self._content(message)
        if content is None:
            return
        until = time.monotonic() + self._seconds
        entry = Judged(
            message, frozen, reading, decisions, before, after, called, judge, until, size, content, scope, number
        )
        with self._lock:
            for old in (self._by_object.get((id(message), scope)), self._by_content.get((content, scope))):
                if old is not None:
                    self._forget(old)
            self._by_object[id(message), scope] = entry
            self._by_content[content, scope] = entry
            self._bytes += size
            while len(self._by_object) > self._most or self._bytes > self._max_bytes:
                self._forget(next(iter(self._by_object.values())))

    def _drop(self, entry: Judged) -> None:
        with self._lock:
            self._forget(entry)

    def _forget(self, entry: Judged) -> None:
        if self._by_object.get((id(entry.message), entry.scope)) is entry:
            del self._by_object[id(entry.message), entry.scope]
            self._bytes -= entry.size
        if self._by_content.get((entry.content, entry.scope)) is entry:
            del self._by_content[entry.content, entry.scope]

    def _content(self, message: Any) -> Any:
        """What tells this message's content from any other: the strings of a plain one, else a digest."""
        if type(message) is dict and len(message) == 2:
            role, content = message.get("role"), message.get("content")
            if type(role) is str and type(content) is str:
                return role, content
        digest = blake2b(key=self._secret, digest_size=20)
        try:
            feed(digest, message, 0)
        except Unfreezable:
            return None
        return digest.digest()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def _is_final(decision: Decision) -> bool:
    """Return whether the same content would get the same decision again: no check failed, is waiting or was skipped."""
    if decision.action == "review" or decision.failed:
        return False
    verdicts = [judgement.verdict for judgement in decision.judgements]
    if any(verdict.failure is not None for verdict in verdicts):
        return False
    if any(verdict.looks is not None and verdict.looks.second.failure is not None for verdict in verdicts):
        return False  # the next look may succeed
    return not any(entry.counts and entry.kind != "encrypted" for entry in decision.coverage.not_judged)


def _remembered(decision: Decision, number: int) -> Decision:
    judgements = tuple(
        judgement
        if judgement.verdict.remembered
        else replace(judgement, verdict=replace(judgement.verdict, remembered=True))
        for judgement in decision.judgements
    )
    where = (number, decision.where[1]) if decision.where is not None else None
    return replace(decision, judgements=judgements, where=where)


# ---------------------------------------------------------------- the same objects, or the same content


def frozen_copy(value: Any, depth: int = 0) -> tuple[Any, int]:
    """A copy of the structure that holds the very strings, and how many bytes it holds."""
    if value is None or isinstance(value, (bool, int, float)):
        return value, 16
    if isinstance(value, (str, bytes)):
        return value, len(value) + 64
    if isinstance(value, _FIXED):
        return value, 64
    if depth > _DEPTH:
        raise Unfreezable
    if type(value) is dict:
        if not value:
            return _EMPTY, 64
        pairs = [(key, *frozen_copy(item, depth + 1)) for key, item in value.items()]
        return {key: item for key, item, _ in pairs}, 64 + sum(len(str(key)) + size for key, _, size in pairs)
    if type(value) in (list, tuple):
        items = [frozen_copy(item, depth + 1) for item in value]
        return type(value)(item for item, _ in items), 64 + sum(size for _, size in items)
    raise Unfreezable


def feed(digest: Any, value: Any, depth: int = 0) -> None:
    """Every value with its type and length, so that no two different contents feed the same bytes."""
    if isinstance(value, (str, bytes)):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        digest.update(b"%c%d:" % (115 if isinstance(value, str) else 98, len(data)))
        digest.update(data)
    elif value is None or isinstance(value, (bool, int, float)):
        shown = hex(value) if type(value) is int else repr(value)  # Python writes no long integer in decimal
        feed(digest, f"{type(value).__name__} {shown}", depth)
        digest.update(b"n")
    elif isinstance(value, _FIXED):
        feed(digest, [type(value).__name__, str(value)], depth)
    elif depth > _DEPTH:
        raise Unfreezable
    elif type(value) is dict:
        digest.update(b"{%d:" % len(value))
        for key, item in value.items():
            feed(digest, key, depth + 1)
            feed(digest, item, depth + 1)
    elif type(value) in (list, tuple):
        digest.update(b"[%d:" % len(value))
        for item in value:
            feed(digest, item, depth + 1)
    else:
        raise Unfreezable
