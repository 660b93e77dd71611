"""`within`: a deadline that costs nothing where nothing waits, and is `asyncio.timeout` everywhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.ticks import ticking

from turnguard.runtime.within import within


async def at_once() -> str:
    return "done"


async def later(seconds: float = 0.01) -> str:
    await asyncio.sleep(seconds)
    await asyncio.sleep(0)
    async with asyncio.Lock():
        return await asyncio.ensure_future(at_once())


async def sleeps(seen: list[str]) -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


async def fails(seconds: float | None = None) -> str:
    if seconds is not None:
        await asyncio.sleep(seconds)
    raise LookupError("said")


@pytest.mark.parametrize("work", [at_once, later])
async def test_gives_what_the_coroutine_gives(work: Any) -> None:
    assert await within(5.0, work()) == "done"


async def test_what_waits_for_nothing_may_take_no_time_at_all() -> None:
    assert await within(0.0, at_once()) == "done"


@pytest.mark.parametrize("seconds", [None, 0.0, 0.01])
async def test_an_error_comes_out_as_it_is(seconds: float | None) -> None:
    with pytest.raises(LookupError, match="said"):
        await within(5.0, fails(seconds))


async def test_ends_at_its_time_and_the_coroutine_sees_it() -> None:
    seen: list[str] = []
    with pytest.raises(asyncio.TimeoutError):
        await within(0.02, sleeps(seen))
    assert seen == ["cancelled"]


async def test_what_is_done_before_the_first_wait_is_part_of_its_time() -> None:
    async def work() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 - as a reader does that decodes before it waits
        await asyncio.sleep(30)

    async with ticking() as ticks:
        with pytest.raises(asyncio.TimeoutError):
            await within(0.15, work())
    assert ticks.seconds < 0.12  # the rest of its time; all of it would be 0.15


async def test_a_coroutine_may_clean_up_with_waits_of_its_own() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned")

    with pytest.raises(asyncio.TimeoutError):
        await within(0.02, work())
    assert seen == ["cleaned"]


async def test_its_task_s_cancellation_goes_through() -> None:
    seen: list[str] = []
    task = asyncio.create_task(within(30.0, sleeps(seen)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_a_generator_that_is_closed_closes_the_coroutine() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("closed")

    started = within(30.0, work())
    started.send(None)
    with pytest.raises(GeneratorExit):
        started.throw(GeneratorExit)
    assert seen == ["closed"]


async def test_anything_that_can_be_awaited_will_do() -> None:
    class Thing:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0.01).__await__()
            return "thing"

    future: Awaitable[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_result, "future")  # type: ignore[attr-defined]
    assert await within(5.0, future) == "future"
    assert await within(5.0, Thing()) == "thing"
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, asyncio.get_running_loop().create_future())


async def test_the_same_on_many_tasks_at_once() -> None:
    async def one(number: int) -> object:
        work = later(0.001 * (number % 7)) if number % 3 else later(30)
        try:
            return await within(0.1, work)
        except asyncio.TimeoutError:
            return None

    found = await asyncio.gather(*map(one, range(60)))
    assert found == ["done" if number % 3 else None for number in range(60)]
