"""Whose step it is, where the host knows: each wing adds a source of metadata when it is imported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from turnguard.core.step import Step

LONGEST = 200

Source = Callable[[Collection[str]], Mapping[str, Any]]
"""Gives what the host says of the run that this happens in; the names are those that the settings ask for beyond user,
thread, request and tenant.
"""
sources: list[Source] = []


def placed(step: Step, tags: Collection[str]) -> Step:
    """The step with what the hosts know of it; what the step says itself counts more."""
    found: dict[str, str] = {}
    for source in sources:
        for name, value in source(tags).items():
            text = "".join(c for c in str(value) if c.isprintable())[:LONGEST] if value is not None else ""
            if text:
                found[name] = text
    added = {name: value for name, value in found.items() if name not in step.metadata}
    room = 16 - len(step.metadata)
    return replace(step, metadata={**dict(list(added.items())[:room]), **step.metadata}) if added else step
