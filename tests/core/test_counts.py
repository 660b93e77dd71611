"""The counts in the README's table, by the code that measures them. Times are for `make bench`, counts are for here."""

from __future__ import annotations

import pytest

from turnguard.testing import FakeVLLM

core = pytest.importorskip("benchmarks.core", reason="the benchmarks are in the repository only")
counts = pytest.importorskip("benchmarks.peers.counts")


def test_an_agent_of_four_model_and_three_tool_steps_asks_once_about_each_new_step() -> None:
    pytest.importorskip("langchain")
    assert counts.measure("turnguard") == {"requests": 8, "alike": 0, "steps": 8}


async def test_sixty_four_identical_checks_make_one_request() -> None:
    with FakeVLLM(latency=0.05) as server:
        assert await core.identical(server.base_url) == 1
        assert len(server.chats) == 1


async def test_the_same_screenshot_with_the_same_text_makes_no_request() -> None:
    with FakeVLLM() as server:
        _, asked, megabytes = await core.screenshot_again(server.base_url)
        assert (asked, megabytes < 2) == (0, True)
        assert server.chats
