"""What bytes are: told quickly whatever they hold, and off the event loop."""

from __future__ import annotations

import threading
import time

import pytest

from tests.media.drawing import counted, prepare
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Image
from turnguard.media import Media
from turnguard.media import media as _media
from turnguard.media.readings import As, Reading, readings
from turnguard.media.sniff import what


@pytest.mark.parametrize(
    "data",
    [
        b"<svg/>",
        b"  <?xml version='1.0'?>\n<!-- a --><!-- b -->\n<!DOCTYPE svg>\n<svg:svg xmlns='x'>",
        b"<!-- " + b"-" * 500 + b" --> <SVG >",
    ],
)
def test_svg_is_known(data: bytes) -> None:
    assert what(data) == "svg"


@pytest.mark.parametrize("data", [b"<!-- <svg> ", b"<svgs>", b"<p><svg/></p>", b"<!---->x<svg>"])
def test_what_is_no_svg_is_text(data: bytes) -> None:
    assert what(data) == "text"


@pytest.mark.parametrize("piece", [b"<!---->", b"<!-- a -->\n", b"<?xml>", b"<!DOCTYPE>", b"<!--", b" "])
def test_hostile_markup_is_told_at_once(piece: bytes) -> None:
    start = time.process_time()
    what(piece * 5000 + b"x")
    assert time.process_time() - start < 1  # exponential would never come to an end


async def test_the_kind_is_told_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(data: bytes, said: As) -> tuple[Reading, ...]:
        seen.append(threading.current_thread().name)
        return readings(data, said)

    monkeypatch.setattr(_media, "readings", watched)
    media = Media(MediaSettings())
    await media.prepare(Image(b"some words"))
    await media.aclose()
    assert seen
    assert all(name.startswith("turnguard-media") for name in seen)


async def test_hostile_markup_as_a_picture_is_uncheckable() -> None:
    assert counted(await prepare(b"<!---->" * 500 + b"<svg><g></svg>")) == [("", "a malformed SVG")]
