"""Second looks are counted by what both verdicts said."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from turnguard import Guard, Policy, Step, Unavailable, Verdict
from turnguard.moderators.memory import Remembering
from turnguard.moderators.second_look import SecondLook
from turnguard.testing import FakeModerator


async def test_second_looks_are_counted_by_what_both_said(exported: CollectorRegistry) -> None:
    first = FakeModerator(script=lambda _exchange: Verdict(user="unsafe", p_user=0.5))
    second = FakeModerator(
        script=lambda exchange: Unavailable("down") if "down" in exchange.prompt else Verdict(user="safe")
    )
    chain = SecondLook(Remembering(first), Remembering(second), between=(0.2, 0.8), decides="second")
    guard = Guard(Policy.from_dict({}), chain)
    for text in ("one", "two", "down"):
        await guard.acheck(Step.input(text))
    samples = [
        sample for family in exported.collect() for sample in family.samples if "second_looks_total" in sample.name
    ]
    counted = {
        (sample.labels["turnguard_second"], sample.labels["turnguard_decides"]): sample.value for sample in samples
    }
    assert counted == {("safe", "second"): 2.0, ("unavailable", "first"): 1.0}
