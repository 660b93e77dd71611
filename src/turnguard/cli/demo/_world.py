"""What the demo's scenes share: one guard on one sandbox, and how an outcome is held against what must be."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from turnguard.cli.output import plain
from turnguard.core.decision import Decision
from turnguard.core.step import Step

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.guard import Guard
    from turnguard.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the demo: what was sent, what came of it, and whether it ended as it must. `seconds` is wall time,
    `told` what the person reads instead.
    """

    stage: str
    sent: str
    action: str
    why: str
    seconds: float
    problem: str | None = None
    told: str | None = None
    decision: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether it ended as it must."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A scene that this machine cannot play, and why."""

    reason: str
    ok: bool = True


Scene = Callable[["World"], AsyncIterator["Line | Skipped"]]
Proof = Callable[[Decision], "str | None"]
"""A closer look at a decision: None when it is right, else what is wrong."""


@dataclass(slots=True)
class World:
    """The stage of the demo."""

    guard: Guard
    sandbox: Sandbox
    config: Config

    def another_guard(self) -> Guard:
        """A guard of its own for a framework, set up in the same way."""
        from turnguard.guard import Guard

        return Guard.from_config(self.config)

    async def judge(
        self,
        sent: str,
        step: Step,
        action: str,
        *,
        category: str | None = None,
        failed: bool = False,
        proof: Proof | None = None,
        why: str | None = None,
    ) -> Line:
        """Check one step over HTTP, and compare."""
        started = time.perf_counter()
        decision = await self.guard.acheck(step)
        seconds = time.perf_counter() - started
        problem = _difference(decision, action, category, failed) or (proof(decision) if proof else None)
        return Line(
            step.stage,
            sent,
            decision.action,
            why or reason_of(decision),
            seconds,
            problem,
            decision.message,
            decision.to_dict(),
        )


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A sandbox on a free loopback port, and a guard with the balanced starter policy in front of it."""
    from turnguard.config.document import parse
    from turnguard.config.starters import starter
    from turnguard.guard import Guard
    from turnguard.sandbox import Sandbox

    with Sandbox(announce=lambda _: None) as sandbox:
        config = parse(starter("balanced"), {"TURNGUARD_BASE_URL": sandbox.base_url}, "balanced.yaml")
        # a busy laptop reads pictures slower than a GPU does, and the demo is not about speed
        config = replace(
            config,
            moderator=config.moderator.model_copy(update={"deadline": 10.0}),
            media=config.media.model_copy(update={"deadline": 60.0}),
        )
        with _silent():
            async with Guard.from_config(config) as guard:
                yield World(guard, sandbox, config)


@contextmanager
def _silent() -> Iterator[None]:
    """The wings log what they withhold, and here every line says it already."""
    log = logging.getLogger("turnguard")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _difference(decision: Decision, action: str, category: str | None, failed: bool) -> str | None:
    if decision.action != action:
        return f"expected {action}, got {decision.action}: {decision.summary()}"
    if decision.failed != failed:
        return f"expected failed={failed}: {decision.summary()}"
    if category is not None and category not in decision.categories:
        return f"expected {category}, got {', '.join(decision.categories) or 'no category'}"
    return None


def reason_of(decision: Decision) -> str:
    """Which categories by which rule, or the failure, and what the person is told: one short line."""
    rules = ", ".join(dict.fromkeys(reason.rule for reason in decision.outcome.decisive))
    if decision.failed:
        verdict = decision.verdict
        text = f"failed: {verdict.failure} by {rules}"
    elif decision.categories:
        text = f"{', '.join(decision.categories)} by {rules}"
    else:
        text = rules
    return plain(text)


def no_ocr() -> str | None:
    """Return why pictures cannot be read on this machine; None where they can."""
    from turnguard.sandbox.ocr import UNAVAILABLE, available

    return None if available() else UNAVAILABLE
