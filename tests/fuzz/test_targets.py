"""The fuzzing targets under Hypothesis: always, in a few seconds. `scripts/fuzz.py` runs the same ones for longer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS

_PIECES = sorted({seed[at : at + 12] for seeds in SEEDS.values() for seed in seeds for at in range(0, len(seed), 6)})


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_pass(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_target(name: str) -> None:
    @settings(max_examples=250, deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(_PIECES), max_size=20).map(b"".join)))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_of_a_seed_breaks_a_target(name: str) -> None:
    chance = random.Random(6)  # noqa: S311 - the same mutations every time
    for _ in range(300):
        data = bytearray(chance.choice(SEEDS[name]))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        TARGETS[name](bytes(data))
