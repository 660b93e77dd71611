"""The rules: which action follows which verdict, at which stage. Data only; loading runs no code.

A rule is looked up as stage + category, then category, then the stage's default, then the default. All of that is
resolved once, when the policy is made, into one table per stage; each rule keeps the path of its place in the YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from turnguard.core.step import Kind, Stage

if TYPE_CHECKING:
    from turnguard.core.calibration import Calibration

Action = Literal["allow", "flag", "rewrite", "review", "block"]
ACTIONS: tuple[Action, ...] = get_args(Action)
SEVERITY: Mapping[Action, int] = {action: rank for rank, action in enumerate(ACTIONS)}
"""Strictest highest."""

Way = Literal["redact", "replace", "drop"]
WAYS: tuple[Way, ...] = get_args(Way)
"""How a rewrite is done, the strictest last: it wins where two rules rewrite one part."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows an unsafe verdict. With `above`, only a P(unsafe) greater than that fires it; else `otherwise`
    applies.
    """

    action: Action
    path: str
    way: Way = "replace"
    above: float | None = None
    otherwise: Rule | None = None

    def fired(self, p_unsafe: float | None) -> Rule:
        """The rule that applies at this P(unsafe). Without a P the threshold counts as reached: fail closed."""
        if self.above is None or p_unsafe is None or p_unsafe > self.above or self.otherwise is None:
            return self
        return self.otherwise


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """Everything that decides at one stage, resolved."""

    default: Rule
    categories: Mapping[str, Rule]
    unsafe_above: float | None
    unsafe_above_path: str
    on_failure: Rule
    on_uncheckable: Mapping[Kind, Rule]

    def rule(self, category: str) -> Rule:
        """The rule for a category, known or unknown."""
        return self.categories.get(category, self.default)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one YAML. `messages` are the user's own words; `digest` names this policy in records."""

    stages: Mapping[Stage, StagePolicy]
    messages: Mapping[str, Mapping[str, str]]
    digest: str
    source: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)
    calibration: Calibration | None = field(default=None, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None = None, calibration: Calibration | None = None) -> Policy:
        """Make a policy of the mapping under `policy:` in the YAML. Raises `ConfigError`, a sentence per mistake.

        Reads no file: where the mapping names a calibration, its curves are given as `calibration`.
        """
        from turnguard.core.compile import compiled  # its pydantic models cost more to import than all else here

        return compiled(data or {}, calibration)
