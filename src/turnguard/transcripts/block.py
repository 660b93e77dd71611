"""One part of a message, where it stands, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnguard.core.step import Part

Region = Literal["said", "call", "result"]
"""What a part is, whoever's message holds it: something that the message says, a tool call, or a tool's result."""

ARTIFACT = -1
"""The index of blocks that came from a tool message's artifact. `replace` leaves those alone."""


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a message's content, and where it stands.

    `index` is the top-level block that it came from, None where the content is one string, `ARTIFACT` for a tool
    message's artifact. `path` leads from that block to the element that holds the part, and `form` says how it is
    written back: `self` (the element itself), `key:NAME` (a field of it), `media`, `call` or `call:WRAPPER`.

    `region` says what the part is. `pair` is the identifier that joins a call to its result, and `tool` the tool's name
    as far as the block says it.
    """

    part: Part
    index: int | None
    path: tuple[str | int, ...] = ()
    form: str = "self"
    region: Region = "said"
    pair: str | None = None
    tool: str | None = None
