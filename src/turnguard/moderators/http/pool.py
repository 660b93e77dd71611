"""What a pool of connections offers, whoever makes it: the lean client, or the stack that speaks to proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from turnguard.moderators.http.framing import Reply


class Pool(Protocol):
    """Connections to one server that belong to one event loop."""

    @property
    def in_use(self) -> int:
        """Connections that a request has taken and not given back."""
        ...

    async def ask(
        self, head: bytes, body: bytes | None, deadline: float, check: Callable[[bytes], None] | None = None
    ) -> Reply:
        """The reply to a request whose beginning is `head`, before `deadline`, a moment of `time.monotonic()`."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    def drop(self) -> None:
        """The same where the loop may be closed and nothing can be waited for."""
        ...
