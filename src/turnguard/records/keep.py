"""What is done with a finished decision: a line of the audit file, a row of the database."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from turnguard.core.errors import StoreError
from turnguard.records.audit import Audit

if TYPE_CHECKING:
    from turnguard.config.settings import AuditSettings, RecordsSettings
    from turnguard.core.decision import Decision
    from turnguard.core.policy import Policy
    from turnguard.core.step import Part, Step
    from turnguard.records.writer import Writer

MOST_POLICIES = 256
GRACE = 0.25
"""Seconds that a required record is given, however little of the check's deadline is left."""

log = logging.getLogger("turnguard.records")


class Kept:
    """Writes the decisions of one guard to its audit file and its database. `family` is its moderator's model family.

    Raises `ConfigError` if a required audit path cannot be written or the database has another schema version, and
    `StoreError` if a required database cannot be used. A database that is not required and is down is retried in the
    background.
    """

    def __init__(
        self,
        audit: AuditSettings,
        records: RecordsSettings,
        family: str,
        policy: Policy,
        policies: Mapping[str, Policy],
    ) -> None:
        self.audit = Audit(audit) if audit.path is not None else None
        self.writer: Writer | None = None
        self._settings = records
        self._family = family
        self._editions: dict[int, tuple[Policy, str]] = {}
        if records.url is not None:
            from turnguard.records import writer

            self.writer = writer.shared(records)
            self._edition(policy)
            for name, other in policies.items():
                self._edition(other, name)
            try:
                self.writer.open()
            except StoreError as error:
                if records.required:
                    raise
                log.error("%s; records wait until it can be used", error)  # noqa: TRY400 - a sentence of our own

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return self.audit is not None or self.writer is not None

    async def keep(
        self, step: Step, parts: Sequence[Part], policy: Policy, decision: Decision, seconds: float | None
    ) -> str | None:
        """Keep a decision; `parts` are the step's own, pinned where fetched. Where a record is required, wait for it up
        to `seconds` and return why there is none, in a few words; None waits for nothing.
        """
        if self.audit is not None:
            self.audit.record(step, parts, decision, policy)
        if self.writer is None:
            return None
        from turnguard.records.row import Pending

        try:
            edition, full = self._edition(policy), self._settings.content
            pending = Pending.of(step, parts, decision, policy, edition, self._family, full)
        except Exception as error:  # noqa: BLE001 - a step may hold anything, and a record must not cost the decision
            self.writer.lose(f"no record could be made ({type(error).__name__})")
            return "no record could be made"
        if self._settings.required and seconds is not None:
            return await self.writer.put_and_wait(pending, max(seconds, GRACE))
        self.writer.put(pending)
        return None

    def _edition(self, policy: Policy, name: str | None = None) -> str:
        """Which text of the policy this is. A policy is written when it is first met."""
        known = self._editions.get(id(policy))
        if known is not None:
            return known[1]
        from turnguard.records.store import edition, policy_row, with_shadow

        assert self.writer is not None  # noqa: S101 - asked by its callers
        for each in with_shadow(policy):
            self.writer.know(policy_row(each, name))
        if len(self._editions) >= MOST_POLICIES:
            self._editions.clear()
        self._editions[id(policy)] = policy, edition(policy)
        return self._editions[id(policy)][1]

    def close(self) -> None:
        """Write what is queued."""
        if self.audit is not None:
            self.audit.close()
        if self.writer is not None:
            from turnguard.records import writer

            writer.release(self.writer)
