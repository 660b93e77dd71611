"""`Media` under load: off the event loop, each set of bytes once, from several loops, through cancellation."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow

from tests.media.drawing import encoded, noise, page
from tests.media.pdfs import bomb
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document, Image
from turnguard.media import Media
from turnguard.media import read as reading
from turnguard.media.media import Key
from turnguard.media.types import Made
from turnguard.runtime.caches import Cache

Read = Callable[..., Made]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of what was really prepared."""
    done: list[str] = []
    real: Read = reading.read

    def counted(data: bytes, *more: Any) -> Made:
        done.append(hashlib.sha256(data).hexdigest())
        return real(data, *more)

    monkeypatch.setattr("turnguard.media.media.read", counted)
    return done


async def test_the_same_bytes_are_prepared_once(reads: list[str]) -> None:
    media = Media(MediaSettings())
    data = encoded(page())
    first = await media.prepare(Image(data))
    again = await media.prepare(Document(bytes(bytearray(data)), "image/png"))
    together = await asyncio.gather(*(media.prepare(Image(encoded(page(text="x")))) for _ in range(8)))
    assert len(reads) == 2
    assert again.views == first.views
    assert all(one.views == together[0].views for one in together)
    await media.aclose()


async def test_another_limit_is_another_preparation(reads: list[str]) -> None:
    media = Media(MediaSettings())
    data = encoded(noise((1500, 1500)))
    assert len((await media.prepare(Image(data), limit=1)).views) == 1
    assert len((await media.prepare(Image(data))).views) == 5
    assert len((await media.prepare(Image(data), limit=99)).views) == 5
    assert len(reads) == 2
    await media.aclose()


async def test_a_hash_is_all_that_a_known_screenshot_costs() -> None:
    media = Media(MediaSettings())
    data = encoded(noise((1920, 1080)))
    start = time.process_time()
    await media.prepare(Image(data))
    first = time.process_time() - start
    start = time.process_time()
    await media.prepare(Image(bytes(bytearray(data))))
    assert time.process_time() - start < first / 5
    await media.aclose()


async def test_the_event_loop_is_never_blocked() -> None:
    media = Media(MediaSettings())
    longest = 0.0
    done = False

    async def beat() -> None:
        nonlocal longest
        while not done:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start)

    heart = asyncio.create_task(beat())
    start = time.perf_counter()
    data = encoded(Pillow.effect_noise((3000, 2000), 60).convert("RGB"), "BMP")
    longest = 0.0
    await asyncio.gather(*(media.prepare(Image(data + bytes([at]))) for at in range(4)))
    took = time.perf_counter() - start
    done = True
    await heart
    assert longest < max(0.2, took / 4), (longest, took)
    await media.aclose()


def test_several_loops_and_threads_share_one() -> None:
    media = Media(MediaSettings())
    data = encoded(noise((400, 300)))
    views: list[Any] = []

    def work() -> None:
        async def many() -> None:
            found = await asyncio.gather(*(media.prepare(Image(data)) for _ in range(4)))
            views.extend(one.views for one in found)

        for _ in range(3):
            asyncio.run(many())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(views) == 48
    assert all(one == views[0] for one in views)
    asyncio.run(media.aclose())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event, list[bool]]:
    """Reading waits at a gate: (started, go, whether it was given up)."""
    started, go, abandoned = threading.Event(), threading.Event(), list[bool]()
    real: Read = reading.read

    def waiting(data: bytes, settings: Any, views: int, given_up: Callable[[], bool], *more: Any) -> Made:
        started.set()
        go.wait(10)
        abandoned.append(given_up())
        return real(data, settings, views, given_up, *more)

    monkeypatch.setattr("turnguard.media.media.read", waiting)
    return started, go, abandoned


async def test_a_cancelled_wait_does_not_take_the_others_with_it(
    gate: tuple[threading.Event, threading.Event, list[bool]],
) -> None:
    started, go, abandoned = gate
    media = Media(MediaSettings())
    part = Image(encoded(page()))
    one, two = (asyncio.create_task(media.prepare(part)) for _ in range(2))
    await asyncio.to_thread(started.wait, 10)
    await asyncio.sleep(0.05)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    go.set()
    assert (await two).views
    assert abandoned == [False]
    await media.aclose()


async def test_work_that_nobody_waits_for_is_given_up_and_not_remembered(
    gate: tuple[threading.Event, threading.Event, list[bool]],
) -> None:
    started, go, abandoned = gate
    media = Media(MediaSettings())
    part = Image(encoded(page()))
    task = asyncio.create_task(media.prepare(part))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fresh = asyncio.create_task(media.prepare(part))  # must not join what was given up
    await asyncio.sleep(0.05)
    go.set()
    assert (await fresh).views
    while len(abandoned) < 2:  # which of the two threads wakes first is chance
        await asyncio.sleep(0.01)
    assert sorted(abandoned) == [False, True]
    await media.aclose()


async def test_a_decoder_that_breaks_is_uncheckable_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Made:
        raise RecursionError

    monkeypatch.setattr("turnguard.media.media.read", broken)
    media = Media(MediaSettings())
    prepared = await asyncio.wait_for(media.prepare(Image(encoded(page()))), 5)
    assert not prepared.views
    assert [(entry.cause, entry.counts) for entry in prepared.skipped] == [("cannot be read (RecursionError)", True)]
    await media.aclose()


async def test_it_can_be_closed_and_used_again() -> None:
    media = Media(MediaSettings())
    assert (await media.prepare(Image(encoded(page())))).views
    await media.aclose()
    await media.aclose()
    assert (await media.prepare(Image(encoded(noise())))).views
    await media.aclose()


def test_the_memory_is_bounded_by_bytes() -> None:
    def of(length: int) -> Made:
        return Made(texts=(("", "a" * length),))

    memo: Cache[Key, Made] = Cache(weight=10_000, weigh=lambda made: made.weight)
    for at in range(10):
        memo.put((bytes([at]), 1), of(500))
    assert memo.get((b"\x09", 1)) is not None
    assert memo.get((b"\x00", 1)) is None
    memo.get((b"\x06", 1))
    memo.put((b"\x0a", 1), of(500))
    assert memo.get((b"\x06", 1)) is not None  # used lately, so kept
    memo.put((b"\x0b", 1), of(50_000))
    assert memo.get((b"\x0b", 1)) is None


async def test_hanging_documents_do_not_keep_pictures_waiting() -> None:
    media = Media(MediaSettings(deadline=60))
    stuck = [asyncio.create_task(media.prepare(Document(bomb() + bytes([at])))) for at in range(4)]
    await asyncio.sleep(0.05)
    assert (await asyncio.wait_for(media.prepare(Image(encoded(page()))), 10)).views
    assert not any(task.done() for task in stuck)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    await media.aclose()


def test_importing_and_making_one_loads_nothing_heavy() -> None:
    code = (
        "import sys; from turnguard.media import Media, split_data_uris; from turnguard.config.settings import MediaSettings; "
        "Media(MediaSettings(allow_urls=('https://cdn.example.com/',))); split_data_uris('x'); "
        "print([name for name in ('PIL', 'aiohttp', 'pypdfium2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
