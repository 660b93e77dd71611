"""Hostile files: at least 200 by mutation in a process of their own, and arbitrary bytes by property."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.media import one_input, seeds

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


def test_hundreds_of_malformed_files_never_crash_hang_or_pass_by_omission() -> None:
    """In a process of their own: a crash in a C decoder is a failed test, and the peak of memory can be read."""
    pytest.importorskip("pypdfium2")
    command = [sys.executable, "-m", "tests.fuzz.media", "--count", "420", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["tried"] == 420
    assert 20 < result["read"] < 420  # the mutations neither always destroy the file nor never
    assert result["slowest"] < 10
    assert result["grown"] < 100 * MEGABYTE  # 4 megapixels at 4 bytes, three times over, and the decoders' own needs


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes(data: bytes) -> None:
    one_input(data or b"\0")


@given(st.sampled_from(sorted(seeds())), st.binary(max_size=300), st.integers(0, 100))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_good_beginnings_with_arbitrary_ends(name: str, tail: bytes, percent: int) -> None:
    data = seeds()[name]
    one_input(data[: len(data) * percent // 100] + tail or b"\0")
