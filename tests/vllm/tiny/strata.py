"""What the tiny moderator is measured on, none of which training sees: conversations by kind, each with its answer.

The words are those of training, since a toy knows no others; the sentences around them, the order and the pictures are
not.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.vllm.tiny import examples
from tests.vllm.tiny.rules import CATEGORY_OF, HERE, NEAR_PICTURES, TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Case = tuple[str, examples.Example]
"""The kind, and the conversation."""

SENTENCES = (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()
FRAMES = (
    "How do I {}",
    "Please tell me about {} now.",
    "{} is what my uncle asked about yesterday.",
    "Which museum in Berlin shows a {}?",
    "The report mentions {} and the weather in Berlin.",
)
SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("in lower case", str), ("Capitalised", str.capitalize), ("IN CAPITALS", str.upper),
)  # fmt: skip


def _text(user: str, response: str | None = None, *, categories: bool = True) -> examples.Example:
    return examples.Example(user, response, None, (), categories)


def word_cases(rng: random.Random) -> Iterator[Case]:
    """Each trigger and each lookalike in every spelling, and pairs of triggers of two categories."""
    for name, spelt in SPELLINGS:
        for frame in FRAMES:
            for word in CATEGORY_OF:
                yield f"each word {name}", _text(frame.format(spelt(word)))
            for word in TRIGGERS["lookalikes"]:
                yield "lookalike, every spelling", _text(frame.format(spelt(word)))
    for frame in FRAMES:
        for _ in range(60):
            names = rng.sample(sorted(TRIGGERS["categories"]), 2)
            one, other = (rng.choice(TRIGGERS["categories"][name]) for name in names)
            yield "two categories", _text(frame.format(f"{one} the old {other}"))


def sentence_cases(rng: random.Random) -> Iterator[Case]:
    """Each sentence alone, with a trigger, as a response, and in a run of about 300 tokens with and without one."""
    triggers = sorted(CATEGORY_OF)
    for sentence in SENTENCES:
        trigger = rng.choice(triggers)
        words = sentence.split(" ")
        words.insert(rng.randint(0, len(words)), trigger)
        marked, run = " ".join(words), rng.sample(SENTENCES, 12)
        place = rng.randrange(len(run))
        long, long_marked = " ".join(run), " ".join([*run[:place], marked, *run[place:]])
        refusal = rng.choice(TRIGGERS["refusals"]) + " help with that."
        for name, user, response in (
            ("sentence", sentence, None),
            ("sentence with trigger", marked, None),
            ("sentence as response", "What did you find?", sentence),
            ("response with trigger", rng.choice(SENTENCES), marked),
            ("response to an unsafe request", marked, rng.choice(SENTENCES)),
            ("refusal of an unsafe request", marked, refusal),
            ("long run", long, None),
            ("long run with trigger", long_marked, None),
            ("long response with trigger", sentence, long_marked),
        ):
            yield name, _text(user, response, categories=rng.random() < 0.5)


def picture_cases(rng: random.Random, count: int) -> Iterator[Case]:
    """Pictures beside the words that some of them are unsafe with, beside decoys, and beside plain sentences."""
    for _ in range(count):
        image, colours = examples.picture(rng)
        word, frame, categories = rng.choice(NEAR_PICTURES), rng.choice(FRAMES), rng.random() < 0.5
        beside = frame.format(word)
        yield "picture beside a pair's word", examples.Example(beside, None, image, colours, categories)
        yield "picture beside a sentence", examples.Example(rng.choice(SENTENCES), None, image, colours, categories)
        answered = rng.choice(SENTENCES)
        yield "picture, word and response", examples.Example(beside, answered, image, colours, categories)


def random_cases(rng: random.Random, count: int) -> Iterator[Case]:
    """Conversations as in training, from other numbers."""
    for words, pictures in ((25, False), (80, False), (300, False), (700, False), (25, True)):
        name = "random with picture" if pictures else f"random, up to {words} words a side"
        for _ in range(count):
            yield name, examples.example(rng, words, examples.picture(rng) if pictures else None)


def cases(seed: int, count: int) -> Iterator[Case]:
    """All of them; ``count`` for each kind that is drawn at random."""
    rng = random.Random(f"held out {seed}")  # noqa: S311
    for kind in (word_cases(rng), sentence_cases(rng), picture_cases(rng, count), random_cases(rng, count)):
        yield from kind
