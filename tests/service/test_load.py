"""The service under the load that it must bear: faults, clients that leave, a worker that is killed, a stop."""

from __future__ import annotations

import pytest
from benchmarks.service import soak


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_under_10_000_requests_no_answer_is_wrong_or_lost_and_memory_does_not_grow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert soak() == 0, capsys.readouterr().out
