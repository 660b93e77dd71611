"""Moderators that wrap moderators: memory, gate, replicas, breaker, fallback, each by what it promises."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from tests.ticks import ticking

from turnguard import Guard, Policy, Step, Verdict
from turnguard.core.errors import ModeratorError, Rejected, Timeout, Unavailable, Unparseable
from turnguard.core.exchange import Exchange, Picture
from turnguard.core.step import Text
from turnguard.moderators.base import About, Deadline, Wrapper
from turnguard.moderators.endpoints import Breaker, Endpoint, Endpoints
from turnguard.moderators.fallback import Fallback
from turnguard.moderators.gate import Gated
from turnguard.moderators.memory import Remembering
from turnguard.testing import FakeModerator, FakeVLLM, faults

SOON = 5.0


def soon() -> Deadline:
    return Deadline.after(SOON)


class Named(FakeModerator):
    """A fake that says which model it is."""

    identity = "one"

    async def about(self, deadline: Deadline) -> About:
        return About(self.identity)


# ---------------------------------------------------------------- memory


async def test_memory_keeps_combinations_apart() -> None:
    inner = FakeModerator()
    memory = Remembering(inner)
    red, blue = Picture.of(b"red", "image/png"), Picture.of(b"blue", "image/png")
    exchanges = [
        Exchange("a"), Exchange("a", response=""), Exchange("", response="a"), Exchange("a", red), Exchange("a", blue),
        Exchange("ab", response="c"), Exchange("a", response="bc"), Exchange("a", red, "b"), Exchange("a", response="b"),
    ]  # fmt: skip
    for exchange in exchanges:
        assert not (await memory.judge(exchange, soon())).remembered
    for exchange in exchanges:
        assert (await memory.judge(exchange, soon())).remembered
    assert len(inner.asked) == len(exchanges)


async def test_the_stage_is_no_part_of_a_verdicts_identity() -> None:
    memory = Remembering(FakeModerator())
    await memory.judge(Exchange("a", stage="input"), soon())
    assert (await memory.judge(Exchange("a", stage="tool_result"), soon())).remembered


async def test_another_model_under_the_same_name_is_asked_anew() -> None:
    inner = Named(unsafe=["x"])
    memory = Remembering(inner)
    await memory.judge(Exchange("x"), soon())
    inner.identity = "two"
    assert not (await memory.judge(Exchange("x"), soon())).remembered
    inner.identity = "one"
    assert (await memory.judge(Exchange("x"), soon())).remembered


async def test_memory_is_bounded_by_entries_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Remembering(FakeModerator(), entries=2)
    for text in "abc":
        await few.judge(Exchange(text), soon())
    assert not (await few.judge(Exchange("a"), soon())).remembered
    assert (await few.judge(Exchange("c"), soon())).remembered
    small = Remembering(FakeModerator(), max_bytes=1300)
    for text in "abc":
        await small.judge(Exchange(text), soon())
    assert not (await small.judge(Exchange("a"), soon())).remembered
    brief = Remembering(FakeModerator(), seconds=0.05)
    await brief.judge(Exchange("a"), soon())
    assert (await brief.judge(Exchange("a"), soon())).remembered
    await asyncio.sleep(0.06)
    assert not (await brief.judge(Exchange("a"), soon())).remembered


@pytest.mark.parametrize("error", [Unavailable("x"), Timeout("x"), Rejected("x"), Unparseable("x")])
async def test_failures_are_not_remembered(error: ModeratorError) -> None:
    inner = FakeModerator()
    memory = Remembering(inner)
    inner.fail(error)
    with pytest.raises(type(error)):
        await memory.judge(Exchange("a"), soon())
    inner.fail(None)
    assert (await memory.judge(Exchange("a"), soon())).user == "safe"


async def test_a_failed_verdict_that_was_returned_is_not_remembered_either() -> None:
    inner = FakeModerator(script=lambda _: Verdict(failure="unavailable", cause="x"))
    memory = Remembering(inner)
    await memory.judge(Exchange("a"), soon())
    inner.script = None
    assert (await memory.judge(Exchange("a"), soon())).failure is None


async def test_everyone_on_a_failing_flight_learns_of_it() -> None:
    inner = FakeModerator(delay=0.05, script=lambda _: Unavailable("planted"))
    memory = Remembering(inner)
    results = await asyncio.gather(*(memory.judge(Exchange("a"), soon()) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert len(inner.asked) == 1


async def test_a_flight_whose_passengers_all_left_is_cancelled() -> None:
    inner = FakeModerator(delay=5.0)
    memory = Remembering(inner)
    tasks = [asyncio.ensure_future(memory.judge(Exchange("a"), soon())) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.02)
    assert inner.cancelled == 1
    inner.delay = 0.0
    assert (await memory.judge(Exchange("a"), soon())).user == "safe"


async def test_a_passenger_with_more_time_than_the_pilot_flies_again() -> None:
    inner = FakeModerator(delay=0.2)

    class Bounded:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            try:
                return await asyncio.wait_for(inner.judge(exchange, deadline), deadline.remaining)
            except TimeoutError:
                raise Timeout("planted") from None

    memory = Remembering(Bounded())
    pilot = asyncio.ensure_future(memory.judge(Exchange("a"), Deadline.after(0.1)))
    await asyncio.sleep(0.02)
    passenger = asyncio.ensure_future(memory.judge(Exchange("a"), soon()))
    with pytest.raises(Timeout):
        await pilot
    assert (await passenger).user == "safe"


def test_a_loop_that_went_away_leaves_no_flight_behind() -> None:
    memory = Remembering(FakeModerator())
    for _ in range(20):
        asyncio.run(memory.judge(Exchange("a"), soon()))
    gc.collect()
    assert len(memory._flights) <= 1


# ---------------------------------------------------------------- gate


async def test_no_more_than_so_many_are_in_flight_and_none_is_lost() -> None:
    peak = open_now = 0

    class Counting:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            nonlocal peak, open_now
            open_now += 1
            peak = max(peak, open_now)
            await asyncio.sleep(0.002)
            open_now -= 1
            return Verdict("safe")

    gate = Gated(Counting(), 4, 1000)
    verdicts = await asyncio.gather(*(gate.judge(Exchange(str(n)), soon()) for n in range(100)))
    assert (len(verdicts), peak, gate.in_flight, gate.waiting) == (100, 4, 0, 0)


async def test_what_does_not_fit_fails_at_once_and_says_so() -> None:
    gate = Gated(FakeModerator(delay=0.2), 1, 2)
    tasks = [asyncio.ensure_future(gate.judge(Exchange(str(n)), soon())) for n in range(4)]
    await asyncio.sleep(0)
    async with ticking() as ticks:
        results = await asyncio.gather(*tasks, return_exceptions=True)
        full = [result for result in results if isinstance(result, Unavailable)]
        assert len(full) == 1
        assert "queue is full" in full[0].cause
    assert ticks.seconds < 2.0


async def test_a_cancelled_wait_gives_its_place_away() -> None:
    inner = FakeModerator(delay=0.05)
    gate = Gated(inner, 1, 10)
    tasks = [asyncio.ensure_future(gate.judge(Exchange(str(n)), soon())) for n in range(5)]
    await asyncio.sleep(0.01)
    for task in tasks[1:4]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], Verdict)
    assert isinstance(done[4], Verdict)
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_the_gate_counts_across_loops_and_threads() -> None:
    lock = threading.Lock()
    peak = open_now = 0

    class Counting:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            nonlocal peak, open_now
            with lock:
                open_now += 1
                peak = max(peak, open_now)
            await asyncio.sleep(0.005)
            with lock:
                open_now -= 1
            return Verdict("safe")

    gate = Gated(Counting(), 3, 1000)

    async def many() -> None:
        await asyncio.gather(*(gate.judge(Exchange(str(n)), soon()) for n in range(20)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (peak <= 3, gate.in_flight, gate.waiting) == (True, 0, 0)


async def test_a_full_queue_blocks_by_policy_and_says_that_it_failed() -> None:
    guard = Guard(Policy.from_dict({}), Gated(FakeModerator(delay=0.3), 1, 0))
    decisions = await asyncio.gather(*(guard.acheck(Step.input(f"text {n}")) for n in range(3)))
    assert sorted(decision.action for decision in decisions) == ["allow", "block", "block"]
    assert all("queue is full" in (d.verdict.cause or "") for d in decisions if d.failed)
    await guard.aclose()


# ---------------------------------------------------------------- what a guard adds


class Logged:
    """A host's own wrapper, of no class of ours."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.managed = getattr(inner, "managed", False)

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        verdict: Verdict = await self.inner.judge(exchange, deadline)
        return verdict


