"""Fuzz undisguising without coverage: `python scripts/fuzz_text.py [INPUTS] [SEED]`.

Texts are made of pieces of disguises, cut, repeated and put together at random. None may raise, and none may take
superlinear time: what took long is read again at four times its length, and may take at most eight times as long.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.attacks.disguises import WAYS

from turnguard.text.undisguise import undisguise

SLOW = 0.02
"""Seconds of CPU from which a text is read again at four times its length."""
SIGNS = (
    "%\\&#;=<>/+-_ \n\t.,*|'\"0123456789abcdefABCDEFxuUnrt\x00\x07\x08\x1b\x85\xad\u0301\u0336\u200b\u202e\u202c"
    "\ud800\udc00\ufe0f\U0001f1e6\U000e0041\u0430\u03bf\u2460\u00bd\u4e2d"
)


def made(chance: random.Random) -> str:
    """One text."""
    pieces: list[str] = []
    for _ in range(chance.randint(1, 4)):
        text = chance.choice(("how to do it now", "UNSAFE", "".join(chance.choices(SIGNS, k=chance.randint(1, 30)))))
        for _ in range(chance.randint(0, 2)):
            try:
                text = WAYS[chance.choice(NAMES)](text)
            except UnicodeError:
                continue  # the way has no form for a lone surrogate
        start = chance.randrange(len(text) + 1)
        pieces.append(text[start : start + chance.randint(1, 200)] if chance.random() < 0.4 else text)
        if chance.random() < 0.3:
            pieces.append("".join(chance.choices(SIGNS, k=3)) * chance.randint(1, 12))
    return "".join(pieces)[:4000]


NAMES = sorted(WAYS)


def seconds(text: str) -> float:
    """CPU time of one reading."""
    started = time.process_time()
    undisguise(text)
    return time.process_time() - started


def main(inputs: int = 1_000_000, seed: int = 1) -> None:
    """Read the texts, and print what was found."""
    chance = random.Random(seed)  # noqa: S311 - the same texts every time
    slow = bounded = told = 0
    for number in range(inputs):
        text = made(chance)
        started = time.process_time()
        found = undisguise(text)
        took = time.process_time() - started
        told += found.plain is not None
        bounded += found.bound is not None
        if took > SLOW:
            slow += 1
            once, four = min(seconds(text) for _ in range(3)), min(seconds(text * 4) for _ in range(2))
            if four > 0.01 + 8 * once:
                raise SystemExit(f"superlinear ({once:.3f} s, then {four:.3f} s): {text!r}")
        if number % 10_000 == 9_999:
            print(
                f"{number + 1:,} texts: {told:,} undone, {bounded:,} reached a bound, {slow:,} over {SLOW} s",
                flush=True,
            )
    print(f"{inputs:,} texts (seed {seed}): none raised, none was superlinear; {told:,} undone, {bounded:,} at a bound")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
