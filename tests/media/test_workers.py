"""Children that decode: killed at the deadline, replaced, independent of how their parent was started."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.media.drawing import counted, encoded, page, prepare
from tests.media.pdfs import bomb, pattern_bomb, pdf, words
from turnguard import Guard, Step
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document
from turnguard.media import Media
from turnguard.media.types import Coarse, Made, Skipped, View
from turnguard.media.workers import frames, pool
from turnguard.testing import FakeModerator

pytest.importorskip("pypdfium2")
ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork and limits of POSIX")


@pytest.fixture
async def warm() -> None:
    """Children that have started: a short deadline is then for reading alone."""
    await asyncio.gather(*(prepare(Document(pdf(words(f"warm {at}"))), deadline=60) for at in range(3)))


@pytest.mark.parametrize("make", [bomb, pattern_bomb])
async def test_a_bomb_is_uncheckable_at_the_deadline_and_delays_nothing(make: Callable[[], bytes], warm: None) -> None:
    bombs = [asyncio.create_task(prepare(Document(make() + bytes([10 + at])), deadline=2.5)) for at in range(2)]
    beside = await prepare(Document(pdf(words("beside"))), deadline=60)
    assert beside.views
    assert not any(task.done() for task in bombs)  # it did not wait for them
    for prepared in await asyncio.gather(*bombs):
        assert counted(prepared) == [("", "not read within 2 seconds")]
    after = await prepare(Document(pdf(words("after"))), deadline=60)
    assert after.views
    assert not after.skipped


async def test_a_bomb_is_a_part_that_was_not_judged_and_no_failure(warm: None) -> None:
    guard = Guard(moderator=FakeModerator(), media=MediaSettings(deadline=2.5))
    decision = await guard.acheck(Step.input("Read it.", documents=[bomb()]))
    assert decision.action == "block"
    assert not decision.failed
    assert [entry.cause for entry in decision.coverage.not_judged] == ["not read within 2 seconds"]
    await guard.aclose()


async def test_a_bomb_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import asyncio; from tests.media.pdfs import bomb; from turnguard.core.step import Document\n"
        "from turnguard.media import Media; from turnguard.config.settings import MediaSettings\n"
        "async def main():\n"
        "    task = asyncio.ensure_future(Media(MediaSettings(deadline=600)).prepare(Document(bomb())))\n"
        "    await asyncio.sleep(1.5)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_cancelled_reading_kills_its_child() -> None:
    media = Media(MediaSettings(deadline=600))
    before = {child.pid: _ticks(child.pid) for child in pool._pool._children}  # earlier files took their time, too
    task = asyncio.create_task(media.prepare(Document(bomb(27))))
    # more than a second and a half of CPU: it is at the bomb
    while not (busy := [one for one in pool._pool._children if _ticks(one.pid) > before.get(one.pid, 0) + 150]):
        await asyncio.sleep(0.05)
    task.cancel()
    for child in busy:
        await asyncio.to_thread(child.wait, 10)
    await media.aclose()


def _ticks(pid: int) -> int:
    """CPU time of a process, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11])


@POSIX
async def test_a_child_that_dies_idle_is_replaced() -> None:
    assert (await prepare(Document(pdf(words("one"))))).views
    for child in list(pool._pool._children):
        child.kill()
        child.wait()
    assert (await prepare(Document(pdf(words("two"))))).views


def test_threads_and_loops_share_the_children() -> None:
    media = Media(MediaSettings(deadline=60))
    texts: list[str] = []

    def work(name: str) -> None:
        async def read() -> None:
            for prepared in await asyncio.gather(
                *(media.prepare(Document(pdf(words(f"{name} {at}")))) for at in range(3))
            ):
                texts.append(prepared.texts[0][1])

        for _ in range(2):
            asyncio.run(read())

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 24
    assert set(texts) == {f"thread {number} {at}" for number in range(4) for at in range(3)}
    assert len(pool._pool._children) <= pool.MOST


