"""A second moderator for when the first has no verdict."""

from __future__ import annotations

from dataclasses import replace

from turnguard.core.errors import ModeratorError, Timeout
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import About, Deadline, Moderator, about, aclose, managed


class Fallback:
    """Asks `second` when `first` fails. Unless `may_allow`, only an unsafe verdict of `second` counts: it may block but
    never allow, and anything else leaves the first failure standing."""

    def __init__(self, first: Moderator, second: Moderator, *, may_allow: bool) -> None:
        self.first = first
        self.second = second
        self.may_allow = may_allow

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The first verdict, else the second within its authority, else the first failure."""
        try:
            # some of the deadline is left for the second
            return await self.first.judge(exchange, deadline.within(deadline.remaining * 0.7))
        except ModeratorError as failure:
            if deadline.remaining <= 0.0:
                raise Timeout("the deadline passed") from None
            try:
                verdict = await self.second.judge(exchange, deadline)
            except ModeratorError:
                raise failure from None
            decides = verdict.user if exchange.response is None else verdict.response
            if self.may_allow or decides == "unsafe":
                # a memory around both must not find it again as the first one's
                named = verdict.identity or (await about(self.second, deadline)).identity
                return replace(verdict, identity=named, block_only=not self.may_allow)
            raise

    @property
    def managed(self) -> bool:
        """Whether each of the two has a memory; the first one's gate is the one that counts."""
        return managed(self.first) and managed(self.second)

    async def about(self, deadline: Deadline) -> About:
        """The first moderator's own words: it is the one that is meant to answer."""
        return await about(self.first, deadline)

    async def aclose(self) -> None:
        """Close both."""
        await aclose(self.first)
        await aclose(self.second)
