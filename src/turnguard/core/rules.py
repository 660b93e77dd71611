"""Which action follows which verdict at one stage, resolved: data only.

A rule is looked up as stage + category, then category, then the stage's default, then the default. All of that is
resolved once, when the policy is made, into one table per stage; each rule keeps the path of its place in the YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnguard.core.action import Action, Way
from turnguard.core.step import Kind, Stage

CALLABLE: tuple[Stage, ...] = ("tool_call", "tools")
"""Stages of structured data, in which only strings can be rewritten."""
TEXTS: tuple[Kind, ...] = ("text", "document")
RECORDED: tuple[Kind, ...] = ("audio", "video")
TRIMMED = (*TEXTS, *RECORDED)
"""Kinds that can be cut off: text where judging ended, a sound or a film where it stands behind a picture's end."""
REDUCED: Mapping[Kind, Action] = {"image": "block", "document": "flag"}
"""Kinds that can be judged at a low resolution, and what follows by default: of a document its text is judged too."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows an unsafe verdict. With `above`, it fires where P(unsafe) is greater; else `otherwise` does."""

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
    """Everything that decides at one stage, resolved. `partly` names the kinds of text of which something passes where
    the rest is too long to be judged.
    """

    default: Rule
    categories: Mapping[str, Rule]
    unsafe_above: float | None
    unsafe_above_path: str
    on_failure: Rule
    on_uncheckable: Mapping[Kind, Rule]
    partly: frozenset[Kind]
    on_reduced: Mapping[Kind, Rule]

    def rule(self, category: str) -> Rule:
        """The rule for a category, known or unknown."""
        return self.categories.get(category, self.default)
