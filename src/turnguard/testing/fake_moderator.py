"""A scripted moderator without any network, for tests of policies and of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnguard.core.verdict import Verdict

if TYPE_CHECKING:
    from turnguard.core.errors import ModeratorError
    from turnguard.core.exchange import Exchange
    from turnguard.moderators.base import Deadline


@dataclass
class FakeModerator:
    """Calls a side unsafe when it holds one of the words; records every exchange in `asked`.

    `unsafe` maps a word to the categories that it stands for (a sequence of words names none). `pictures` maps the
    SHA-256 digest of an encoded picture to categories. `p` is the P(unsafe) of an unsafe label (safe ones get `1 - p`);
    None gives none. `script`, when given, answers instead: it returns a verdict, or an exception to raise. `delay` is
    in seconds.
    """

    unsafe: Mapping[str, Sequence[str]] | Sequence[str] = ()
    pictures: Mapping[bytes, Sequence[str]] = field(default_factory=dict)
    p: float | None = 0.98
    delay: float = 0.0
    script: Callable[[Exchange], Verdict | Exception | None] | None = None
    asked: list[Exchange] = field(default_factory=list)
    cancelled: int = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The scripted verdict for this exchange."""
        self.asked.append(exchange)
        if self.delay:
            try:
                await asyncio.sleep(self.delay)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.script is not None:
            scripted = self.script(exchange)
            if isinstance(scripted, Exception):
                raise scripted
            if scripted is not None:
                return scripted
        return self._verdict(exchange)

    def fail(self, error: ModeratorError | None) -> None:
        """From now on every exchange fails with `error`; None ends that."""
        self.script = (lambda _exchange: error) if error is not None else None

    def _verdict(self, exchange: Exchange) -> Verdict:
        user = self._found(exchange.prompt)
        if exchange.picture is not None and exchange.picture.digest in self.pictures:
            user = [*user, *self.pictures[exchange.picture.digest]] or [""]
        response = self._found(exchange.response or "")
        names = tuple(dict.fromkeys(name for name in [*user, *response] if name))
        rated = exchange.response is not None
        return Verdict(
            user="unsafe" if user else "safe",
            response=("unsafe" if response else "safe") if rated else None,
            categories=names,
            p_user=self._p(bool(user)),
            p_response=self._p(bool(response)) if rated else None,
            model="fake",
            latency=self.delay,
        )

    def _found(self, text: str) -> list[str]:
        words = self.unsafe if isinstance(self.unsafe, Mapping) else dict.fromkeys(self.unsafe, ("",))
        return [name for word, names in words.items() if word in text for name in (names or ("",))]

    def _p(self, unsafe: bool) -> float | None:
        return None if self.p is None else self.p if unsafe else 1.0 - self.p
