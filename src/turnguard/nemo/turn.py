"""What is known of the turn in progress: its messages, which of them are new, and what was decided.

A context variable carries it from the entry point into the rails' actions, also where NeMo runs those in tasks of
their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.decision import Decision
from turnguard.nemo import transcripts
from turnguard.transcripts.check import check_messages

if TYPE_CHECKING:
    from turnguard.guard import Guard

Message = dict[str, Any]


@dataclass(slots=True, eq=False)
class Turn:
    """One call of `generate_async`.

    `messages` is this turn's own copy and the very list that NeMo keeps as the raw request, so that what is rewritten
    in it is what the main model gets. `newest` are the indexes that the rails of this turn judge; what stands before
    them was judged before the engine saw it. `screened` withheld something of this very turn by then: every rail
    refuses. `looked` says whether the engine runs its rails on such a transcript at all.

    `refusal` is the message that ends the turn, `withheld` says that a rail withheld something, and `replaced` pairs
    withheld or rewritten content with what stands in its place, for clearing the engine's own records; `explained` is
    NeMo's record of the model calls. `stopped` says that its stream was withheld or left before all of it was judged;
    `waiting` are the events to keep once it was. `passthrough` holds what a `RunnableRails` returns in place of its
    runnable's own output. `heard` are the texts that an output rail of ours let pass.
    """

    messages: list[Message]
    newest: range
    streaming: bool = False
    screened: Decision | None = None
    looked: bool = True
    refusal: str | None = None
    rail: str | None = None
    withheld: bool = False
    replaced: list[tuple[Any, Any]] = field(default_factory=list)
    reasoning_withheld: str = ""
    key: bytes | None = None
    explained: Any = None
    stopped: bool = False
    waiting: list[Any] | None = None
    passthrough: tuple[Any, ...] = ()
    heard: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything of this turn was withheld or rewritten."""
        return bool(self.replaced or self.withheld or self.stopped or self.refusal is not None)

    def forget_words(self) -> None:
        """NeMo drops what the main model says beside its tool calls, and keeps it in its record, unjudged."""
        for call in reversed(self.explained.llm_calls if self.explained is not None else ()):
            if not (call.task or "").startswith("turnguard_"):
                call.completion, call.raw_response = "", None
                return

    def refuse(self, message: str, rail: str) -> None:
        """End the turn with this message, whatever the engine makes of it; the first refusal stands."""
        if self.refusal is None:
            self.refusal, self.rail = message, rail

    async def judge(self, guard: Guard, indexes: Iterable[int], said: Sequence[Message] = ()) -> list[Decision]:
        """Decide for these of the turn's messages, and for what was said in answer to them.

        The indexes of `said` continue those of `messages`.
        """
        wanted = {*indexes, *range(len(self.messages), len(self.messages) + len(said))}
        clients_write = not guard.checks.trusted_roles
        spoken = self.said
        read = [
            transcripts.judged_form(message, clients_write=clients_write, spoken=spoken) for message in self.messages
        ]
        return await check_messages(guard, [*read, *said], wanted)

    def pass_on(self, decisions: Iterable[Decision], removed: str) -> None:
        """Put what may be passed on in place of the messages that were decided about."""
        for index, decided in by_message(decisions).items():
            if index < len(self.messages):
                self.put(index, transcripts.passed_on(self.messages[index], decided, removed))

    def put(self, index: int, message: Message) -> None:
        """Replace a message, and remember its old content for clearing records."""
        old = self.messages[index]
        if message is not old:
            self.replaced.append((old.get("content"), message.get("content")))
            self.messages[index] = message

    @property
    def said(self) -> Any:
        """The content that the engine takes as the user's message."""
        return transcripts.spoken(self.messages)


def by_message(decisions: Iterable[Decision]) -> dict[int, dict[int, Decision]]:
    """Message index → part index → decision."""
    found: dict[int, dict[int, Decision]] = {}
    for decision in decisions:
        if decision.where is not None:
            found.setdefault(decision.where[0], {})[decision.where[1]] = decision
    return found


current: ContextVar[Turn | None] = ContextVar("turnguard_nemo_turn", default=None)
"""The turn of the call in progress; None outside `generate_async`, such as under NeMo's events API."""


@dataclass(slots=True, eq=False)
class Run:
    """A `stream_async` or `check_async` in progress, and the turn that it runs: its own, not those of actions in it."""

    turn: Turn | None = None


streaming: ContextVar[Run | None] = ContextVar("turnguard_nemo_streaming", default=None)
checking: ContextVar[Run | None] = ContextVar("turnguard_nemo_checking", default=None)


def turn_for(context: Mapping[str, Any] | None) -> Turn:
    """The turn in progress, or one made of what the engine's context holds."""
    turn = current.get()
    if turn is not None:
        return turn
    content = (context or {}).get("user_message") or (context or {}).get("last_user_message")
    messages: list[Message] = [{"role": "user", "content": content}] if content else []
    return Turn(messages, range(len(messages)))
