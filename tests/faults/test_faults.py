"""Every fault through every surface at every stage: the decision is the policy's, in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults.faulty import CASES, MARK, Case, World
from tests.faults.measuring import HELD, SLACK, in_use, lateness, measured, once, text
from tests.faults.surfaces import CELLS, SURFACES, Surface, step
from turnguard import Guard, Step
from turnguard.core.action import Action
from turnguard.moderators.base import Deadline
from turnguard.testing import FakeVLLM, faults

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning"),
    pytest.mark.usefixtures("leaks_nothing"),
]

FEW = (
    "refused",
    "hang",
    "HTTP 500, connection closed unsaid",
    "200, prose",
    "one of two replicas dead",
    "a full queue",
)
"""What every surface is always run with; the others are of the same kinds and marked slow where the first one has them."""
KINDS = ("reset before the reply", "hang", "HTTP 400", "200, prose", "a full queue")
"""One fault of each failure, and one that never reaches a server: what the lenient policies are run with."""
LENIENT: tuple[Action, ...] = ("review", "flag", "allow")
WITHHOLD = ("block", "review")
BY_NAME = {case.name: case for case in CASES}


def _all() -> Iterator[ParameterSet]:
    for surface, stage in CELLS:
        for case in CASES:
            slow = [pytest.mark.slow] if surface is not SURFACES[0] and case.name not in FEW else []
            yield pytest.param(surface, stage, case, marks=slow, id=f"{surface.name}-{stage}-{case.name}")


def _lenient() -> Iterator[ParameterSet]:
    for surface, stage in CELLS:
        for name in KINDS:
            for action in LENIENT:
                slow = [pytest.mark.slow] if name != "200, prose" else []
                yield pytest.param(
                    surface, stage, BY_NAME[name], action, marks=slow, id=f"{surface.name}-{stage}-{name}-{action}"
                )


@pytest.mark.parametrize(("surface", "stage"), CELLS, ids=lambda value: getattr(value, "name", value))
async def test_without_a_fault_the_content_passes(world: dict[int, World], surface: Surface, stage: str) -> None:
    """The measure itself: without a fault it finds what passes, and the decisions on it."""
    outcome = await once(world[1], surface, stage, None, "block")
    assert outcome.passed
    assert {(decision.action, decision.failed) for decision in outcome.decisions} == {("allow", False)}


@pytest.mark.parametrize(("surface", "stage", "case"), list(_all()))
async def test_no_fault_is_an_allow(world: dict[int, World], surface: Surface, stage: str, case: Case) -> None:
    await _holds(world, surface, stage, case, "block")


@pytest.mark.parametrize(("surface", "stage", "case", "action"), list(_lenient()))
async def test_the_policy_decides_whatever_it_says(
    world: dict[int, World], surface: Surface, stage: str, case: Case, action: Action
) -> None:
    await _holds(world, surface, stage, case, action)


async def _holds(world: dict[int, World], surface: Surface, stage: str, case: Case, action: Action) -> None:
    outcome = await measured(world[case.replicas], surface, stage, case, action)
    told = {(decision.action, decision.failed, decision.verdict.failure) for decision in outcome.decisions}
    if case.failure is None:
        assert told == {("allow", False, None)}
        assert outcome.passed
    else:
        assert told == {(action, True, case.failure)}
        assert outcome.passed is (action not in WITHHOLD)
    assert outcome.over <= SLACK
    if case.failure == "timeout":
        HELD.worst[surface.name] = max(HELD.worst.get(surface.name, -1.0), outcome.over)
    HELD.cells[case.name, surface.name, stage, action] = "passes" if outcome.passed else "withheld"


# ---------------------------------------------------------------- the measure itself


def _each_surface() -> Iterator[ParameterSet]:
    for surface in SURFACES:
        yield pytest.param(surface, marks=[] if surface is SURFACES[0] else [pytest.mark.slow], id=surface.name)


@pytest.mark.parametrize("surface", list(_each_surface()))
async def test_a_guard_that_is_late_is_found_to_be_late(
    world: dict[int, World], surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 0.25
    in_time = Deadline.after
    monkeypatch.setattr(Deadline, "after", lambda seconds: in_time(seconds + late))
    outcome = await measured(world[1], surface, "output", BY_NAME["hang"], "block")
    assert outcome.over > SLACK


async def test_a_bare_timeout_is_hardly_late_here() -> None:
    assert min([await lateness(0.02) for _ in range(5)]) < SLACK / 2


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
