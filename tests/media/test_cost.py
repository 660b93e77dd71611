"""What preparing a screenshot costs, by the benchmark's own measure: memory, and how it grows with the screen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def benchmark(*more: str) -> str:
    command = [sys.executable, "-m", "benchmarks.media", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=True).stdout


@pytest.mark.parametrize("alpha", [False, True])
def test_peak_memory_stays_under_three_times_the_decoded_size(alpha: bool) -> None:
    grown = float(benchmark("--peak", *(["--alpha"] if alpha else [])))
    assert 0.5 < grown < 3  # below half of it nothing would have been measured


def test_the_cost_is_that_of_the_pillow_operations_and_grows_with_the_screen() -> None:
    result = json.loads(benchmark("--pictures", "--rounds", "3", "--json"))
    assert result["1080p to 4K"] < 0.5
    assert result["4K ratio of CPU time"] < 1.3  # by the clock a busy machine would make this fail
    assert result["4K again ms"] < result["4K prepare ms"] / 10
