"""Replicas under faults: who is asked, who is spared, and who comes back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.ticks import ticking
from turnguard import Guard, Step, Verdict
from turnguard.core.errors import Timeout, Unavailable
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.moderators.endpoints import Breaker, Endpoint, Endpoints
from turnguard.testing import FakeModerator, FakeVLLM, faults


def soon() -> Deadline:
    return Deadline.after(5.0)


async def test_a_replica_that_recovered_gets_work_again_although_the_other_never_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnguard.moderators.endpoints.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("turnguard.moderators.endpoints.RESTS", 0.05)
    ill, well = FakeModerator(), FakeModerator()
    ill.fail(Unavailable("planted"))
    replicas = Endpoints([Endpoint(ill), Endpoint(well)])
    for number in range(10):
        await replicas.judge(Exchange(str(number)), soon())
    ill.fail(None)
    await asyncio.sleep(0.12)
    ill.asked.clear()
    for number in range(20):
        await replicas.judge(Exchange(f"later {number}"), soon())
    assert len(ill.asked) >= 9


async def test_a_trial_on_a_hanging_replica_costs_a_part_of_the_deadline_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.moderators.endpoints.FIRST_PAUSE", 0.01)

    class Hanging:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            await asyncio.sleep(deadline.remaining)
            raise Timeout("planted")

    replicas = Endpoints([Endpoint(Hanging()), Endpoint(FakeModerator())])
    for _ in range(3):
        replicas.endpoints[0].breaker.failed()
    await asyncio.sleep(0.02)
    async with ticking() as ticks:
        assert (await replicas.judge(Exchange("x"), Deadline.after(0.8))).user == "safe"
    assert ticks.seconds < 0.4


def test_a_burst_of_failures_is_one_failure_to_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("turnguard.moderators.endpoints.time.monotonic", lambda: now)
    breaker = Breaker()
    for _ in range(64):  # all that were in flight when it died
        breaker.failed()
    assert not breaker.admits()
    now += 1.01
    assert breaker.admits()


async def test_a_busy_replica_is_passed_over_at_once_and_not_taken_for_dead(fake: FakeVLLM) -> None:
    fake.fail(faults.busy(0.5))
    with FakeVLLM() as other:
        async with Guard.from_dict({"moderator": {"base_url": [fake.base_url, other.base_url]}}) as guard:
            await guard.acheck(Step.input("warm"))
            for number in range(8):
                async with ticking() as ticks:
                    assert (await guard.acheck(Step.input(f"text {number}"))).allowed
                assert ticks.seconds < 0.3
            fake.heal()
            fake.requests.clear()
            await asyncio.sleep(0.5)
            for number in range(8):
                await guard.acheck(Step.input(f"later {number}"))
            assert len(fake.chats) >= 3


async def test_all_replicas_busy_are_asked_again_after_a_wait(fake: FakeVLLM) -> None:
    fake.fail(faults.busy(), times=1)
    with FakeVLLM() as other:
        other.fail(faults.busy(), times=1)
        async with Guard.from_dict({"moderator": {"base_url": [fake.base_url, other.base_url]}}) as guard:
            assert (await guard.acheck(Step.input("x"))).allowed


async def test_a_blip_of_all_replicas_under_load_is_over_when_it_is_over(fake: FakeVLLM) -> None:
    with FakeVLLM() as other:
        settings = {"moderator": {"base_url": [fake.base_url, other.base_url], "deadline": 1.0}}
        async with Guard.from_dict(settings) as guard:
            with fake.down(), other.down():
                failed = await asyncio.gather(*(guard.acheck(Step.input(f"during {n}")) for n in range(64)))
            assert all(decision.failed and decision.action == "block" for decision in failed)
            await asyncio.sleep(1.1)
            after = await asyncio.gather(*(guard.acheck(Step.input(f"after {n}")) for n in range(20)))
            assert all(decision.allowed for decision in after)


async def test_half_the_replicas_dead_and_one_flapping_costs_no_check(fake: FakeVLLM) -> None:
    with FakeVLLM() as flapping, FakeVLLM() as dead, FakeVLLM() as dead_too:
        urls = [dead.base_url, flapping.base_url, dead_too.base_url, fake.base_url]
        async with Guard.from_dict({"moderator": {"base_url": urls}}) as guard:
            with dead.down(), dead_too.down():
                for number in range(40):
                    if number % 4 == 0:
                        flapping.fail(faults.reset(), times=3)
                    decision = await guard.acheck(Step.input(f"text {number}"))
                    assert (decision.action, decision.failed) == ("allow", False)


def test_without_another_endpoint_a_long_pause_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("turnguard.moderators.endpoints.time.monotonic", lambda: now)
    breaker = Breaker()
    for _ in range(3):
        breaker.failed()
    for _ in range(6):  # each trial fails, and the pause doubles
        now += 60.0
        assert breaker.admits()
        breaker.failed()
    assert not breaker.due()
    now += 1.01
    assert not breaker.admits()
    assert breaker.due()


# ---------------------------------------------------------------- turns, and what is remembered


@pytest.mark.parametrize("count", [2, 4])
async def test_each_replica_gets_its_share_of_the_checks(count: int) -> None:
    servers = [FakeVLLM() for _ in range(count)]
    with ExitStack() as stack:
        urls = [stack.enter_context(server).base_url for server in servers]
        async with Guard.from_dict({"moderator": {"base_url": urls}}) as guard:
            for number in range(60):
                assert (await guard.acheck(Step.input(f"text {number}"))).allowed
    asked = [sum(request.path.endswith("/completions") for request in server.requests) for server in servers]
    assert asked == [60 // count] * count


async def test_equal_replicas_share_what_is_remembered() -> None:
    with FakeVLLM() as one, FakeVLLM() as two:
        async with Guard.from_dict({"moderator": {"base_url": [one.base_url, two.base_url]}}) as guard:
            for text in ("a", "b"):  # each replica has answered once, so that it is known who it is
                await guard.acheck(Step.input(text))
            first = await guard.acheck(Step.input("x"))
            again = [await guard.acheck(Step.input("x")) for _ in range(4)]
    assert not first.remembered
    assert all(decision.remembered for decision in again)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_no_allow_outlives_the_model_that_gave_it(replicas: int) -> None:
    with FakeVLLM() as one, FakeVLLM() as two:
        urls = [one.base_url, two.base_url][:replicas]
        async with Guard.from_dict({"moderator": {"base_url": urls}}) as guard:
            for text in ("a", "b", "xylophone"):
                assert (await guard.acheck(Step.input(text))).allowed
            assert (await guard.acheck(Step.input("xylophone"))).remembered
            with pytest.MonkeyPatch.context() as patch:
                # both are restarted with another model, which calls the text unsafe; one of them is heard of
                patch.setattr(type(one.info), "fingerprint", "vllm-other", raising=False)
                for server in (one, two):
                    server.when("xylophone", user="unsafe")
                await guard.acheck(Step.input("c"))
                decision = await guard.acheck(Step.input("xylophone"))
    assert (decision.action, decision.remembered) == ("block", False)


async def test_nothing_is_remembered_while_replicas_serve_different_models() -> None:
    with FakeVLLM() as one, FakeVLLM() as two:
        two.info = replace(two.info, fingerprint="vllm-other")
        async with Guard.from_dict({"moderator": {"base_url": [one.base_url, two.base_url]}}) as guard:
            for text in ("a", "b"):  # each replica has answered once, so that it is known who it is
                await guard.acheck(Step.input(text))
            steps = [await guard.acheck(Step.input("x")) for _ in range(3)]
            messages = [{"role": "user", "content": "hello"}]
            transcripts = [(await guard.acheck_messages(messages))[0] for _ in range(3)]
    assert not any(decision.remembered for decision in (*steps, *transcripts))
