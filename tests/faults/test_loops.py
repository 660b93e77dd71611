"""Event loops that come and go, threads, and the machine's own limits: nothing leaks and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from tests.ticks import ticking
from turnguard import Guard, Policy, Step, Verdict
from turnguard.core.errors import Timeout
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.moderators.fallback import Fallback
from turnguard.moderators.gate import Gated
from turnguard.moderators.memory import Remembering
from turnguard.testing import FakeModerator, FakeVLLM, faults

FDS = Path("/proc/self/fd")


def sockets() -> int:
    return sum("socket:" in _link(entry) for entry in FDS.iterdir())


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def guard_for(fake: FakeVLLM, **moderator: object) -> Guard:
    return Guard.from_dict({"moderator": {"base_url": fake.base_url, **moderator}})


@pytest.mark.skipif(not FDS.is_dir(), reason="counts open sockets in /proc")
def test_a_loop_that_ends_takes_its_connections_with_it(fake: FakeVLLM) -> None:
    guard = guard_for(fake)
    asyncio.run(guard.acheck(Step.input("warm")))
    gc.collect()
    before = sockets()
    for number in range(12):
        assert asyncio.run(guard.acheck(Step.input(f"text {number}"))).allowed
    gc.collect()
    time.sleep(0.05)  # the server's side of the last one
    assert sockets() <= before + 2
    guard.close()


@pytest.mark.skipif(not FDS.is_dir(), reason="counts open sockets in /proc")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_so_does_a_loop_that_is_closed_without_ceremony(fake: FakeVLLM) -> None:
    guard = guard_for(fake)
    counts = []
    for number in range(12):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(guard.acheck(Step.input(f"text {number}"))).allowed
        loop.close()
        del loop
        gc.collect()
        time.sleep(0.02)
        counts.append(sockets())
    assert counts[-1] <= counts[2] + 2
    guard.close()
    gc.collect()


def test_a_check_that_died_with_its_loop_gives_its_place_back() -> None:
    gate = Gated(FakeModerator(delay=5.0), 1, 4)
    loop = asyncio.new_event_loop()
    first = loop.create_task(gate.judge(Exchange("a"), Deadline.after(9)))
    second = loop.create_task(gate.judge(Exchange("b"), Deadline.after(9)))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert (gate.in_flight, gate.waiting) == (1, 1)
    for task in (first, second):
        task.cancel()
    loop.run_until_complete(asyncio.gather(first, second, return_exceptions=True))
    loop.close()
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_one_guard_serves_many_threads_and_loops(fake: FakeVLLM) -> None:
    fake.when("bad", user="unsafe")
    guard = guard_for(fake)
    wrong: list[str] = []

    def work(worker: int) -> None:
        async def many() -> None:
            steps = [Step.input(f"{'bad' if n % 3 == 0 else 'good'} {worker} {n}") for n in range(15)]
            for step, decision in zip(steps, await asyncio.gather(*map(guard.acheck, steps)), strict=True):
                expected = "block" if step.parts[0].text.startswith("bad") else "allow"  # type: ignore[union-attr]
                if (decision.action, decision.failed) != (expected, False):
                    wrong.append(decision.summary())

        asyncio.run(many())
        if guard.check(Step.input(f"bad sync {worker}")).action != "block":
            wrong.append("sync")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    guard.close()


@pytest.mark.skipif(not FDS.is_dir(), reason="needs /proc")
async def test_out_of_file_descriptors_is_a_named_failure(fake: FakeVLLM) -> None:
    guard = guard_for(fake, deadline=1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    await guard.acheck(Step.input("imports are paid"))
    await guard.aclose()
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held[0] + 1, 64), hard))
    try:
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        decision = await guard.acheck(Step.input("no descriptor left"))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (decision.action, decision.failed, decision.verdict.failure) == ("block", True, "unavailable")
    assert (await guard.acheck(Step.input("again"))).allowed
    await guard.aclose()


async def test_a_guard_that_is_closed_under_way_fails_and_never_allows(fake: FakeVLLM) -> None:
    fake.latency = 0.3
    guard = guard_for(fake)
    tasks = [asyncio.ensure_future(guard.acheck(Step.input(f"text {n}"))) for n in range(4)]
    await asyncio.sleep(0.1)
    await guard.aclose()
    for decision in await asyncio.gather(*tasks):
        assert decision.failed is (decision.action == "block")
    assert (await guard.acheck(Step.input("after"))).allowed  # it opens what it needs again
    await guard.aclose()


async def test_the_wall_clock_moves_no_deadline(fake: FakeVLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**6))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps) * (-1) ** next(jumps) * 86_400)
    guard = guard_for(fake, deadline=0.5)
    assert (await guard.acheck(Step.input("fine"))).allowed
    fake.fail(faults.hang())
    async with ticking() as ticks:
        decision = await guard.acheck(Step.input("hangs"))
    assert (decision.verdict.failure, decision.action) == ("timeout", "block")
    assert ticks.seconds < 1.5
    await guard.aclose()


# ---------------------------------------------------------------- flights


async def test_who_boards_a_flight_that_is_being_called_off_gets_a_flight_of_their_own() -> None:
    class SlowToCancel:
        asked = 0

        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            self.asked += 1
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)  # closing a connection takes a moment
                raise
            return Verdict("safe")

    memory = Remembering(SlowToCancel())
    first = asyncio.ensure_future(memory.judge(Exchange("a"), Deadline.after(5)))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert (await memory.judge(Exchange("a"), Deadline.after(5))).user == "safe"


async def test_a_moderator_that_cancels_itself_is_a_failure_and_no_lost_check() -> None:
    def script(_exchange: Exchange) -> Verdict:
        raise asyncio.CancelledError

    guard = Guard(Policy.from_dict({}), FakeModerator(script=script))
    decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("block", True)
    await guard.aclose()


async def test_waiting_in_the_queue_leaves_the_fallback_its_time() -> None:
    class Hanging:
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            await asyncio.sleep(deadline.remaining)
            raise Timeout("planted")

    guard = Guard(Policy.from_dict({}), Fallback(Gated(Hanging(), 1, 8), FakeModerator(), may_allow=True))
    async with ticking() as ticks:
        decisions = await asyncio.gather(*(guard.acheck(Step.input(f"text {n}")) for n in range(4)))
        assert [(decision.action, decision.failed) for decision in decisions] == [("allow", False)] * 4
    assert ticks.seconds < 2.1
    await guard.aclose()


async def test_a_description_that_hangs_does_not_outlast_the_deadline() -> None:
    class Vague(FakeModerator):
        async def about(self, deadline: Deadline) -> object:
            await asyncio.sleep(30)
            raise AssertionError

    from turnguard.config.settings import ModeratorSettings

    guard = Guard(Policy.from_dict({}), Vague(), moderator_settings=ModeratorSettings(deadline=0.3))
    for text in ("short", "long " * 2000):
        async with ticking() as ticks:
            decision = await guard.acheck(Step.input(text))
            assert (decision.action, decision.verdict.failure) == ("block", "timeout")
        assert ticks.seconds < 0.8
    await guard.aclose()


async def test_a_burst_asks_once_which_model_is_served(fake: FakeVLLM) -> None:
    guard = guard_for(fake)
    await asyncio.gather(*(guard.acheck(Step.input(f"text {n}")) for n in range(40)))
    assert sum(request.path.endswith("/models") for request in fake.requests) == 1
    await guard.aclose()


async def test_a_long_transcript_does_not_fill_the_queue_by_itself() -> None:
    guard = Guard(Policy.from_dict({}), FakeModerator(delay=0.001))
    decisions = await guard.acheck_messages([{"role": "user", "content": f"message {n}"} for n in range(1500)])
    assert {(decision.action, decision.failed) for decision in decisions} == {("allow", False)}
    await guard.aclose()
