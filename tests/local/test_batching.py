"""The worker thread before the local model: what it takes together, and that nobody waits in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from turnguard.core.errors import ModeratorError, Rejected, Timeout, Unavailable
from turnguard.moderators.base import Deadline
from turnguard.moderators.local.batching import Batching, Job

SOON = 20.0


class Worker:
    """Doubles numbers, a batch at a time, and can be held while it works."""

    def __init__(self, most: int = 4) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()
        self.unwanted: Callable[[Sequence[Job[int, int]]], None] = lambda _batch: None
        self.batching: Batching[int, int] = Batching(self.work, most=most, kind=lambda number: number < 0)

    def work(self, batch: Sequence[Job[int, int]]) -> Sequence[int | ModeratorError]:
        self.batches.append([job.item for job in batch])
        self.entered.set()
        assert self.free.wait(SOON)
        self.unwanted(batch)
        if any(job.item == 13 for job in batch):
            raise RuntimeError("thirteen")
        return [Rejected("zero") if job.item == 0 else 2 * job.item for job in batch]

    async def ask(self, number: int, seconds: float = SOON) -> int:
        return await self.batching.ask(number, Deadline.after(seconds))

    async def held(self, *numbers: int) -> list[asyncio.Task[int]]:
        """The first is being worked on and held; the others wait, in this order."""
        self.free.clear()
        tasks = []
        for number in numbers:
            tasks.append(asyncio.create_task(self.ask(number)))
            await asyncio.sleep(0)
            if len(tasks) == 1:
                assert await asyncio.to_thread(self.entered.wait, SOON)
        return tasks


async def test_a_lone_request_waits_for_nobody() -> None:
    worker = Worker()
    assert await worker.ask(21) == 42
    assert worker.batches == [[21]]


async def test_what_waits_is_worked_on_together_up_to_the_limit_and_in_order() -> None:
    worker = Worker(most=3)
    tasks = await worker.held(1, 2, 3, 4, 5)
    worker.free.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert worker.batches == [[1], [2, 3, 4], [5]]


async def test_kinds_are_never_mixed_and_the_oldest_goes_first() -> None:
    worker = Worker()
    tasks = await worker.held(1, -1, 2, -2)
    worker.free.set()
    assert await asyncio.gather(*tasks) == [2, -2, 4, -4]
    assert worker.batches == [[1], [-1, -2], [2]]


async def test_one_failure_is_its_own() -> None:
    worker = Worker()
    tasks = await worker.held(1, 0, 2)
    worker.free.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[0], found[2]) == (2, 4)
    assert isinstance(found[1], Rejected)


async def test_whatever_the_model_raises_is_no_verdict_and_the_next_batch_is_worked_on() -> None:
    worker = Worker()
    with pytest.raises(Unavailable, match=r"the model failed \(RuntimeError\)"):
        await worker.ask(13)
    assert await worker.ask(1) == 2


async def test_the_deadline_frees_the_caller_while_the_model_works() -> None:
    worker = Worker()
    wanted: list[bool] = []
    worker.unwanted = lambda batch: wanted.extend(job.wanted for job in batch)
    worker.free.clear()
    with pytest.raises(Timeout):
        await worker.ask(1, 0.05)
    worker.free.set()
    assert await worker.ask(2) == 4
    assert wanted == [False, True]


async def test_who_leaves_the_queue_is_not_worked_on() -> None:
    worker = Worker()
    tasks = await worker.held(1, 2, 3)
    tasks[1].cancel()
    await asyncio.sleep(0)
    worker.free.set()
    assert await tasks[0] == 2
    assert await tasks[2] == 6
    assert tasks[1].cancelled()
    assert worker.batches == [[1], [3]]


async def test_closing_fails_what_waits_and_ends_the_thread() -> None:
    worker = Worker()
    tasks = await worker.held(1, 2)
    thread = worker.batching._thread
    assert thread is not None
    worker.batching.close()
    worker.batching.close()
    with pytest.raises(Unavailable, match="closed"):
        await tasks[1]
    worker.free.set()
    assert await tasks[0] == 2
    await asyncio.to_thread(thread.join, SOON)
    assert not thread.is_alive()
    assert await worker.ask(4) == 8
    worker.batching.close()


async def test_an_idle_thread_ends_and_another_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.moderators.local.batching.IDLE_SECONDS", 0.01)
    worker = Worker()
    assert await worker.ask(1) == 2
    while worker.batching._thread is not None:
        await asyncio.sleep(0.01)
    assert await worker.ask(2) == 4


async def test_after_a_fork_it_says_so_instead_of_hanging() -> None:
    worker = Worker()
    worker.batching._after_fork()
    with pytest.raises(Unavailable, match="fork"):
        await worker.ask(1)


def test_several_event_loops_share_one_worker() -> None:
    worker = Worker()
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(asyncio.run(worker.ask(n)))) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(found) == [2, 4, 6, 8]
