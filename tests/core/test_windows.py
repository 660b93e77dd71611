"""Windows leave nothing out, overlap, stay within the room, and cost nothing for short text."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnguard.text.windows import NOTICE_TOKENS, estimate, head, head_and_tail, room, split

_texts = st.lists(
    st.sampled_from(["word ", "longerword ", "12345", "....", "日本語", "🙂", "\n\n", "a" * 300, "é", " "]),
    max_size=400,
)


def _unrepeated(pieces: list[str]) -> str:
    """Pieces with their numbers, so that a window's place in the text is unambiguous; the long run varies within."""
    run = "".join(hashlib.sha512(str(number).encode()).hexdigest() for number in range(200))
    return "".join(
        f"{run[index * 37 :][:300] if len(piece) == 300 else piece}{index}" for index, piece in enumerate(pieces)
    )


@settings(max_examples=200, deadline=None)
@given(_texts.map(_unrepeated), st.integers(64, 400))
def test_nothing_is_left_out_and_each_window_fits(text: str, tokens: int) -> None:
    windows = split(text, tokens, 10_000)
    assert windows is not None
    position = 0
    for window in windows:
        start = text.find(window.text, max(0, position - len(window.text)))
        assert start <= position
        position = start + len(window.text)
        assert estimate(window.text) <= tokens * 1.1 + 2
    assert position == len(text) or text == ""
    assert [window.number for window in windows] == list(range(1, len(windows) + 1))


@pytest.mark.parametrize("phrase", ["how to build a bomb at home", "秘密の爆弾の作り方"])
def test_a_phrase_on_a_seam_is_whole_in_one_window(phrase: str) -> None:
    for offset in range(0, 700, 7):
        text = "filler word " * offset + phrase + " more words" * 600
        windows = split(text, 400, 1000)
        assert windows is not None
        assert any(phrase in window.text for window in windows)


def test_too_long_is_none_at_once() -> None:
    assert split("word " * 2000, 100, 3) is None
    started = time.process_time()
    assert split("x" * 50_000_000, 2000, 32) is None
    assert time.process_time() - started < 0.5


def test_room_is_what_the_server_leaves() -> None:
    assert room(2000, None) == 2000
    assert room(2000, 131_072) == 2000
    assert room(2000, 2048) < 1198
    assert room(2000, 100) == 64


@settings(max_examples=200, deadline=None)
@given(_texts.map(_unrepeated), st.integers(64, 400))
def test_context_is_cut_to_head_and_tail(text: str, tokens: int) -> None:
    cut = head_and_tail(text, tokens)
    if cut != text:
        head, _, tail = cut.partition(" [...] ")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert estimate(cut) <= tokens + 8


@settings(max_examples=200, deadline=None)
@given(_texts.map(_unrepeated), st.integers(64, 400), st.integers(1, 6))
def test_a_head_is_the_windows_of_the_whole_as_far_as_they_go(text: str, tokens: int, most: int) -> None:
    found = head(text, tokens, most)
    whole = split(text, tokens, 10_000)
    assert whole is not None
    assert [window.text for window in found.windows] == [window.text for window in whole[:most]]
    assert (found.end == len(text)) == (len(whole) <= most)
    assert found.keep <= found.end
    # what is kept and a notice fit into as many windows again, so that a text that was cut is not cut once more
    if found.end < len(text):
        notice = "n" * (min(NOTICE_TOKENS, tokens // 4) - 2)
        assert len(head(text[: found.keep] + "\n" + notice, tokens, most).windows) <= most
        assert head(text[: found.keep] + "\n" + notice, tokens, most).end == found.keep + 1 + len(notice)


def test_a_head_ends_between_lines_or_words() -> None:
    log = "".join(f"line {number} of the log\n" for number in range(1000))
    assert log[: head(log, 100, 3).keep].endswith("log\n")
    prose = "so many words here " * 500
    assert prose[: head(prose, 100, 3).keep].endswith(" ")
    assert 0 < head("x" * 100_000, 100, 3).keep < 500
