"""A family's two functions for tests of one request: what is asked, and how its reply is read."""

from __future__ import annotations

from typing import Any

from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.families import Asking, Reply, family


def request(exchange: Exchange, model: str, categories: bool, name: str = "nemotron-3") -> dict[str, Any]:
    """The one body of this exchange."""
    (body,) = family(name).requests(exchange, Asking(model, categories))
    return body


def verdict(reply: Reply, exchange: Exchange, name: str = "nemotron-3", asking: Asking | None = None) -> Verdict:
    """What this reply says."""
    return family(name).verdict([reply], exchange, asking or Asking())
