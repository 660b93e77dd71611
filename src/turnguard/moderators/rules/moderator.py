"""The sandbox's rules as a moderator of last resort: in process, no network, never with the authority to allow."""

from __future__ import annotations

from turnguard.core.errors import Unavailable
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import About, Deadline


class SandboxModerator:
    """Judges text by rules. It is not the Nemotron model, and a picture is beyond it."""

    def __init__(self) -> None:
        from turnguard.moderators.rules import judge

        judge("", None, None)  # reads the rules now, not inside the deadline of the first check that needs them

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """The rules' verdict on the texts."""
        from turnguard.moderators.rules import judge

        if exchange.picture is not None:
            raise Unavailable("the sandbox rules do not judge pictures in process")
        found = judge(exchange.prompt, exchange.response, None)
        return Verdict(
            user=found.user,
            response=found.response,
            categories=tuple(found.categories),
            p_user=found.p_user,
            p_response=found.p_response,
            model="turnguard-sandbox-rules",
        )

    async def about(self, deadline: Deadline) -> About:
        """Named apart from every model."""
        return About("turnguard-sandbox-rules/1")
