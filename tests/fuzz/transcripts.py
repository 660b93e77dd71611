"""Mutated conversations: reading never raises, and every string is shown, listed, or known to be wordless.

`python -m tests.fuzz.transcripts --count 100000 --withhold 3000 --seed 1 [DIALECT ...]` reads so many mutated messages
of each dialect, and withholds parts of so many mutated conversations.
"""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from tests.transcripts.dialects import DIALECTS
from turnguard.core.decision import Decision, Outcome
from turnguard.core.step import Document, Image, Opaque, Text, ToolCall
from turnguard.core.verdict import Coverage
from turnguard.transcripts.apply import rewritten
from turnguard.transcripts.fields import CARRIERS, holds_no_words
from turnguard.transcripts.message import SPEAKERS, Reading, read_message
from turnguard.transcripts.names import SEALS, known_key

_ODD: tuple[Any, ...] = (
    *(None, True, 7, 1.5, 10**400, "", " ", "how_to_UNSAFE", "UNSAFE thing", "\ud800", b"bytes", b"\x89PNG", []),
    *({}, ["UNSAFE a", {"text": "UNSAFE b"}], {"type": "text", "text": "UNSAFE c"}, {"UNSAFE key": 1}),
    *({"type": "hologram", "beam": "UNSAFE d"}, {"functionCall": {"name": "UNSAFE e", "args": "UNSAFE f"}}),
    *({"type": "tool_result", "tool_use_id": "UNSAFE g", "content": "UNSAFE h"}, ("a", "UNSAFE i"), object()),
    *({"type": "reasoning", "encrypted_content": "UNSAFE j"}, {"data": "UNSAFE k"}, {"source": {"data": "UNSAFE l"}}),
)


@cache
def _packed(dialect: str) -> tuple[bytes, ...]:
    """Each message of a dialect's conversation: unpacking one is the quickest way to copy it."""
    return tuple(pickle.dumps(message) for message in DIALECTS[dialect].conversation(lambda place: f"the {place}"))


def mutated(dialect: str, chance: random.Random) -> list[Any]:
    """A conversation with a few things changed: values, fields, places, and pieces of other dialects."""
    return _changed([pickle.loads(message) for message in _packed(dialect)], chance)  # noqa: S301 - made here


def one_mutated(dialect: str, chance: random.Random) -> list[Any]:
    """The same for a single message of a conversation."""
    return _changed([pickle.loads(chance.choice(_packed(dialect)))], chance)  # noqa: S301 - made here


def _changed(messages: list[Any], chance: random.Random) -> list[Any]:
    for _ in range(chance.randint(1, 4)):
        holders = list(_holders(messages))
        holder = chance.choice(holders)
        value = copy.deepcopy(chance.choice(_ODD)) if chance.random() < 0.7 else copy.deepcopy(chance.choice(holders))
        if isinstance(holder, dict):
            keys = [*holder, "type", "text", "content", "name", "role", "id", "UNSAFE field", "data", "url", "source"]
            holder[chance.choice(keys)] = value
        elif chance.random() < 0.5 and holder:
            holder[chance.randrange(len(holder))] = value
        else:
            holder.append(value)
    return messages


def _holders(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, (dict, list)) and depth < 12:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _holders(item, depth + 1)


def check(messages: list[Any]) -> None:
    """Raises `AssertionError` where a message holds a string that nobody is shown."""
    for message in messages:
        reading = read_message(message)
        shown = "\n".join(_shown(reading))
        causes = {leaf.block.part.cause for leaf in reading.leaves if isinstance(leaf.block.part, Opaque)}
        if any(cause.startswith(("nested", "an object", "a message")) for cause in causes):
            continue  # such a part stands for all that it holds
        for key, text in _strings(message):
            listed = bool(causes) and key in {*CARRIERS, *SEALS, "data", "url"}
            assert listed or _is_accounted(key, text, shown), f"{key}: {text!r} is not shown, of {message!r}"


def _is_accounted(key: str | None, text: str, shown: str) -> bool:
    if not text.strip() or text in shown or text in ("{}", "[]"):
        return True
    if key is None:
        return known_key(text)
    return holds_no_words(key, text) or (key in ("role", "_role", "type") and text in SPEAKERS)


def _shown(reading: Reading) -> Iterator[str]:
    for leaf in reading.leaves:
        part = leaf.block.part
        if isinstance(part, Text):
            yield part.text
            yield _plain_json(part.text)
        elif isinstance(part, ToolCall):
            yield part.name
            yield from _flat(part.arguments)
        elif isinstance(part, (Image, Document)):
            yield str(part.source)
            yield getattr(part, "name", None) or ""
            yield part.media_type or ""


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield _plain_json(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _flat(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield str(value)


def _plain_json(text: str) -> str:
    try:
        return "\n".join(_flat(json.loads(text))) if text[:1] in "[{" else ""
    except (ValueError, RecursionError):
        return ""


def _strings(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str | None, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield None, str(name)
            yield from _strings(item, str(name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item, key, depth + 1)


def run(dialect: str, times: int, seed: int = 1, made: Callable[[str, random.Random], list[Any]] = mutated) -> int:
    """Check this many mutated conversations, or messages, of one dialect; how many."""
    chance = random.Random(seed)  # noqa: S311 - a test's own choice
    for _ in range(times):
        check(made(dialect, chance))
    return times


def _decision(where: tuple[int, int]) -> Decision:
    outcome = Outcome("block")
    return Decision("input", "block", outcome, (), Coverage(), (None,), where=where)


def withhold(messages: list[Any], chance: random.Random) -> None:
    """Raises `AssertionError` where a part that was withheld is still in the messages that are passed on."""
    readings = [read_message(message) for message in messages]
    places = [(at, index) for at, reading in enumerate(readings) for index in range(len(reading.leaves))]
    chosen = [place for place in places if chance.random() < 0.3]
    before = repr(messages)
    new = rewritten(messages, readings, [_decision(place) for place in chosen], lambda _: "[notice]")
    assert repr(messages) == before
    if not chosen:
        assert all(after is old for after, old in zip(new, messages, strict=True))
    kept = "\n".join(
        text
        for at, reading in enumerate(readings)
        for index, leaf in enumerate(reading.leaves)
        if (at, index) not in chosen
        for text in _shown(Reading(None, "person", (leaf,)))
    )
    left = "\n".join(text for message in new for reading in [read_message(message)] for text in _shown(reading))
    for at, index in chosen:
        part = readings[at].leaves[index].block.part
        text = part.text if isinstance(part, Text) else part.name if isinstance(part, ToolCall) else ""
        if len(text) > 6 and text not in kept:
            where = [message for message in new if text in repr(message)]
            assert text not in left, f"{text!r} was withheld from {messages[at]!r} and is left in {where!r}"


def run_withholding(dialect: str, times: int, seed: int = 2) -> int:
    """Withhold parts of this many mutated conversations of one dialect; how many."""
    chance = random.Random(seed)  # noqa: S311 - a test's own choice
    for _ in range(times):
        withhold(mutated(dialect, chance), chance)
    return times


def main() -> None:
    """Try many, dialect by dialect. An exception ends the run."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("dialects", nargs="*", choices=[[], *DIALECTS], default=[])
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--withhold", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    for dialect in chosen.dialects or DIALECTS:
        read = run(dialect, chosen.count, chosen.seed, one_mutated)
        withheld = run_withholding(dialect, chosen.withhold, chosen.seed)
        sys.stdout.write(f"{dialect}: {read:,} messages read, parts of {withheld:,} conversations withheld\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
