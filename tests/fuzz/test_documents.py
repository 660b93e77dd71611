"""Hostile documents: mutations of files with something in every place, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.documents import READERS, one_input
from tests.media.planted.marks import Planted

pytest.importorskip("pypdfium2")
pytest.importorskip("pypdf")
pytest.importorskip("pi_heif")
pytest.importorskip("resvg_py")
ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.mark.parametrize("reader", READERS)
def test_no_mutation_breaks_a_reader(reader: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.documents", reader, "--count", "150", "--seed", "9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["tried"] == 150
    assert result["read"] > 10  # the mutations do not always destroy the file
    assert result["grown"] < 200 * MEGABYTE


_NAMES = ("", "a.html", "a.eml", "a.txt", "a.pdf", "a.zip", "a.svg")


@given(st.binary(min_size=1, max_size=500), st.sampled_from(_NAMES))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_arbitrary_bytes_of_any_name(data: bytes, name: str) -> None:
    one_input(Planted(data, name))