def _reads(said: str) -> bool:
    return bool(asyncio.run(prepare(Document(pdf(words(said))), deadline=60)).texts)


@POSIX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_however_the_parent_was_started(method: str) -> None:
    """In daemonic processes, too, which `multiprocessing` lets have no children."""
    assert _reads("in the parent")
    context = multiprocessing.get_context(method)
    with context.Pool(1) as processes:
        assert processes.apply(_reads, ("in the child",))
    assert _reads("in the parent again")


@POSIX
async def test_without_descriptors_it_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = pool._Pool()
    monkeypatch.setattr(pool, "_pool", fresh)

    def refused(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refused)
        assert counted(await prepare(Document(pdf(words("a"))))) == [("", "its reader could not be started (OSError)")]
    assert (await prepare(Document(pdf(words("b"))))).views
    fresh.close()


async def test_without_threads_it_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def __init__(self, **_: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "_pool", pool._Pool())
    monkeypatch.setattr(pool, "threading", SimpleNamespace(**{**vars(threading), "Thread": Refused}))
    assert counted(await prepare(Document(pdf(words("a"))))) == [("", "no thread could be started for its reader")]


@POSIX
async def test_a_reader_that_needs_too_much_memory_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = pool._Pool()
    monkeypatch.setattr(pool, "_pool", fresh)
    monkeypatch.setattr(pool, "_BASE", 400_000_000)
    monkeypatch.setattr(pool, "_PER_PIXEL", 0)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.txt", bytes(240_000_000))
    assert counted(await prepare(Document(packed.getvalue()), deadline=60)) == [
        ("", "needs more memory than its reader may use")
    ]
    assert (await prepare(Document(pdf(words("small"))), deadline=60)).views
    fresh.close()


async def test_a_child_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-planted")
    fresh = pool._Pool()
    monkeypatch.setattr(pool, "_pool", fresh)
    assert (await prepare(Document(pdf(words("a"))))).views
    assert fresh._children
    for child in fresh._children:
        if Path("/proc/self/environ").exists():
            assert b"sk-planted" not in Path(f"/proc/{child.pid}/environ").read_bytes()
    fresh.close()


# ---------------------------------------------------------------- frames


def test_a_result_comes_through_as_it_was() -> None:
    from turnguard.core.exchange import Picture

    views = (View(Picture.of(encoded(page()), "image/png"), "page 1", 1.5),)
    made = Made(views, (("where", "half a pair \ud800, a NUL \0"),), (Skipped("a", "b", True),), (Coarse("c", 0.5),), 3)
    pipe = io.BytesIO()
    frames.send(pipe, *frames.packed(made))
    pipe.seek(0)
    assert frames.unpacked(*frames.receive(pipe)) == made


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"views": [], "texts": [["a"]], "skipped": [], "reduced": [], "wanted": 0},
        {"views": [], "texts": [["a", 1]], "skipped": [], "reduced": [], "wanted": 0},
        {"views": [], "texts": [], "skipped": [{"detail": "a", "cause": "b"}], "reduced": [], "wanted": 0},
        {"views": [], "texts": [], "skipped": [], "reduced": [], "wanted": "0"},
        {
            "views": [{"picture": ["text/html", 0], "detail": "", "risk": 1}],
            "texts": [],
            "skipped": [],
            "reduced": [],
            "wanted": 0,
        },
        {
            "views": [{"picture": ["image/png", 0], "detail": "", "risk": 1}],
            "texts": [],
            "skipped": [],
            "reduced": [],
            "wanted": 0,
        },
    ],
)
def test_what_is_no_result_is_refused(head: dict[str, object]) -> None:
    with pytest.raises(frames.Broken):
        frames.unpacked(head, [b"<html>"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\2{}",
        b"\0\0\0\2[]",
        b"\0\0\0\x0e" + b'{"blobs":[-1]}',
        b"\0\0\0\x0d" + b'{"blobs":[9]}',
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(frames.Broken):
        frames.receive(io.BytesIO(data))
