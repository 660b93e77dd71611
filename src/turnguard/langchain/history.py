"""What is known of a conversation's beginning, so that a step costs what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from langchain_core.messages import BaseMessage

from turnguard.runtime.caches import Cache
from turnguard.transcripts.conversation import NOTHING_ASKED, Request
from turnguard.transcripts.seen import Unfreezable, frozen_copy

CONVERSATIONS = 256
"""Conversations whose beginnings are recognised."""

_fields, _extras = attrgetter("__dict__"), attrgetter("__pydantic_extra__")


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first messages of a conversation, all of them judged, and the request that follows them.

    `frozen` are copies of what they held. They hold the very strings, and Python compares what is identical without
    looking at it. `changeable` are the positions of messages that hold other objects, which are read again.
    """

    messages: list[Any] = field(default_factory=list)
    frozen: list[Any] = field(default_factory=list)
    changeable: dict[int, Request] = field(default_factory=dict)
    after: Request = NOTHING_ASKED

    def and_then(self, messages: Sequence[Any], after: list[Request]) -> Beginning:
        """The same with more messages. `after`: for each, the request that follows it."""
        if not messages:
            return self
        copies = [_copied(message) for message in messages]
        start, before = len(self.frozen), [self.after, *after]
        more = {start + at: before[at] for at, copy in enumerate(copies) if copy is None}
        return Beginning([*self.messages, *messages], [*self.frozen, *copies], {**self.changeable, **more}, after[-1])


NOTHING_KNOWN = Beginning()


class History:
    """The beginnings of the conversations that one surface judges."""

    def __init__(self) -> None:
        self._known: Cache[str, Beginning] = Cache(CONVERSATIONS)

    def unchanged(self, messages: Sequence[Any]) -> Beginning:
        """As much of this conversation as was known the last time, where it holds the same now."""
        found = self._known.get(_first(messages)) if messages else None
        if found is None or len(found.frozen) > len(messages):
            return NOTHING_KNOWN
        known = messages[: len(found.frozen)]
        try:
            now, more = list(map(_fields, known)), list(map(_extras, known))
        except AttributeError:  # something that is no message
            return NOTHING_KNOWN
        for at in found.changeable:
            now[at] = more[at] = None
        return found if now == found.frozen and not any(more) else NOTHING_KNOWN

    def same(self, messages: Sequence[Any]) -> Beginning:
        """As much of this conversation as is made of the messages that were known the last time, unread."""
        found = self._known.get(_first(messages)) if messages else None
        same = found is not None and messages[: len(found.messages)] == found.messages
        return found if same and found is not None else NOTHING_KNOWN

    def keep(self, beginning: Beginning) -> None:
        """Recognise this beginning from now on."""
        if beginning.messages:
            self._known.put(_first(beginning.messages), beginning)


def _first(messages: Sequence[Any]) -> str:
    """What tells conversations apart: two of one name cost a look, and no more."""
    return str(getattr(messages[0], "id", None))


def _copied(message: Any) -> Any:
    """A copy of what a message holds; None where that may change unnoticed."""
    if not isinstance(message, BaseMessage) or message.model_extra:
        return None
    try:
        return frozen_copy(message.__dict__)[0]
    except Unfreezable:
        return None