@pytest.mark.parametrize("logged", [False, True])
async def test_a_bare_moderator_is_given_a_memory_and_a_gate(logged: bool) -> None:
    bare = FakeModerator()
    async with Guard(moderator=Logged(bare) if logged else bare) as guard:
        assert isinstance(guard.moderator, Remembering)
        assert isinstance(guard.moderator.inner, Gated)
        assert [(await guard.acheck(Step.input("x"))).remembered for _ in range(2)] == [False, True]
    assert len(bare.asked) == 1


@pytest.mark.parametrize("wrap", [lambda inner: inner, Logged, Wrapper], ids=["as it is", "a host's", "ours"])
async def test_what_has_a_memory_is_given_no_second_one(wrap: Any) -> None:
    managed = wrap(Remembering(FakeModerator()))
    async with Guard(moderator=managed) as guard:
        assert guard.moderator is managed


async def test_a_fallback_is_managed_where_both_have_a_memory() -> None:
    both = Fallback(Remembering(FakeModerator()), Remembering(FakeModerator()), may_allow=True)
    assert both.managed
    assert not Fallback(Remembering(FakeModerator()), FakeModerator(), may_allow=True).managed


# ---------------------------------------------------------------- replicas


async def test_the_next_replica_answers_when_one_is_dead() -> None:
    dead, alive = FakeModerator(), FakeModerator()
    dead.fail(Unavailable("planted"))
    replicas = Endpoints([Endpoint(dead), Endpoint(alive)])
    for number in range(20):
        assert (await replicas.judge(Exchange(str(number)), soon())).user == "safe"
    assert len(dead.asked) <= 4  # the breaker opened
    assert len(alive.asked) == 20


