"""A check stays flat: few functions of ours stand between a step and its decision."""

from __future__ import annotations

from benchmarks.functions import walked

from turnguard.testing import FakeVLLM

MOST = 80


def test_one_uncached_text_check_runs_through_few_functions() -> None:
    with FakeVLLM() as server:
        calls = walked(server.base_url)
    assert "guard.py:Guard.acheck" in calls
    assert len(calls) <= MOST, "\n".join(sorted(calls))
