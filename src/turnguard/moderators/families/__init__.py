"""Model families: two pure functions each, exchange → request bodies and replies → verdict. Adding one is one file
here, and what it can do is declared in `turnguard.core.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from turnguard.core.errors import ConfigError
from turnguard.core.exchange import Exchange
from turnguard.core.families import FAMILIES, Family
from turnguard.core.verdict import Verdict
from turnguard.moderators.families import llama_guard, nemotron3, nemotron35, qwen3guard, safety_guard
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.reading import Body, Reply

__all__ = ["WIRES", "Asking", "Body", "Reply", "Wire", "family"]


class Wire(NamedTuple):
    """How to ask one family, and how to read it. `version` changes when the same content would be asked otherwise.

    One exchange may need several requests; `verdict` gets their replies in the same order.
    """

    can: Family
    version: str
    requests: Callable[[Exchange, Asking], Sequence[Body]]
    verdict: Callable[[Sequence[Reply], Exchange, Asking], Verdict]

    @property
    def name(self) -> str:
        """The family's name."""
        return self.can.name


WIRES: Mapping[str, Wire] = {
    name: Wire(FAMILIES[name], module.VERSION, module.requests, module.verdict)
    for name, module in {
        "nemotron-3": nemotron3,
        "nemotron-3.5": nemotron35,
        "nemotron-safety-guard-8b-v3": safety_guard,
        "llama-guard-4": llama_guard,
        "qwen3guard": qwen3guard,
    }.items()
}


def family(name: str) -> Wire:
    """The family of that name. Raises `ConfigError` with the nearest one."""
    try:
        return WIRES[name]
    except KeyError:
        from difflib import get_close_matches

        near = get_close_matches(name, WIRES, n=1, cutoff=0.0)
        raise ConfigError(f"moderator.family: unknown family {name!r}; did you mean {near[0]!r}?") from None
