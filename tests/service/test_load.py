"""The service under the load that it must bear: faults, clients that leave, a worker that is killed, a stop."""

from __future__ import annotations

import pytest
from benchmarks.service import soak


@pytest.mark.parametrize("requests", [500, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_no_answer_is_wrong_none_is_lost_and_memory_does_not_grow(
    requests: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soak(requests) == 0, capsys.readouterr().out
