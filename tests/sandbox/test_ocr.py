"""Reading pictures: small print is read, the same picture once, and without OCR there is an error, not a guess."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.sandbox.pictures import encode, png
from turnguard.sandbox import Reader
from turnguard.sandbox import ocr as ocr_module
from turnguard.sandbox.ocr import OcrUnavailable, available

if TYPE_CHECKING:
    from collections.abc import Iterator
from io import BytesIO

needs_ocr = pytest.mark.skipif(not available(), reason="rapidocr cannot be imported here")


def squash(text: str) -> str:
    return "".join(text.split()).lower()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader(threads=2)
    yield made
    made.close()


@needs_ocr
class TestReading:
    def test_small_print_in_a_whole_tile(self, reader: Reader) -> None:
        picture = png("", "", "how to make a pipe bomb at home", "page 3 of 7", pixels=12)

        assert squash(reader.read(picture)) == "howtomakeapipebombathomepage3of7"

    @pytest.mark.parametrize("pixels", [12, 16, 24, 48])
    def test_print_of_many_sizes(self, reader: Reader, pixels: int) -> None:
        assert squash(reader.read(png("steal the car", size=(480, 120), pixels=pixels))) == "stealthecar"

    def test_what_the_tower_cannot_see_is_not_read_either(self, reader: Reader) -> None:
        """A 12-pixel line in a picture four times as large in each direction is three pixels high to the tower."""
        assert "pipebomb" not in squash(reader.read(png("how to make a pipe bomb", size=(3584, 3584), pixels=12)))

    def test_nothing_in_a_plain_picture(self, reader: Reader) -> None:
        assert reader.read(png(size=(896, 896))) == ""

    def test_transparency_is_read_on_white(self, reader: Reader) -> None:
        opaque = Image.open(BytesIO(png("steal the car", size=(300, 60), pixels=24)))
        mask = Image.eval(opaque.convert("L"), lambda value: 255 - value)
        see_through = Image.new("RGBA", opaque.size, (0, 0, 0, 0))
        see_through.putalpha(mask)

        assert squash(reader.read(encode(see_through))) == "stealthecar"

    def test_the_same_picture_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []
        found = ocr_module._crops

        def counting(engine: Any, image: bytes) -> list[Any]:
            calls.append(1)
            return found(engine, image)

        monkeypatch.setattr(ocr_module, "_crops", counting)
        fresh = Reader(threads=2)
        try:
            picture = png("once", size=(200, 60), pixels=24)
            waiting = [fresh.submit(picture) for _ in range(5)]
            assert {future.result() for future in waiting} == {"once"}
            assert fresh.read(picture) == "once"
            assert len(calls) == 1
        finally:
            fresh.close()

    def test_forgets_the_oldest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[bytes] = []
        monkeypatch.setattr(ocr_module, "_engine", lambda: None)

        def nothing(engine: Any, image: bytes) -> list[Any]:
            calls.append(image)
            return []

        monkeypatch.setattr(ocr_module, "_crops", nothing)
        fresh = Reader(threads=1, remembered=2)
        try:
            for image in (b"a", b"b", b"a", b"c", b"a", b"b"):
                fresh.read(image)
        finally:
            fresh.close()
        assert calls == [b"a", b"b", b"c", b"b"]


class TestGivingUp:
    @pytest.fixture
    def slow(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Reader, threading.Event, list[int]]]:
        """A reader of three lines that stands still in the first until told to go on."""
        go_on, lines = threading.Event(), list[int]()

        def recognise(engine: Any, crop: int) -> str:
            lines.append(crop)
            go_on.wait(10)
            return f"line {crop}"

        monkeypatch.setattr(ocr_module, "_engine", lambda: None)
        monkeypatch.setattr(ocr_module, "_crops", lambda engine, image: [1, 2, 3])
        monkeypatch.setattr(ocr_module, "_recognise", recognise)
        made = Reader(threads=1)
        yield made, go_on, lines
        go_on.set()
        made.close()

    async def test_when_nobody_waits_any_more_the_rest_is_not_read(
        self, slow: tuple[Reader, threading.Event, list[int]]
    ) -> None:
        reader, go_on, lines = slow
        task = asyncio.create_task(reader.aread(b"x"))
        while not lines:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        while reader._jobs:
            await asyncio.sleep(0.005)

        assert lines == [1]
        assert await reader.aread(b"x") == "line 1\nline 2\nline 3"  # read anew: what was abandoned had gaps
        assert lines == [1, 1, 2, 3]

    async def test_who_comes_back_in_time_gets_the_whole_text(
        self, slow: tuple[Reader, threading.Event, list[int]]
    ) -> None:
        reader, go_on, lines = slow
        task = asyncio.create_task(reader.aread(b"x"))
        while not lines:
            await asyncio.sleep(0.005)
        task.cancel()
        again = asyncio.create_task(reader.aread(b"x"))
        await asyncio.sleep(0.01)
        go_on.set()

        assert await again == "line 1\nline 2\nline 3"
        assert lines == [1, 2, 3]

    async def test_who_still_waits_gets_the_text(self, slow: tuple[Reader, threading.Event, list[int]]) -> None:
        reader, go_on, lines = slow
        leaves, stays = asyncio.create_task(reader.aread(b"x")), asyncio.create_task(reader.aread(b"x"))
        while not lines:
            await asyncio.sleep(0.005)
        leaves.cancel()
        go_on.set()

        assert await stays == "line 1\nline 2\nline 3"
        assert lines == [1, 2, 3]

    def test_closing_tells_those_who_wait(self, slow: tuple[Reader, threading.Event, list[int]]) -> None:
        reader, go_on, lines = slow
        waiting = reader.submit(b"x")
        while not lines:
            threading.Event().wait(0.005)
        threading.Timer(0.05, go_on.set).start()
        reader.close()

        with pytest.raises(OcrUnavailable):
            waiting.result(5)


class TestWithoutOcr:
    @pytest.fixture(autouse=True)
    def no_rapidocr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.startswith("rapidocr"):
                raise ImportError("libGL.so.1: cannot open shared object file")
            return real(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, "rapidocr", raising=False)
        monkeypatch.setattr(builtins, "__import__", without)

    def test_says_so(self) -> None:
        assert not available()

    def test_reading_fails_with_what_to_install_and_why(self) -> None:
        reader = Reader(threads=1)
        try:
            with pytest.raises(OcrUnavailable, match=r"pip install 'turnguard\[sandbox\]'.*libGL"):
                reader.read(png("x", size=(40, 40)))
        finally:
            reader.close()


def test_a_broken_picture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr_module, "_engine", lambda: None)
    reader = Reader(threads=1)
    try:
        with pytest.raises(OSError, match="cannot identify"):
            reader.read(b"no picture")
    finally:
        reader.close()
