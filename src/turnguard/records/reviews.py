"""Steps that wait for a person: held, shown, answered exactly once, expired."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turnguard import telemetry
from turnguard.core.decision import Reason
from turnguard.core.errors import ConfigError, ReviewError, StoreError
from turnguard.core.review import Review, Status
from turnguard.core.taxonomy import MINOR
from turnguard.records.held import Held, Unholdable
from turnguard.records.shelf import Memory, Row, Shelf, now

if TYPE_CHECKING:
    from turnguard.config.settings import RecordsSettings, ReviewsSettings
    from turnguard.core.decision import Decision
    from turnguard.core.step import Step

log = logging.getLogger("turnguard.reviews")

UNKNOWN = "nothing is known of this review here: it may wait in another process's memory, or was erased"
LONGEST_NAME = 200
LONGEST_NOTE = 4_000
HOLDING_SECONDS = 5.0
"""How long a check waits for the database to hold its step."""
FIRST_LOOK, LONGEST_WAIT = 0.05, 1.0
"""Seconds between two looks for an answer: the first pause, and the longest."""


def open_reviews(records: RecordsSettings, settings: ReviewsSettings) -> Reviews:
    """The reviews in the database of `records`, opened when first used; without one in this process's memory."""
    if records.url is None:
        return Reviews(Memory(), settings)
    try:
        from turnguard.records.review_table import Table
    except ModuleNotFoundError as error:
        raise ConfigError(f"records.url needs {error.name}: pip install 'turnguard[records]'") from None

    return Reviews(Table(records), settings)


