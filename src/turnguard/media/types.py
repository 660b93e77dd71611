"""What preparing gives back, and the one exception that the wing uses inside itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from turnguard.core.exchange import Picture
from turnguard.core.step import Document, Image


@dataclass(frozen=True, slots=True)
class View:
    """One picture as the model will see it.

    `detail` is empty for the whole picture, else such as "tile 3 of 6", "frame 2", "page 4, tile 2 of 6", "on dark
    ground". `risk`: higher is judged first where the budget binds. Whole views are above 1, tiles below, by the
    detail that only they show.
    """

    picture: Picture
    detail: str
    risk: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not judged and why. `counts` is False for what needs no judgement: a tile of one colour, a repeat.

    `recorded` is "audio" or "video" for what stands behind a picture's end and can be cut off there.
    """

    detail: str
    cause: str
    counts: bool
    recorded: str = ""


@dataclass(frozen=True, slots=True)
class Coarse:
    """What is judged whole but at a lower resolution than it has. `scale` is shown ÷ original, 0 to 1."""

    detail: str
    scale: float


class Made(NamedTuple):
    """What was made of some bytes, whatever part they came from. The fields are those of `Prepared`."""

    views: tuple[View, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    reduced: tuple[Coarse, ...] = ()
    wanted: int = 0

    @property
    def weight(self) -> int:
        """Bytes held, about."""
        held = sum(len(view.picture.data) + len(view.picture.base64) + 256 for view in self.views)
        return held + sum(4 * len(text) for _, text in self.texts) + 256 * (1 + len(self.skipped))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A part made ready.

    `pinned` is what may be passed on: the very bytes that the views were made from. `views` are sorted by risk.
    `texts` are (detail, text) pairs of a document, hidden layers included, or of a picture's metadata. `wanted` is how
    many views would show all of it at full resolution: more than `views` where the limit was lower. `without` is a
    picture without the sound or film behind its end, where there is one.
    """

    pinned: Image | Document
    views: tuple[View, ...] = ()
    texts: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    skipped: tuple[Skipped, ...] = ()
    reduced: tuple[Coarse, ...] = ()
    wanted: int = 0
    without: Image | Document | None = None


class Unreadable(Exception):
    """The content cannot be judged; `str()` is the cause, safe to log."""
