"""`Guard.astream`: nothing is shown before it was judged, and nothing waits longer than it must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from tests.ticks import ticking

from turnguard import Guard, Policy, Verdict
from turnguard.config.settings import StreamSettings
from turnguard.core.errors import Unavailable
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.runtime import sync
from turnguard.testing import FakeModerator


async def source(chunks: Iterable[str], pause: float = 0.0) -> AsyncIterator[str]:
    for chunk in chunks:
        if pause:
            await asyncio.sleep(pause)
        yield chunk


def guarded(
    moderator: FakeModerator, window: int = 20, max_delay: float = 5.0, policy: dict[str, object] | None = None
) -> Guard:
    stream = StreamSettings(window=window, max_delay=max_delay)
    return Guard(Policy.from_dict(policy or {}), moderator, stream=stream)


@pytest.mark.parametrize("window", [1, 7, 20, 10_000])
@pytest.mark.parametrize("pause", [0.0, 0.001])
async def test_safe_text_comes_through_whole_and_in_its_own_chunks(window: int, pause: float) -> None:
    moderator = FakeModerator()
    chunks = [f"word{number} " for number in range(40)]
    stream = guarded(moderator, window).astream(source(chunks, pause), prompt="q")
    assert [chunk async for chunk in stream] == chunks
    assert stream.decision is not None
    assert stream.decision.action == "allow"
    assert moderator.asked[-1].response == "".join(chunks)  # the last check is the full text's own


@pytest.mark.parametrize("window", [1, 3, 20, 10_000])
@pytest.mark.parametrize("action", ["block", "review", {"action": "rewrite", "with": "redact"}])
async def test_an_unsafe_word_split_over_chunks_is_never_shown(window: int, action: object) -> None:
    moderator = FakeModerator(unsafe=["bomb"])
    stream = guarded(moderator, window, policy={"default": action}).astream(
        source(["fine ", "b", "o", "m", "b", " tail"], 0.002)
    )
    shown = [chunk async for chunk in stream]
    assert stream.decision is not None
    assert stream.decision.withheld or stream.decision.action == "rewrite"
    assert "bomb" not in "".join(shown)
    assert "tail" not in "".join(shown)
    assert shown[-1] not in ("fine ", "b", "o", "m")
    assert len(shown[-1]) > 10  # the refusal is the last chunk


async def test_nothing_is_shown_before_its_verdict() -> None:
    verdict = asyncio.Event()

    class Waits(FakeModerator):
        async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
            await verdict.wait()
            return await super().judge(exchange, deadline)

    shown: list[str] = []

    async def read() -> None:
        async for chunk in guarded(Waits(), window=5).astream(source(["12345", "67890"])):
            shown.append(chunk)

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0.1)
    assert shown == []
    verdict.set()
    await reader
    assert "".join(shown) == "1234567890"


async def test_generation_goes_on_while_a_check_runs() -> None:
    moderator = FakeModerator(delay=0.2)

    async def slow() -> AsyncIterator[str]:
        for _ in range(10):
            await asyncio.sleep(0.02)
            yield "x" * 10

    stream = guarded(moderator, window=10).astream(slow())
    assert len([chunk async for chunk in stream]) == 10
    assert len(moderator.asked) <= 4  # ten chunks did not wait for ten checks


async def test_text_waits_no_longer_than_max_delay_for_its_window() -> None:
    moderator = FakeModerator()
    shown = asyncio.Event()

    async def stalls() -> AsyncIterator[str]:
        yield "short"
        await shown.wait()  # for ever, if the text waited for its window
        yield " end"

    chunks = []
    async for chunk in guarded(moderator, window=1000, max_delay=0.2).astream(stalls()):
        chunks.append(chunk)
        shown.set()
    assert chunks == ["short", " end"]


async def test_text_that_arrives_during_a_check_keeps_its_own_clock() -> None:
    moderator = FakeModerator(delay=0.3)

    async def stalls() -> AsyncIterator[str]:
        yield "x" * 50
        await asyncio.sleep(0.05)
        yield "late"
        await asyncio.sleep(2.0)
        yield "end"

    shown: dict[str, float] = {}
    async with ticking() as ticks:
        async for chunk in guarded(moderator, window=50, max_delay=0.3).astream(stalls()):
            shown[chunk[:4]] = ticks.seconds
    assert shown["late"] < 0.05 + 0.3 + 2 * 0.3 + 0.3  # not another max_delay after the first check


async def test_a_flag_passes_and_a_failure_follows_the_policy() -> None:
    flagged = guarded(FakeModerator(unsafe=["damn"]), policy={"default": "flag"}).astream(source(["damn"]))
    assert [chunk async for chunk in flagged] == ["damn"]
    assert flagged.decision is not None
    assert flagged.decision.action == "flag"
    moderator = FakeModerator()
    moderator.fail(Unavailable("planted"))
    closed = guarded(moderator).astream(source(["text"]))
    shown = [chunk async for chunk in closed]
    assert "text" not in shown
    assert closed.decision is not None
    assert closed.decision.failed
    opened = guarded(moderator, policy={"on_failure": "allow"}).astream(source(["text"]))
    assert [chunk async for chunk in opened] == ["text"]


async def test_a_moderator_that_fails_in_the_middle_stops_the_stream() -> None:
    moderator = FakeModerator()

    async def chunks() -> AsyncIterator[str]:
        yield "first window of text. "
        await asyncio.sleep(0.05)
        moderator.fail(Unavailable("planted"))
        yield "second window of text. "

    stream = guarded(moderator, window=5).astream(chunks())
    shown = [chunk async for chunk in stream]
    assert shown[0].startswith("first")
    assert "second" not in "".join(shown)
    assert stream.decision is not None
    assert stream.decision.failed


async def test_an_empty_stream_has_nothing_to_decide() -> None:
    moderator = FakeModerator()
    stream = guarded(moderator).astream(source(["", ""]))
    assert [chunk async for chunk in stream] == ["", ""]
    assert (stream.decision, moderator.asked) == (None, [])


async def test_white_space_alone_is_nothing_to_judge() -> None:
    stream = guarded(FakeModerator()).astream(source(["\n", " "]))
    assert [chunk async for chunk in stream] == ["\n", " "]


async def test_an_error_of_the_source_is_raised_and_unjudged_text_is_not_shown() -> None:
    async def breaks() -> AsyncIterator[str]:
        yield "unjudged"
        raise RuntimeError("planted")

    shown: list[str] = []
    with pytest.raises(RuntimeError, match="planted"):
        async for chunk in guarded(FakeModerator(delay=0.05), window=1000).astream(breaks()):
            shown.append(chunk)
    assert shown == []


@pytest.mark.parametrize("after", [0, 1])
async def test_leaving_early_ends_the_source_and_the_check(after: int) -> None:
    closed = asyncio.Event()
    moderator = FakeModerator(delay=0.0 if after else 10.0)

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "word " * 5
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    async def consume() -> None:
        iterator = guarded(moderator).astream(endless()).__aiter__()
        try:
            await iterator.__anext__()
        finally:
            await iterator.aclose()  # type: ignore[attr-defined]

    task = asyncio.ensure_future(consume())
    await asyncio.sleep(0.1)
    if not after:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(closed.wait(), 1.0)
    await asyncio.sleep(0)
    assert [other for other in asyncio.all_tasks() if other is not asyncio.current_task()] == []


async def test_a_long_stream_asks_about_each_window_once() -> None:
    moderator = FakeModerator()
    chunks = [f"word{number} " for number in range(3000)]
    stream = guarded(moderator, window=4000).astream(source(chunks))
    assert [chunk async for chunk in stream] == chunks
    asked = [exchange.response for exchange in moderator.asked]
    assert len(asked) == len(set(asked))


def test_from_synchronous_code() -> None:
    guard = guarded(FakeModerator(unsafe=["bomb"]), window=4)
    shown = list(sync.iterate(guard.astream(sync.in_thread(iter(["fine ", "and ", "bomb", "tail"])))))
    guard.close()
    assert shown[:-1] == ["fine ", "and "][: len(shown) - 1]  # how much was out depends on who was faster
    assert "bomb" not in "".join(shown)
    assert shown[-1] not in ("fine ", "and ")


# ---------------------------------------------------------------- what a stream may be made of


@pytest.mark.parametrize("chunk", [b"UNSAFE", {"content": "UNSAFE"}, 7, ["UNSAFE"]])
async def test_a_chunk_that_is_no_text_is_an_error_and_never_shown(chunk: Any) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield "Good morning. "
        yield None
        yield chunk

    async with Guard(moderator=FakeModerator(unsafe=["UNSAFE"])) as guard:
        shown: list[str] = []
        with pytest.raises(TypeError, match=r"astream takes text \(str\), not "):
            async for text in guard.astream(chunks()):
                shown.append(text)
    assert "".join(shown) in ("", "Good morning. ")


async def test_a_surrogate_pair_over_two_chunks_is_judged_as_one_character() -> None:
    letters = "".join(chr(0x1D5D4 + ord(letter) - ord("A")) for letter in "UNSAFE")
    halves = letters.encode("utf-16-le", "surrogatepass")
    units = [halves[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(halves), 2)]

    async def chunks() -> AsyncIterator[str]:
        for unit in ["Hello ", *units, " more"]:
            yield unit

    moderator = FakeModerator(unsafe=[letters])
    async with Guard(moderator=moderator) as guard:
        stream = guard.astream(chunks())
        shown = "".join([text async for text in stream])
    assert stream.decision is not None
    assert stream.decision.action == "block"
    assert not any(unit in shown for unit in units)


async def test_half_of_a_pair_at_the_end_is_judged_and_shown() -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "a\ud835"

    async with Guard(moderator=FakeModerator()) as guard:
        assert [text async for text in guard.astream(chunks())] == ["a\ud835"]


async def test_a_long_run_of_white_space_passes_and_is_not_kept() -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "begin"
        for _ in range(5000):
            yield " " * 50
        yield "end"

    moderator = FakeModerator()
    async with Guard(moderator=moderator) as guard:
        shown = "".join([text async for text in guard.astream(chunks())])
    assert shown == "begin" + " " * 250_000 + "end"
    assert max(len(exchange.response or "") for exchange in moderator.asked) < 3000
