"""The log of decisions: stages, actions, known categories and failures, never content."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnguard.core.decision import Decision

log = logging.getLogger("turnguard")

WARNING_SECONDS = 1.0
"""Failures are logged as warnings this far apart; those between them at DEBUG."""


def log_decision(decision: Decision) -> None:
    """One line for what was withheld, flagged or failed. A failure is told apart from a block by policy."""
    if decision.action == "allow" and not decision.outcome.failed:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: allow (decision %s)", decision.stage, decision.id)
    elif decision.failed:
        level = _level()
        if log.isEnabledFor(level):
            cause = next((reason.cause for reason in decision.outcome.decisive if reason.failure), None)
            what = (decision.stage, decision.action, failure_of(decision), cause, decision.id)
            log.log(level, "%s: %s, because the moderator failed: %s (%s) (decision %s)", *what)
    elif log.isEnabledFor(logging.INFO):
        names = ", ".join(decision.categories) or decision.reasons[0].kind
        log.info("%s: %s (%s) (decision %s)", decision.stage, decision.action, names, decision.id)


_next_warning = 0.0


def _level() -> int:
    """An outage under load is thousands of failures: one a second is a warning, the others are for debugging."""
    global _next_warning  # noqa: PLW0603 - of the process, like the log
    now = time.monotonic()
    if now < _next_warning:
        return logging.DEBUG
    _next_warning = now + WARNING_SECONDS
    return logging.WARNING


def failure_of(decision: Decision) -> str:
    """The failure that decided."""
    failures = (reason.failure for reason in decision.outcome.decisive if reason.failure)
    return next(failures, "unparseable")
