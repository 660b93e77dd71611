"""A fork copies locks that another thread holds and pools whose threads stay behind: the child works all the same."""

from __future__ import annotations

import os
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.attacks.kit import picture
from tests.faults.children import in_a_child
from tests.media.pdfs import bomb, pdf, words
from turnguard import Document, Guard, Policy, Step
from turnguard.config.settings import AuditSettings, MediaSettings
from turnguard.core.step import Image
from turnguard.media import Media
from turnguard.moderators.memory import Remembering
from turnguard.testing import FakeModerator, FakeVLLM

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def passes(guard: Guard, step: Step) -> bool:
    decision = guard.check(step)
    return (decision.action, decision.failed) == ("allow", False)


def test_a_fork_in_the_middle_of_a_burst_leaves_the_child_able_to_check(fake: FakeVLLM) -> None:
    """The parent's requests are not under way in the child, and a lock that another thread held is free there."""
    fake.latency = 0.4
    guard = Guard.from_dict(
        {"moderator": {"base_url": fake.base_url, "max_in_flight": 2, "max_waiting": 0, "deadline": 5.0}}
    )
    threads = [threading.Thread(target=guard.check, args=(Step.input(f"busy {n}"),)) for n in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.15)
    memory = guard.moderator
    assert isinstance(memory, Remembering)
    with memory._lock, memory._verdicts._lock:
        in_a_child(lambda: passes(guard, Step.input("from the child")))
    for thread in threads:
        thread.join(5)
    guard.close()


def test_the_childs_decisions_are_recorded_too(tmp_path: Path) -> None:
    guard = Guard(Policy.from_dict({}), FakeModerator(), audit=AuditSettings(path=str(tmp_path / "{pid}.jsonl")))
    guard.check(Step.input("parent"))

    def work() -> bool:
        guard.check(Step.input("child"))
        guard.close()
        return True

    in_a_child(work)
    guard.close()
    assert [len(file.read_text().splitlines()) for file in tmp_path.iterdir()] == [1, 1]


PICTURE, PAGES = picture(), pdf(words("first"))


def with_media() -> tuple[Guard, Media]:
    """A guard that has read a picture and a document: its threads and its memory exist."""
    guard = Guard(Policy.from_dict({}), FakeModerator(), media=MediaSettings(deadline=5.0))
    assert passes(guard, Step.input("look", images=[picture("blue")]))
    return guard, guard._media


@pytest.mark.parametrize("held", ["the memory of what was read", "the reader itself", "nothing but its threads"])
def test_the_child_reads_pictures(held: str) -> None:
    guard, media = with_media()
    lock = {"the memory of what was read": media._memo._lock, "the reader itself": media._lock}.get(held)
    with lock or threading.Lock():
        in_a_child(lambda: passes(guard, Step.input("look", images=[PICTURE])))
    guard.close()


def test_the_child_reads_a_picture_that_the_parent_is_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from turnguard.media import media as _media
    from turnguard.media.read import read

    go, begun = threading.Event(), threading.Event()

    def slowly(*arguments: object) -> object:
        begun.set()
        go.wait(5)
        return read(*arguments)  # type: ignore[arg-type]

    guard, _ = with_media()
    monkeypatch.setattr(_media, "read", slowly)
    reading = threading.Thread(target=guard.check, args=(Step.input("look", images=[PICTURE]),))
    reading.start()
    begun.wait(5)

    def work() -> bool:
        monkeypatch.setattr(_media, "read", read)
        return passes(guard, Step.input("look", images=[PICTURE]))

    in_a_child(work)
    go.set()
    reading.join(5)
    guard.close()


@pytest.mark.skipif(find_spec("pypdfium2") is None, reason="needs the documents extra")
def test_the_child_reads_documents_while_the_parent_reads_one() -> None:
    guard = Guard(Policy.from_dict({}), FakeModerator(), media=MediaSettings(deadline=60))
    step = Step("input", (Document(PAGES, "application/pdf"),))
    slow = Guard(moderator=FakeModerator(), media=MediaSettings(deadline=5))
    reading = threading.Thread(target=slow.check, args=(Step("input", (Document(bomb()),)),))
    reading.start()
    in_a_child(lambda: passes(guard, step), seconds=30)
    reading.join(30)
    guard.close()
    slow.close()


def test_the_child_learns_languages_while_the_parent_does() -> None:
    from turnguard.text import language

    def work() -> bool:
        language._loaded.clear()
        return language.guess("how is the weather in the north of the country today") == "en"

    with language._lock:
        in_a_child(work)


def test_the_child_looks_up_what_a_cache_holds() -> None:
    from turnguard.runtime.caches import Cache

    known: Cache[str, str] = Cache(5)
    known.put("a", "b")
    with known._lock:
        in_a_child(lambda: known.get("a") == "b")


@pytest.mark.skipif(find_spec("rapidocr") is None, reason="needs the sandbox extra")
@pytest.mark.filterwarnings("ignore")
def test_the_child_reads_text_in_pictures() -> None:
    from tests.media.drawing import encoded, page
    from turnguard.sandbox.ocr import Reader

    reader = Reader(threads=1)
    reader.read(encoded(page((200, 60), "parent")))
    image = encoded(page((200, 60), "child"))
    with reader._lock, reader._engine_lock:
        in_a_child(lambda: isinstance(reader.read(image), str), seconds=30.0)
    reader.close()


def test_pictures_are_read_in_a_child_that_never_saw_the_parent_read_one() -> None:
    guard = Guard(Policy.from_dict({}), FakeModerator(), media=MediaSettings(deadline=5.0))
    in_a_child(lambda: passes(guard, Step("input", (Image(PICTURE),))))
    guard.close()
