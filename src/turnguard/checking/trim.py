"""What could not be judged is cut off: what was judged passes, with a notice that says how much is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from turnguard.core.step import Document, Image, Part, Text


@dataclass(frozen=True, slots=True)
class Kept:
    """The text of a part as far as it was judged, and how many characters it has without the cut."""

    text: str = field(repr=False)
    total: int

    @property
    def cut(self) -> int:
        """Characters that are cut off."""
        return self.total - len(self.text)


Notice = Callable[[int, int], str]
"""Words for a text that lacks so many characters of so many; of a file that lacks none, something else is missing."""


def trimmed(
    parts: Sequence[Part], cut: Sequence[int], kept: Mapping[int, Kept | Image | Document]
) -> dict[int, Part | None] | None:
    """The parts as far as they were judged: those at `cut` as text (None: nothing of it was), a picture without what
    stands behind its end. None where that leaves nothing, or where a part cannot be cut.
    """
    made: dict[int, Part | None] = dict(enumerate(parts))
    for index in cut:
        known, part = kept.get(index), parts[index]
        if isinstance(known, (Image, Document)):
            made[index] = known
        elif isinstance(known, Kept) and isinstance(part, (Text, Document)):
            made[index] = Text(known.text) if known.text.strip() else None
        else:
            return None
    return made if any(made.values()) else None


def with_notices(
    parts: Sequence[Part | None], cut: Sequence[int], kept: Mapping[int, Kept | Image | Document], notice: Notice
) -> tuple[Part | None, ...]:
    """The parts with a notice at the end of each text that was cut. Parts that are cut off whole share the notice of
    the one before them, or the first of them becomes a notice. A picture is whole without what stood behind it.
    """
    made = list(parts)
    texts = {index: known for index in sorted(cut) if isinstance(known := kept[index], Kept)}
    for run in _runs([*texts], parts):
        missing = sum(texts[index].cut for index in run)
        told = notice(missing, sum(texts[index].total for index in run))
        first = made[run[0]]
        made[run[0]] = Text(f"{first.text.rstrip()}\n\n{told}" if isinstance(first, Text) else told)
    return tuple(made)


def _runs(cut: Sequence[int], parts: Sequence[Part | None]) -> list[list[int]]:
    """The cut parts, each with those that are cut off whole right behind it."""
    runs: list[list[int]] = []
    for index in cut:
        if runs and parts[index] is None and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def longer_than(text: str) -> str:
    """The length of what was judged of a text that is too long for one check, in words that a person can use."""
    words = text.count(" ") + text.count("\n")  # near enough for two digits
    if words and len(text) / words <= 12:
        return f"longer than {_round(words)} words"
    return f"longer than {_round(len(text))} characters"


def _round(number: int) -> str:
    """Two digits and zeros: a number for people, the same for texts that are nearly the same."""
    size = max(1, 10 ** (len(str(number)) - 2))
    return f"{number // size * size:,}"
