"""What the passes share: the text as it stands now, and what was learnt on the way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

Bound = Literal["size", "rounds"]

MOST_UNPACKED: Final = 200_000
"""Characters that one run may become. The rest of a compressed bomb is left out, and the bound is reported."""

GROWTH: Final = 8
"""How many times its own length a run may become. Each run has its own share: one bomb takes nothing from the next."""


@dataclass(slots=True)
class Reading:
    """A text while its disguises come off.

    `told` says whether anything was undone that changes what a reader understands: a hidden letter, not a line break.
    `cut` says whether markup stood between two letters of a word.
    `aside` holds text that stood inside a word, such as a tag's attributes; `settle` puts it behind the rest. `room` is
    how many characters unpacking may still add.
    """

    text: str
    room: int
    told: bool = False
    cut: bool = False
    bound: Bound | None = None
    aside: list[str] = field(default_factory=list)

    def settle(self) -> None:
        """Put what was taken out of words behind the rest of the text."""
        if self.aside:
            self.text = "\n".join((self.text, *self.aside))
            self.aside.clear()


def around(match: re.Match[str]) -> tuple[str, str]:
    """Return the characters before and after a match; empty at the ends of the text."""
    start, end = match.span()
    return match.string[start - 1 : start] if start else "", match.string[end : end + 1]
