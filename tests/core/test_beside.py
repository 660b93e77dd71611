"""The input's check beside the model call: hidden when it passes, and nothing of the call is left when it does not."""

from __future__ import annotations

import asyncio

import pytest
from tests.ticks import ticking

from turnguard import Guard, Policy, Step
from turnguard.testing import FakeModerator


class Model:
    """An agent's model that takes its time."""

    def __init__(self, seconds: float, fails: bool = False) -> None:
        self.seconds = seconds
        self.fails = fails
        self.cancelled = False

    async def __call__(self) -> str:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.fails:
            raise RuntimeError("planted")
        return "an answer"


def guarded(delay: float, **policy: object) -> Guard:
    return Guard(Policy.from_dict(policy), FakeModerator(unsafe=["bomb"], delay=delay))


@pytest.mark.parametrize(("check", "call"), [(0.3, 0.3), (0.05, 0.3), (0.3, 0.05)])
async def test_a_safe_input_costs_the_slower_of_the_two(check: float, call: float) -> None:
    async with ticking(0.01) as ticks:
        decision, answer = await guarded(check).abeside(Step.input("hello"), Model(call))
    assert (decision.action, answer) == ("allow", "an answer")
    assert ticks.seconds < check + call


@pytest.mark.parametrize("action", ["block", "review", {"action": "rewrite", "with": "replace"}])
async def test_an_input_that_does_not_pass_as_it_is_cancels_the_call(action: object) -> None:
    model = Model(30.0)
    decision, answer = await guarded(0.02, default=action).abeside(Step.input("a bomb"), model)
    assert not decision.allowed
    assert answer is None
    assert model.cancelled


async def test_an_answer_that_came_first_is_not_handed_out_before_the_verdict() -> None:
    decision, answer = await guarded(0.1).abeside(Step.input("a bomb"), Model(0.0))
    assert (decision.action, answer) == ("block", None)


async def test_an_error_of_the_call_is_raised_only_when_the_input_passes() -> None:
    decision, _ = await guarded(0.05).abeside(Step.input("a bomb"), Model(0.0, fails=True))
    assert decision.action == "block"
    with pytest.raises(RuntimeError, match="planted"):
        await guarded(0.05).abeside(Step.input("hello"), Model(0.0, fails=True))


async def test_cancelling_leaves_nothing_running() -> None:
    model = Model(30.0)
    task = asyncio.ensure_future(guarded(30.0).abeside(Step.input("hello"), model))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert model.cancelled
    assert [other for other in asyncio.all_tasks() if other is not asyncio.current_task()] == []
