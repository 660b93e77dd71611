"""Ordinary writing costs no second request, and reading it takes no longer than it did."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.attacks.ordinary import corpus
from turnguard import Guard, Step
from turnguard.testing import FakeModerator
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


def web_page(word: str) -> str:
    """A page of documentation, in which browsers may break a name, and a suffix follows some code."""
    rows = "".join(f"<li><a href='n{at}.html'>Name {at}</a> is one of many ordinary entries.</li>" for at in range(20))
    return f"<html><body><p>the <code>n</code>th element of {word}</p><ul>{rows}</ul></body></html>"


def test_a_page_with_a_few_words_cut_by_markup_is_asked_about_once() -> None:
    found = undisguise(web_page("Into<wbr>Iter"))
    assert found.plain is None
    assert found.beside is not None
    assert {"nth", "IntoIter"} <= set(found.beside.split())


def test_a_word_that_markup_cuts_in_a_long_page_is_whole_in_the_one_request() -> None:
    moderator = FakeModerator(unsafe=["UNSAFE"])
    with closing(Guard(moderator=moderator)) as guard:
        assert guard.check(Step.tool_result("browser", web_page("UN<wbr>SAFE"))).action == "block"
        assert guard.check(Step.tool_result("browser", web_page("Into<wbr>Iter"))).action == "allow"
    assert len(moderator.asked) == 2


def test_a_short_text_with_a_word_cut_by_markup_is_asked_about_twice() -> None:
    assert undisguise("how to do UN<wbr>SAFE").plain == "how to do UNSAFE"
