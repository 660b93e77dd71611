"""Servers that are wrong only now and then, or only in pictures: each is found, whatever comes first and by whatever luck.

Two examinations of each, and with the exhaustive tests ten more, or as many as `TURNGUARD_PLANTED_RUNS` says.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.doctor import page
from tests.doctor.conftest import GUNS, RED, Examine, moderating
from turnguard.doctor.canaries import UNSAFE, joint
from turnguard.testing import FakeVLLM, faults


def _by_picture(server: FakeVLLM, unsafe: Callable[[Any], bool]) -> None:
    """Let `unsafe` decide about every picture that decides alone."""

    def asked(chat: Any) -> bool:
        return bool(chat.images) and joint.QUESTION not in chat.prompt

    server.when(asked, user="safe")
    server.when(lambda chat: asked(chat) and unsafe(chat), user="unsafe", categories=GUNS)


def _text_only(server: FakeVLLM) -> None:
    server.drop_images = True


def _text_decides(server: FakeVLLM) -> None:
    server.when(lambda chat: bool(chat.images) and UNSAFE not in chat.prompt, user="safe")


def _one_replica_of_two_is_text_only(server: FakeVLLM) -> None:
    server.when(lambda chat: bool(chat.images) and random.random() < 0.5, user="safe")  # noqa: S311


def _first_picture_answers_for_all(server: FakeVLLM) -> None:
    first: list[bool] = []

    def unsafe(chat: Any) -> bool:
        first.append(RED in chat.images)
        return first[0]

    _by_picture(server, unsafe)


def _caching_by_the_text(server: FakeVLLM) -> None:
    first: dict[str, bool] = {}
    _by_picture(server, lambda chat: first.setdefault(chat.prompt, RED in chat.images))


def _caching_by_the_text_half_of_the_time(server: FakeVLLM) -> None:
    first: dict[str, bool] = {}

    def unsafe(chat: Any) -> bool:
        before = first.setdefault(chat.prompt, RED in chat.images)
        return before if random.random() < 0.5 else RED in chat.images  # noqa: S311

    _by_picture(server, unsafe)


def _empty_one_time_in_five(server: FakeVLLM) -> None:
    server.fail(faults.content(""), probability=0.2)


def _float16(server: FakeVLLM) -> None:
    server.fail(faults.content("<pad><pad><pad>", finish_reason="stop"))


def _float16_with_pictures(server: FakeVLLM) -> None:
    server.fail(faults.content("!!!!!!!!", finish_reason="stop"), when=lambda chat: bool(chat.images))


def _float16_one_time_in_five(server: FakeVLLM) -> None:
    server.fail(faults.content("!!!!!!!!", finish_reason="stop"), probability=0.2)


def _reasoning_parser(server: FakeVLLM) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "User Safety: safe"}
    server.fail(faults.json_body({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))


PLANTED: dict[str, tuple[Callable[[FakeVLLM], None], tuple[str, ...]]] = {
    "text only: pictures are dropped": (_text_only, ("--enable-multimodal",)),
    "text only: the text decides": (_text_decides, ("image_url",)),
    "one replica of two is text only": (
        _one_replica_of_two_is_text_only,
        ("image_url", "--no-enable-prefix-caching", "no proxy split"),
    ),
    "the first picture answers for all": (_first_picture_answers_for_all, ("image_url", "--no-enable-prefix-caching")),
    "prefix caching mixes pictures": (_caching_by_the_text, ("--no-enable-prefix-caching",)),
    "prefix caching mixes half of them": (_caching_by_the_text_half_of_the_time, ("--no-enable-prefix-caching",)),
    "one empty reply in five": (_empty_one_time_in_five, ("--dtype bfloat16", "server's log")),
    "float16": (_float16, ("--dtype bfloat16",)),
    "float16, with pictures alone": (_float16_with_pictures, ("--dtype bfloat16",)),
    "float16, one reply in five": (_float16_one_time_in_five, ("--dtype bfloat16",)),
    "a reasoning parser": (_reasoning_parser, ("without --reasoning-parser",)),
}
"""What is planted, and of which changes doctor must name one."""


RUNS = int(os.environ.get("TURNGUARD_PLANTED_RUNS", "10"))
"""Of a hundred, at most one may pass."""


@pytest.mark.parametrize("runs", [2, pytest.param(RUNS, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("planted", PLANTED)
async def test_it_is_found(planted: str, runs: int, examined: Examine, capsys: pytest.CaptureFixture[str]) -> None:
    plant, changes = PLANTED[planted]
    passed = named = 0
    for _ in range(runs):
        with FakeVLLM() as server:
            plant(moderating(server))
            found = await examined(base_url=server.base_url)
        passed += found.report.exit_code == 0
        told = [finding.change or "" for finding in found.by_name.values() if finding.status == "failed"]
        named += any(change in each for change in changes for each in told)
    with capsys.disabled():
        print(f"\n{planted}: {passed} of {runs} passed, {named} of {runs} named", end="")  # noqa: T201
    luck = 1 if runs > 2 else 0
    assert passed <= luck
    assert named >= runs - luck


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
async def test_a_right_set_up_is_never_blamed(examined: Examine) -> None:
    for _ in range(RUNS):
        with FakeVLLM() as server:
            found = await examined(base_url=moderating(server).base_url)
        assert found.failed == set(), found.by_name


def test_the_page_is_made_of_the_table() -> None:
    assert page.DOCUMENT.read_text(encoding="utf-8") == page.document(), "run `make docs-tables`"