class Reviews:
    """The steps of one guard that wait for a person: in the database of `records`, else in this process's memory.

    An answer is given once; whoever comes second gets a `ReviewError`. What nobody answers within `ttl` is expired.
    """

    def __init__(self, shelf: Shelf, settings: ReviewsSettings) -> None:
        self._shelf = shelf
        self._ttl = int(settings.ttl * 1000)
        self.answers = settings.answers

    @property
    def stored(self) -> bool:
        """Whether they wait in a database, so that any process can answer."""
        return self._shelf.stored

    # ------------------------------------------------------------ holding

    async def held_for(self, step: Step, decision: Decision) -> Decision:
        """The decision with the name of its review. What a database should hold and cannot is blocked."""
        try:
            identity = await self.hold(step, decision)
        except (StoreError, ConfigError) as error:
            log.error("a review could not be held: %s", error)  # noqa: TRY400 - a sentence, without content
            telemetry.reviewed("not_held", decision.stage)
            identity = None
        if identity is not None or not self.stored:
            return replace(decision, review_id=identity)
        lost = Reason("failure", None, "reviews", "block", cause="the review cannot be held", failure="unavailable")
        reasons = (*decision.reasons, lost)
        outcome = replace(decision.outcome, action="block", reasons=reasons, failed=True, decisive=(lost,))
        return replace(decision, action="block", outcome=outcome, held=())

    async def hold(
        self, step: Step, decision: Decision, *, identity: str | None = None, extra: str | None = None
    ) -> str | None:
        """Keep a step until a person has answered, and name it; None where it cannot be kept as it is.

        A given `identity` that is known already is left as it is. So is a part of a transcript that is sent again: it
        has the same name each time. `extra` is a host's own state. Raises `StoreError`.
        """
        named = [name for judgement in decision.judgements for name in judgement.verdict.categories]
        if MINOR in named or MINOR in decision.categories:
            return None  # content of this category is never kept
        held = Held.of(step, decision, extra)
        try:
            async with asyncio.timeout(HOLDING_SECONDS):
                made = await asyncio.to_thread(self._put, held, identity, decision.where is not None)
        except TimeoutError:
            raise StoreError("the database is too slow to hold a review") from None
        telemetry.reviewed("held" if made else "not_held", held.stage)
        return made

    def _put(self, held: Held, identity: str | None, in_transcript: bool) -> str | None:
        try:
            content = held.dump()
            if identity is None:
                same = replace(held, decision="").dump()
                identity = self._shelf.digest(same) if in_transcript else uuid4().hex
        except (Unholdable, RecursionError):
            return None
        created = now()
        row = Row(
            id=identity,
            created=created,
            expires=created + self._ttl,
            digest=self._shelf.digest(content),
            record=_whole(held.decision),
            stage=held.stage,
            reasons=held.outcome.reasons,
            content=content,
            tenant=held.metadata.get("tenant"),
        )
        return identity if self._shelf.put(row) else None

    # ------------------------------------------------------------ looking

    async def get(self, identity: str) -> Review | None:
        """A review as it stands; None where nothing is known of it. Raises `StoreError`."""
        row = await asyncio.to_thread(self._row, identity)
        return None if row is None else _review(row)

    async def wait(self, identity: str, timeout: float) -> Review:  # noqa: ASYNC109 - a wait, not a limit
        """The same, once it is answered or `timeout` seconds have passed. Raises `ReviewError` where it is unknown."""
        if not isinstance(identity, str):
            raise TypeError("a review is named by a decision's review_id, and this decision has none")
        pause = FIRST_LOOK
        until = time.monotonic() + timeout
        while True:
            review = await self.get(identity)
            if review is None:
                raise ReviewError(UNKNOWN)
            left = until - time.monotonic()
            if review.status != "waiting" or left <= 0:
                return review
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_WAIT)

    async def find(
        self, status: Status | None = "waiting", *, tenant: str | None = None, limit: int = 1000
    ) -> list[Review]:
        """Reviews without their content, the newest first; None for every status. Raises `StoreError`."""
        return [_review(row) for row in await asyncio.to_thread(self._rows, status, tenant, limit)]

    async def show(self, identity: str, *, by: str) -> tuple[Review, Held]:
        """A review and its content, for a reviewer. That `by` looked is recorded. Raises `ReviewError`."""
        name = _name(by)

        def look() -> Row:
            row = self._known(identity)
            self._shelf.saw(row, name)
            return row

        row = await asyncio.to_thread(look)
        return _review(row), _held(row)

    async def held(self, identity: str) -> Held | None:
        """The content, for a host that goes on with it. Raises `StoreError`."""
        row = await asyncio.to_thread(self._row, identity)
        return None if row is None else _held(row)

    # ------------------------------------------------------------ answering

    async def approve(self, identity: str, *, by: str, note: str = "") -> Review:
        """Let the content pass. Raises `ReviewError` where it was answered, has expired or is not known."""
        return await asyncio.to_thread(self._answer, identity, "approved", by, note)

    async def reject(self, identity: str, *, by: str, note: str = "") -> Review:
        """Withhold the content for good. Raises `ReviewError` as `approve` does."""
        return await asyncio.to_thread(self._answer, identity, "rejected", by, note)

    def close(self) -> None:
        """Let go of the database's connections."""
        self._shelf.close()

    # ------------------------------------------------------------ in a thread

    def _row(self, identity: str) -> Row | None:
        row = self._shelf.get(identity)
        if row is not None and row.status == "waiting" and row.expires <= (at := now()):
            if self._shelf.change(row, "expired", at, note="nobody answered in time"):
                telemetry.reviewed("expired", row.stage)
            row = self._shelf.get(identity)
        return row

    def _rows(self, status: Status | None, tenant: str | None, limit: int) -> list[Row]:
        due = [row for row in self._shelf.rows("waiting", tenant, limit) if row.expires <= now()]
        for row in due:
            self._row(row.id)
        return list(self._shelf.rows(status, tenant, limit))

    def _known(self, identity: str) -> Row:
        row = self._row(identity)
        if row is None:
            raise ReviewError(UNKNOWN)
        return row

    def _answer(self, identity: str, status: Status, by: str, note: str) -> Review:
        name, said = _name(by), _note(note)
        row, at = self._known(identity), now()
        review = _review(replace(row, status=status, answered=at, by=name, note=said))
        if self._shelf.change(row, status, at, name, said):
            telemetry.reviewed(status, row.stage)
            return review
        row = self._known(identity)
        who = f" by {row.by}" if row.by else ""
        raise ReviewError(f"this review was answered already: {row.status}{who}")


def _review(row: Row) -> Review:
    return Review(
        id=row.id,
        status=row.status,
        stage=row.stage,
        decision=row.record,
        reasons=row.reasons,
        digest=row.digest,
        created=_time(row.created),
        expires=_time(row.expires),
        tenant=row.tenant,
        by=row.by,
        note=row.note,
        answered=None if row.answered is None else _time(row.answered),
        content=_held(row).parts if row.status == "approved" and row.content else (),
    )


def _held(row: Row) -> Held:
    if not row.content:
        raise ReviewError("the content of this review is gone")
    held = Held.load(row.content)
    if _whole(held.decision) != row.record:
        raise ReviewError("the content of this review belongs to another decision")
    return held


def _whole(decision: str) -> str:
    """The id of the record: parts that were decided one by one share that of their step."""
    return decision.partition("-")[0]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _name(by: Any) -> str:
    if not isinstance(by, str) or not by.strip() or not by.isprintable() or len(by) > LONGEST_NAME:
        raise ReviewError(f"an answer names who gives it, in one line of at most {LONGEST_NAME} characters")
    return by.strip()


def _note(note: Any) -> str | None:
    lines = note.splitlines() if isinstance(note, str) else [None]
    if any(line is None or not line.isprintable() for line in lines) or len(note) > LONGEST_NOTE:
        raise ReviewError(f"a note is text of at most {LONGEST_NOTE} characters")
    return note.strip() or None
