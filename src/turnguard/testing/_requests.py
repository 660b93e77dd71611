"""What a fake server keeps of each request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnguard.sandbox.wire import ChatRequest
    from turnguard.testing.faults import Fault


@dataclass(slots=True)
class RecordedRequest:
    """One request. `at` is `time.monotonic()`; `body` is parsed JSON or None; `chat` is None unless it was accepted."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes = field(repr=False)
    at: float
    body: Any = field(default=None, repr=False)
    chat: ChatRequest | None = None
    fault: Fault | None = None
    status: int | None = None
