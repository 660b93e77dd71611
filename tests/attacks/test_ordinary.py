"""Ordinary writing costs no second request, and reading it takes no longer than it did."""

from __future__ import annotations

import pytest

from tests.attacks.ordinary import corpus
from turnguard.text.undisguise import undisguise

CORPUS = corpus()


# An empty value looks like the soft line break of an e-mail, and joins two names.
ASKED_TWICE = {"KEY=value\nEMPTY=\nOTHER=1\n[section]\nname = x\n"}


@pytest.mark.parametrize("kind", CORPUS)
def test_ordinary_writing_says_what_it_says(kind: str) -> None:
    assert {piece for piece in CORPUS[kind] if undisguise(piece).plain is not None} <= ASKED_TWICE


def test_no_ordinary_writing_reaches_a_bound() -> None:
    assert not [piece for pieces in CORPUS.values() for piece in pieces if undisguise(piece).bound is not None]


def test_the_corpus_is_large_enough_for_one_per_cent() -> None:
    pieces = [piece for pieces in CORPUS.values() for piece in pieces]
    assert len(pieces) > 700
    assert sum(undisguise(piece).plain is not None for piece in pieces) <= len(pieces) // 100