async def test_a_hanging_replica_leaves_time_for_the_next() -> None:
    class Hanging:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            await asyncio.sleep(deadline.remaining)
            raise Timeout("planted")

    replicas = Endpoints([Endpoint(Hanging()), Endpoint(FakeModerator())])
    async with ticking() as ticks:
        for number in range(6):
            assert (await replicas.judge(Exchange(str(number)), Deadline.after(0.4))).user == "safe"
    assert ticks.seconds < 6 * 0.4


async def test_load_spreads_over_healthy_replicas() -> None:
    moderators = [FakeModerator(), FakeModerator(), FakeModerator()]
    replicas = Endpoints([Endpoint(each) for each in moderators])
    for number in range(30):
        await replicas.judge(Exchange(str(number)), soon())
    assert [len(moderator.asked) for moderator in moderators] == [10, 10, 10]


@pytest.mark.parametrize("error", [Rejected("x"), Unparseable("x")])
async def test_what_one_replica_refuses_is_not_tried_elsewhere(error: ModeratorError) -> None:
    first, second = FakeModerator(), FakeModerator()
    first.fail(error)
    second.fail(error)
    with pytest.raises(type(error)):
        await Endpoints([Endpoint(first), Endpoint(second)]).judge(Exchange("x"), soon())
    assert len(first.asked) + len(second.asked) == 1


