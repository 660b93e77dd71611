"""The seam: what a moderator is, and how much time it has."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Protocol, cast

from turnguard.core.errors import Timeout
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict

HERE = "here:"
"""How an identity begins that holds in this process alone, because the model behind it is not known by name."""


class Deadline:
    """A moment on the monotonic clock: setting the wall clock moves nothing."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that lies `seconds` ahead."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def check(self) -> None:
        """Raise `Timeout` when the moment has passed."""
        if time.monotonic() >= self.at:
            raise Timeout("the deadline passed")


@dataclass(frozen=True, slots=True)
class About:
    """What a moderator says of itself; `max_model_len` is in tokens.

    A verdict is remembered under the `identity` of the model that gave it. None: several could answer and they differ,
    so that nothing remembered counts. One that begins with `HERE` holds in this process alone. `images` is False where
    the model judges no pictures.
    """

    identity: str | None
    max_model_len: int | None = None
    images: bool = True


class Moderator(Protocol):
    """Judges one exchange. Raises `ModeratorError` when it has no verdict; never guesses one.

    It may have more than `judge`, and none of it must be there: `about` (see `Describes`), `aclose` (see `Closes`), and
    `managed`, which is true where verdicts are remembered and requests held back already, so that a guard adds neither.
    """

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The verdict on this exchange, before the deadline.

        Is cancelled at the deadline, and when nobody waits any more; it must then end at once. What it gives after that
        counts for nothing.
        """
        ...


class Wrapper:
    """A moderator around another one: all but judging is the inner one's own affair."""

    def __init__(self, inner: Moderator) -> None:
        self.inner = inner

    @property
    def managed(self) -> bool:
        """Whether the inner moderator has a memory and a gate."""
        return managed(self.inner)

    async def about(self, deadline: Deadline) -> About:
        """The inner moderator's own words."""
        return await about(self.inner, deadline)

    async def aclose(self) -> None:
        """Close the inner moderator."""
        await aclose(self.inner)


class Untold(Wrapper):
    """A moderator whose family takes no categories of one's own: it judges by its own alone."""

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The inner verdict on the same content."""
        plain = exchange if exchange.own is None else replace(exchange, own=None)
        return await self.inner.judge(plain, deadline)


class Describes(Protocol):
    """A moderator that knows which model answers and how much it takes."""

    async def about(self, deadline: Deadline) -> About:
        """Never raises `ModeratorError`: what cannot be learned is left out."""
        ...


class Closes(Protocol):
    """A moderator that holds connections."""

    async def aclose(self) -> None:
        """Let go of everything; harmless when called twice."""
        ...


async def about(moderator: Moderator, deadline: Deadline) -> About:
    """What `moderator` says of itself, or an identity that no other object shares."""
    while isinstance(moderator, Wrapper):
        moderator = moderator.inner
    # a protocol's isinstance costs ten times the look-up, and this runs with every check
    describe = getattr(moderator, "about", None)
    if describe is not None:
        return cast("About", await describe(deadline))
    return About(f"{HERE}{type(moderator).__qualname__}@{id(moderator):x}")


def managed(moderator: Moderator) -> bool:
    """Whether `moderator` says that it has a memory and a gate of its own."""
    return bool(getattr(moderator, "managed", False))


async def aclose(moderator: Moderator) -> None:
    """Close `moderator` if it is of the kind that closes."""
    close = getattr(moderator, "aclose", None)
    if close is not None:
        await close()
