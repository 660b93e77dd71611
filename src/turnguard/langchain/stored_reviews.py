"""Reviews in the guard's database: what was asked in one process can be answered anywhere, and gone on with in another.

`reviews.answers` says whose answer counts. Under `store` a run may be resumed with anything: it pauses again until
somebody has answered. An answer of the host, under `host` and `either`, is entered in the database first, so that there
too each review is answered once.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Protocol

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from turnguard.core.errors import ConfigError, ReviewError, StoreError
from turnguard.core.step import Step, ToolCall
from turnguard.langchain import notices
from turnguard.langchain.held import HELD, Held, Holding
from turnguard.langchain.rulings import Ruling
from turnguard.records import Reviews
from turnguard.records.held import Held as Kept
from turnguard.records.held import Unholdable
from turnguard.runtime.caches import Cache
from turnguard.runtime.surroundings import placed

HOST = "the host of the run"
"""Who answered, where the run was resumed with decisions."""
REJECT: Mapping[str, Any] = {"type": "reject"}


def name_of(subject: bytes) -> str:
    """The name of a review of this subject, in every process."""
    return blake2b(subject, digest_size=16).hexdigest()


_serde = JsonPlusSerializer(pickle_fallback=False)  # what a checkpointer writes messages with
log = logging.getLogger("turnguard.reviews")


class Question(Protocol):
    """What a person is asked."""

    @property
    def identity(self) -> str:
        """The name of the review."""

    @property
    def prompt(self) -> str | None:
        """The request that the content answers."""

    @property
    def held(self) -> Held | None:
        """What waits; None where it is lost."""


class StoredReviews:
    """The reviews of one surface, in the database. `holding` is what this process holds."""

    def __init__(self, reviews: Reviews, holding: Holding) -> None:
        self._reviews = reviews
        self._holding = holding
        self._made: Cache[str, bool] = Cache(HELD)

    async def keep(self, question: Question) -> bool | None:
        """Put what a question is about into the database: True where it is new there, False where it was asked about
        before, None where it cannot be kept. What was asked about waits on while the database is away.
        """
        try:
            if await self._reviews.get(question.identity) is not None:
                return False
            if question.held is None:
                return None
            step, extra = self._kept(question.held, question.prompt)
            decision = question.held.decision
            made = await self._reviews.hold(step, decision, identity=question.identity, extra=extra)
        except (StoreError, ConfigError, ReviewError, Unholdable, TypeError, ValueError) as error:
            log.error("a review could not be held: %s", type(error).__name__)  # noqa: TRY400 - no content
            asked = question.held is None or question.identity in self._made
            return False if asked and isinstance(error, StoreError) else None
        if made:
            self._made.put(question.identity, True)
        return True if made else None

    async def restore(self, identity: str) -> None:
        """Hold here what another process asked about."""
        try:
            kept = await self._reviews.held(identity)
        except (StoreError, ConfigError, ReviewError) as error:
            log.error("a review could not be read: %s", error)  # noqa: TRY400 - a sentence, without content
            return
        if kept is not None and kept.extra is not None:
            self._holding.put(identity, self._held(kept))

    def named(self, ruling: Ruling, subject: bytes) -> Ruling:
        """The ruling with what it holds named after its content: another process that runs the node again names it so,
        too.
        """
        message = self._marked(ruling.message, subject)
        return replace(ruling, message=message, held=notices.marked(message).get("held"))

    def _marked(self, message: Any, subject: bytes) -> Any:
        mark = dict(notices.marked(message))
        if isinstance(held := mark.get("held"), str):
            mark["held"] = self._moved(held, subject, b"held")
        if isinstance(calls := mark.get("calls"), Mapping):
            mark["calls"] = {call: self._moved(name, subject, call.encode()) for call, name in calls.items()}
        return message.model_copy(update={"response_metadata": {**message.response_metadata, notices.KEY: mark}})

    def _moved(self, name: str, subject: bytes, part: bytes) -> str:
        held = self._holding.take(name)
        new = name_of(subject + b"\0" + part)
        if held is not None:
            inside = held.message is not None and bool(notices.waiting_calls(held.message))
            self._holding.put(new, replace(held, message=self._marked(held.message, subject)) if inside else held)
        return new

    async def answers(
        self, questions: Sequence[Question], given: Any, *, asked: bool
    ) -> list[Mapping[str, Any]] | None:
        """The decisions on questions, in LangChain's form; None while any waits. `given` is what the run was resumed
        with, and `asked` whether these were the questions.
        """
        mode = self._reviews.answers
        if mode == "store" or (mode == "either" and not isinstance(given, list)):
            found = [await self._stored(one.identity) for one in questions]
            return None if None in found else [one for one in found if one is not None]
        listed = given if isinstance(given, list) and asked else []
        padded = [*listed, *[REJECT] * len(questions)]
        return [await self._entered(one.identity, said) for one, said in zip(questions, padded, strict=False)]

    async def _stored(self, identity: str) -> Mapping[str, Any] | None:
        try:
            review = await self._reviews.get(identity)
        except StoreError as error:
            log.error("a review could not be read: %s", error)  # noqa: TRY400 - it waits on
            return None
        except (ConfigError, ReviewError):
            return REJECT
        if review is None:
            return REJECT
        if review.status == "waiting":
            return None
        return {"type": "approve"} if review.status == "approved" else {"type": "reject", "message": review.note}

    async def _entered(self, identity: str, said: Any) -> Mapping[str, Any]:
        """A host's decision, where nobody else answered before."""
        decision = said if isinstance(said, Mapping) else REJECT
        kind = decision.get("type")
        try:
            if kind == "approve":
                await self._reviews.approve(identity, by=HOST)
            else:
                await self._reviews.reject(identity, by=HOST, note="" if kind == "reject" else f"{kind}"[:20])
        except ReviewError:
            review = await self._reviews.get(identity)
            if review is None or review.by != HOST:  # the same answer comes again whenever the node runs again
                return await self._stored(identity) or REJECT
        except (StoreError, ConfigError):
            return REJECT
        return decision

    # ------------------------------------------------------------ what is kept

    def _kept(self, held: Held, prompt: str | None) -> tuple[Step, str]:
        """What a reviewer sees, and what a run needs to go on: the message or the call, and the calls of the message
        that wait behind it. It belongs to whom the run belongs to, as a record does.
        """
        call = held.call
        state = {
            "message": held.message,
            "answers": list(held.answers),
            "call": None if call is None else {"name": call.name, "arguments": call.arguments, "id": call.id},
        }
        kind, data = _serde.dumps_typed(state)
        behind = {}
        for name in notices.waiting_calls(held.message):
            if (one := self._holding.get(name)) is not None:
                step, extra = self._kept(one, prompt)
                behind[name] = Kept.of(step, one.decision, extra).dump().decode()
        extra = json.dumps({"kind": kind, "state": base64.b64encode(data).decode("ascii"), "calls": behind})
        stage, parts = held.decision.stage, held.decision.held
        return placed(Step(stage, parts, prompt=prompt), ()), extra

    def _held(self, kept: Kept) -> Held:
        extra = json.loads(kept.extra or "{}")
        state = _serde.loads_typed((extra["kind"], base64.b64decode(extra["state"])))
        for name, inside in extra["calls"].items():
            self._holding.put(name, self._held(Kept.load(inside.encode())))
        call = None if state["call"] is None else ToolCall(**state["call"])
        return Held(kept.as_decision(), state["message"], tuple(state["answers"]), call)
