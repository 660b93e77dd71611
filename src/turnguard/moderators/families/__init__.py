"""Model families: two pure functions each, exchange → request body and reply → verdict. Adding one is one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from turnguard.core.errors import ConfigError
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.families import nemotron3


class Family(NamedTuple):
    """How to ask one model, and how to read it. `version` changes when the same content would be asked otherwise."""

    name: str
    version: str
    request: Callable[[Exchange, str, bool], dict[str, Any]]
    verdict: Callable[[Mapping[str, Any], Exchange], Verdict]


FAMILIES: Mapping[str, Family] = {
    "nemotron-3": Family("nemotron-3", nemotron3.VERSION, nemotron3.request, nemotron3.verdict),
}


def family(name: str) -> Family:
    """The family of that name. Raises `ConfigError` with the nearest one."""
    try:
        return FAMILIES[name]
    except KeyError:
        from difflib import get_close_matches

        near = get_close_matches(name, FAMILIES, n=1, cutoff=0.0)
        raise ConfigError(f"moderator.family: unknown family {name!r}; did you mean {near[0]!r}?") from None
