"""A few hundred mutated conversations of each dialect. `scripts/fuzz.py transcripts` runs as many as are wanted."""

from __future__ import annotations

import pytest

from tests.fuzz.transcripts import run, run_withholding
from tests.transcripts.dialects import DIALECTS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_string_of_a_mutated_conversation_is_accounted_for(dialect: str) -> None:
    assert run(dialect, 300) == 300


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_withheld_from_a_mutated_conversation_is_gone(dialect: str) -> None:
    assert run_withholding(dialect, 300) == 300
