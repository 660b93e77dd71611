"""What a surface can do with a message, and what was ruled on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from turnguard.core.decision import Decision
from turnguard.transcripts.conversation import Request


@dataclass(frozen=True, slots=True)
class Surface:
    """What a surface can do with a message, and what it knows of it.

    `reviewable`: it can wait for a person. `refuse_calls`: a withheld call refuses the whole message (a chain has no
    loop that could go on). `structured`: names of the calls that are the answer itself; `parsed`: so is a message
    without calls. `tools`: the names that tools have.
    """

    reviewable: bool = False
    refuse_calls: bool = False
    structured: frozenset[str] = frozenset()
    parsed: bool = False
    tools: frozenset[str] | None = None


ALONE = Surface()
"""Knows nothing of the message, and can wait for nobody."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What stands in a message's place. `message` is the same object where nothing changed.

    `decisions` are those other than allow. `ended` withheld the message as a whole. `answers` go after it, to calls
    that will not run. `held` names it in the holding while it waits for a reviewer. `refusal` is what the person is
    told. `unsure`: some of it passed because it could not be checked.
    """

    message: Any
    decisions: tuple[Decision, ...] = ()
    ended: Decision | None = None
    answers: tuple[ToolMessage, ...] = ()
    held: str | None = None
    refusal: str = ""
    unsure: bool = False

    @property
    def messages(self) -> list[BaseMessage]:
        """All that goes into the conversation."""
        return [self.message, *self.answers]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a conversation that was not judged yet, and the request that it stands under."""

    at: int
    message: BaseMessage
    request: Request
