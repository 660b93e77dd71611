"""Moderators that do not stop when they are told to: late verdicts count for nothing, and no cancellation is lost."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from turnguard import Guard, Policy, Step, Verdict
from turnguard.config.settings import ModeratorSettings
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.testing import FakeModerator


class Stubborn:
    """Says "safe" all the same when it is cancelled, a moment later."""

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        await asyncio.sleep(0.01)
        return Verdict("safe", "safe")


def guard_for(seconds: float) -> Guard:
    return Guard(Policy.from_dict({}), Stubborn(), moderator_settings=ModeratorSettings(deadline=seconds))


@pytest.mark.parametrize("text", ["x", "x " * 20_000], ids=["one request", "many windows"])
async def test_a_verdict_after_the_deadline_is_none(text: str) -> None:
    async with guard_for(0.1) as guard:
        decision = await guard.acheck(Step.input(text))
        assert (decision.action, decision.failed, decision.verdict.failure) == ("block", True, "timeout")


@pytest.mark.parametrize("text", ["x", "x " * 20_000], ids=["one request", "many windows"])
async def test_a_cancelled_check_is_cancelled_and_no_allow(text: str) -> None:
    async with guard_for(5.0) as guard:
        check = asyncio.ensure_future(guard.acheck(Step.input(text)))
        await asyncio.sleep(0.05)
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check


async def test_so_is_one_that_the_caller_gave_a_time() -> None:
    async with guard_for(5.0) as guard:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guard.acheck(Step.input("x")), 0.05)


async def test_what_is_checked_while_a_cancelled_task_cleans_up_is_checked() -> None:
    async with Guard(Policy.from_dict({}), FakeModerator(unsafe=["bad"])) as guard:

        async def cleaning_up() -> list[str]:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                return [(await guard.acheck(Step.input(text))).action for text in ("good", "bad")]
            return []

        task = asyncio.ensure_future(cleaning_up())
        await asyncio.sleep(0.01)
        task.cancel()
        assert await task == ["allow", "block"]
