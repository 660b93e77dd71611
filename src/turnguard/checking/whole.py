"""One check from end to end: prepare, judge, apply; then held for a person, recorded and told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnguard import telemetry
from turnguard.checking.apply import apply
from turnguard.checking.check import Check, Setup
from turnguard.checking.judge import fail, judge
from turnguard.checking.parts import of_parts
from turnguard.checking.prepare import prepare
from turnguard.core.decision import Decision
from turnguard.core.policy import Policy
from turnguard.core.step import Step
from turnguard.runtime import surroundings

if TYPE_CHECKING:
    from turnguard.records import Kept, Reviews

_UNSEEN = contextlib.nullcontext(None)


@dataclass(slots=True)
class Whole:
    """What a guard's checks go through. `setup` may be replaced between two checks.

    `in_spans` names the metadata that telemetry shows; `tags` names those that are taken from the surroundings, None
    where nothing is recorded.
    """

    setup: Setup
    reviews: Reviews
    kept: Kept | None
    in_spans: frozenset[str]
    tags: frozenset[str] | None

    async def decide(
        self,
        step: Step,
        policy: str | Policy | None,
        where: tuple[int, int] | None = None,
        *,
        again: bool = True,
        hold: bool = True,
    ) -> tuple[Decision, Check]:
        """Check a step and record the decision. `again` also records what came from memory alone."""
        if not isinstance(step, Step):
            kind = type(step).__name__  # type: ignore[unreachable]  # not every caller has a type checker
            raise TypeError(f"a guard checks a Step, not {kind}: use Step.input(...), Step.output(...) and the like")
        if self.tags is not None:
            step = surroundings.placed(step, self.tags)
        setup = self.setup
        chosen = setup.policy if policy is None else setup.chosen(policy)
        with self._observed(step) if telemetry.listening() else _UNSEEN as told:
            check = Check.of(step, setup, chosen)
            await prepare(check)
            await judge(check)
            decision = await apply(check, where)
            if decision.action == "review" and hold:
                decision = await self.reviews.held_for(step, decision)
            if self.kept is not None and (again or not decision.remembered):
                decision = await self._recorded(self.kept, check, decision)
            if told is not None:
                told(decision)
            telemetry.log_decision(decision)
        return decision, check

    async def decide_parts(
        self, step: Step, policy: str | Policy | None, where: Sequence[tuple[int, int]], *, hold: bool
    ) -> list[Decision]:
        """Check a step as a whole and decide for each of its parts. What came from memory alone is not recorded."""
        single = len(getattr(step, "parts", ())) <= 1  # what is no step is refused below, by name
        place = where[0] if len(where) == 1 else None
        whole, check = await self.decide(step, policy, place, again=False, hold=hold and single)
        if single:
            return [whole]
        parts = of_parts(check, whole, where or (None,) * len(step.parts))
        if not hold:
            return parts
        return [await self.reviews.held_for(step, part) if part.action == "review" else part for part in parts]

    def _observed(self, step: Step) -> contextlib.AbstractContextManager[Callable[[Decision], None]]:
        shown = {name: value for name, value in step.metadata.items() if name in self.in_spans}
        return telemetry.check(step.stage, shown)

    async def _recorded(self, kept: Kept, check: Check, decision: Decision) -> Decision:
        """Keep a finished decision. Where a record is required and there is none, the check has failed."""
        step, parts, policy = check.step, check.plan.parts, check.policy
        cause = await kept.keep(step, parts, policy, decision, check.deadline.remaining)
        if cause is None:
            return decision
        fail(check, cause)
        decision = await apply(check, decision.where)
        await kept.keep(step, parts, policy, decision, None)
        return decision
