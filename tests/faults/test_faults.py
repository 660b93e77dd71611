"""Every fault through every surface at every stage: the decision is the policy's, in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.faults.faulty import CASES, KINDS, LENIENT, MARK, Case, World, expected
from tests.faults.measuring import SLACK, in_use, measured, once, text
from tests.faults.surfaces import CELLS, SURFACES, Surface, step
from tests.pairwise import selected
from turnguard import Guard, Step
from turnguard.core.action import Action
from turnguard.moderators.base import Deadline
from turnguard.testing import FakeVLLM, faults

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning"),
    pytest.mark.usefixtures("leaks_nothing"),
]

BY_NAME = {case.name: case for case in CASES}
Combination = tuple[Surface, str, Case, Action]


def combinations() -> list[Combination]:
    """Every fault under `block`, and one fault of each kind under the lenient policies, at every surface and stage."""
    tried: list[tuple[Case, Action]] = [(case, "block") for case in CASES]
    tried += [(BY_NAME[name], action) for name in KINDS for action in LENIENT]
    return [(surface, stage, case, action) for surface, stage in CELLS for case, action in tried]


def factors(surface: Surface, stage: str, case: Case, action: Action) -> tuple[object, ...]:
    """A surface sees no more of a fault than how the check ended."""
    return surface.name, stage, (case.failure, case.replicas, case.cold), action


def ids(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(("surface", "stage"), CELLS, ids=lambda value: getattr(value, "name", value))
async def test_without_a_fault_the_content_passes(world: dict[int, World], surface: Surface, stage: str) -> None:
    """The measure itself: without a fault it finds what passes, and the decisions on it."""
    outcome = await once(world[1], surface, stage, None, "block")
    assert outcome.passed
    assert {(decision.action, decision.failed) for decision in outcome.decisions} == {("allow", False)}


@pytest.mark.pairwise(by=factors, once=lambda case, **_: case.name)
@pytest.mark.parametrize(("surface", "stage", "case", "action"), combinations(), ids=ids)
async def test_the_policy_decides_about_every_fault(
    world: dict[int, World], surface: Surface, stage: str, case: Case, action: Action
) -> None:
    outcome = await measured(world[case.replicas], surface, stage, case, action)
    told = {(decision.action, decision.failed, decision.verdict.failure) for decision in outcome.decisions}
    assert told == {(action, True, case.failure) if case.failure else ("allow", False, None)}
    assert ("passes" if outcome.passed else "withheld") == expected(case, action)
    assert outcome.over <= SLACK


def test_the_selection_of_make_test_holds_every_pair_and_every_fault() -> None:
    every = combinations()
    chosen = [
        every[number] for number in selected([factors(*each) for each in every], [each[2].name for each in every])
    ]
    for one, other in itertools.combinations(range(4), 2):
        assert {(factors(*each)[one], factors(*each)[other]) for each in chosen} == {
            (factors(*each)[one], factors(*each)[other]) for each in every
        }
    assert {case for _, _, case, _ in chosen} == set(CASES)
    assert len(chosen) < len(every) / 5


# ---------------------------------------------------------------- the measure itself


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
async def test_a_guard_that_is_late_is_found_to_be_late(
    world: dict[int, World], surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnguard.checking.check.Deadline", lambda at: Deadline(at + 2.0))
    outcome = await measured(world[1], surface, "output", BY_NAME["hang"], "block")
    assert outcome.over > SLACK


# ---------------------------------------------------------------- what the decision says


@pytest.mark.parametrize("case", [case for case in CASES if case.failure], ids=lambda case: case.name)
async def test_the_decision_says_what_failed(world: dict[int, World], case: Case) -> None:
    outcome = await once(world[case.replicas], SURFACES[0], "input", case, "block")
    (decision,) = outcome.decisions
    assert (decision.action, decision.failed, decision.verdict.failure) == ("block", True, case.failure)
    assert decision.verdict.cause
    assert decision.reasons[0].rule == "policy.on_failure"


@pytest.mark.parametrize("action", ["block", "review", "flag", "allow"])
@pytest.mark.parametrize("stage", ["input", "retrieval", "tool_call", "tool_result", "output"])
async def test_the_policy_of_the_stage_decides(stage: str, action: str) -> None:
    with FakeVLLM() as fake:
        fake.fail(faults.content("prose"))
        policy = {"on_failure": "block" if action != "block" else "allow", "stages": {stage: {"on_failure": action}}}
        async with Guard.from_dict({"moderator": {"base_url": fake.base_url}, "policy": policy}) as guard:
            decision = await guard.acheck(step(stage, "x"))
    assert (decision.action, decision.failed) == (action, True)
    assert decision.reasons[0].rule == f"policy.stages.{stage}.on_failure"


# ---------------------------------------------------------------- the leak fixture itself


async def test_a_connection_that_is_not_given_back_is_found(world: dict[int, World]) -> None:
    guard = world[1].guard
    world[1].refresh()
    world[1].one.fail(faults.hang(), when=MARK)
    check = asyncio.ensure_future(guard.acheck(Step.input(text())))
    await asyncio.sleep(0.1)
    assert in_use(guard) == 1
    await check
    assert in_use(guard) == 0
