"""The long runs of `benchmarks/`, made short."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.failover import failover
from benchmarks.soak import soak


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads memory in /proc")
async def test_no_check_is_lost_or_swapped_under_faults_and_cancellations() -> None:
    result = await soak(3000, entries=300)
    assert result.swapped == []
    assert result.lost == 0
    assert result.cancelled > 5
    assert result.failed > 5
    assert result.decided["block"] > 500
    assert result.grown < 5_000_000


async def test_a_replica_killed_under_load_costs_no_check() -> None:
    before, after, failed, _ = await failover(1.0)
    assert failed == []
    assert min(len(before), len(after)) > 20