async def test_all_dead_is_a_named_failure_at_once() -> None:
    dead = [FakeModerator(), FakeModerator()]
    for moderator in dead:
        moderator.fail(Unavailable("planted"))
    replicas = Endpoints([Endpoint(each) for each in dead])
    for number in range(10):
        with pytest.raises(Unavailable):
            await replicas.judge(Exchange(str(number)), soon())
    assert sum(len(moderator.asked) for moderator in dead) <= 8


async def test_a_replica_that_comes_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.moderators.endpoints.FIRST_PAUSE", 0.05)
    only = FakeModerator()
    only.fail(Unavailable("planted"))
    replicas = Endpoints([Endpoint(only)], attempt_timeout=1.0)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await replicas.judge(Exchange("x"), soon())
    assert not replicas.endpoints[0].breaker.closed
    only.fail(None)
    await asyncio.sleep(0.06)
    assert (await replicas.judge(Exchange("x"), soon())).user == "safe"
    assert replicas.endpoints[0].breaker.closed


def test_a_breaker_lets_one_trial_through_after_each_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("turnguard.moderators.endpoints.time.monotonic", lambda: now)
    breaker = Breaker()
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    assert not breaker.admits()
    now += 1.01
    assert breaker.admits()
    assert not breaker.admits()
    breaker.failed()
    now += 1.01
    assert not breaker.admits()  # the pause doubled
    now += 1.0
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.closed
    assert breaker.admits()


async def test_two_real_endpoints_one_killed_under_way() -> None:
    with FakeVLLM() as one, FakeVLLM() as two:
        async with Guard.from_dict({"moderator": {"base_url": [one.base_url, two.base_url]}}) as guard:
            for number in range(10):
                assert (await guard.acheck(Step.input(f"before {number}"))).action == "allow"
            one.fail(faults.refused(30.0), times=1)
            for number in range(20):
                decision = await guard.acheck(Step.input(f"after {number}"))
                assert (decision.action, decision.failed) == ("allow", False)


# ---------------------------------------------------------------- fallback


@pytest.mark.parametrize(("may_allow", "second", "expected"), [
    (True, "fine", "allow"), (True, "bomb", "block"), (False, "bomb", "block"), (False, "fine", "failed"),
])  # fmt: skip
async def test_a_fallback_has_the_authority_that_it_was_given(may_allow: bool, second: str, expected: str) -> None:
    first = FakeModerator()
    first.fail(Unavailable("planted"))
    fallback = Fallback(first, FakeModerator(unsafe=["bomb"]), may_allow=may_allow)
    guard = Guard(Policy.from_dict({"on_failure": "flag"}), fallback)
    decision = await guard.acheck(Step("input", (Text(second),)))
    assert ("failed" if decision.failed else decision.action) == expected
    await guard.aclose()


async def test_the_sandbox_rules_may_block_but_never_allow() -> None:
    settings: dict[str, Any] = {
        "moderator": {"base_url": "http://127.0.0.1:1/v1", "fallback": {"family": "sandbox"}},
        "policy": {"on_failure": "flag"},
    }
    async with Guard.from_dict(settings) as guard:
        blocked = await guard.acheck(Step.input("how to build a bomb at home"))
        assert (blocked.action, blocked.failed) == ("block", False)
        assert blocked.verdict.model == "turnguard-sandbox-rules"
        allowed = await guard.acheck(Step.input("how to bake bread"))
        assert (allowed.action, allowed.failed) == ("flag", True)


async def test_the_first_moderator_is_preferred_and_its_failure_is_the_one_that_is_told() -> None:
    first, second = FakeModerator(), FakeModerator()
    fallback = Fallback(first, second, may_allow=True)
    await fallback.judge(Exchange("x"), soon())
    assert (len(first.asked), len(second.asked)) == (1, 0)
    first.fail(Unavailable("the first"))
    second.fail(Unavailable("the second"))
    with pytest.raises(Unavailable, match="the first"):
        await fallback.judge(Exchange("x"), soon())
