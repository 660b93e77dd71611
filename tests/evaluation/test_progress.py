"""The bar: rows, rate and time left on a terminal; a line now and then elsewhere."""

from __future__ import annotations

import gc
import io
import sys

import pytest

from turnguard.cli import _bulk


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_rows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    clock = iter(range(1_000))
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("turnguard.cli._bulk.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setenv("COLUMNS", "120")
    with _bulk.bar() as progress:
        progress(1, 0.001, "judging")
        progress(40_123, 0.41, "judging")
    told = terminal.getvalue()
    assert "40,123 rows" in told
    assert "41%" in told
    assert "/s" in told
    assert ":" in told.rsplit("/s", 1)[1]  # time left


def test_without_a_terminal_it_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    now = 0.0
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr("turnguard.cli._bulk.time.monotonic", lambda: now)
    with _bulk.bar() as progress:
        for second in range(100):
            now = float(second)
            progress(second * 10, second / 100, "judging")
    told = lines.getvalue().splitlines()
    assert len(told) == 3
    assert told[-1] == "turnguard: judging: 900 rows (90%), 10/s"


def test_collecting_is_as_it_was_afterwards() -> None:
    before = gc.get_threshold()
    with _bulk.few_collections():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
