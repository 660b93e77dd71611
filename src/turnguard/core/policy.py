"""The rules of one YAML: a table of rules for each stage. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError
from turnguard.core.rules import StagePolicy
from turnguard.core.step import Stage

if TYPE_CHECKING:
    from turnguard.core.calibration import Calibration
    from turnguard.core.exchange import OwnCategories
    from turnguard.core.policy_settings import PolicySettings
    from turnguard.core.validate import Problem

_SHADOW = ("policy", "shadow")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a policy was written: its text from line `first` of `file` on, and the line of each path in it."""

    file: str
    text: str
    first: int
    lines: Mapping[str, int]

    def line(self, path: str) -> int | None:
        """The line of a rule, or of the nearest key above it where the rule is a default that nobody wrote."""
        while path not in self.lines:
            path, dot, _ = path.rpartition(".")
            if not dot:
                return None
        return self.lines[path]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one YAML. `messages` are the user's own words; `digest` names this policy in records.

    `origin` is None where the policy was not read from a file. `shadow` is decided beside it, from the same verdicts,
    and changes nothing. `own` are categories that this policy defines.
    """

    stages: Mapping[Stage, StagePolicy]
    messages: Mapping[str, Mapping[str, str]]
    digest: str
    source: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)
    calibration: Calibration | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False, compare=False)
    shadow: Policy | None = field(default=None, repr=False)
    own: OwnCategories | None = field(default=None, repr=False)

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that a rule may name: the taxonomy's, then those that this policy defines."""
        from turnguard.core.taxonomy import CATEGORIES

        return CATEGORIES if self.own is None else (*CATEGORIES, *(one.name for one in self.own.categories))

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
        *,
        shadow: Policy | None = None,
    ) -> Policy:
        """Make a policy of the mapping under `policy:` in the YAML. Raises `ConfigError`, a sentence per mistake.

        Reads no file: where the mapping names a calibration or a shadow, it is given as `calibration` or `shadow`.
        """
        from turnguard.core.policy_settings import PolicySettings  # pydantic costs more to import than all else here
        from turnguard.core.validate import read

        source = data or {}
        settings, problems = read(PolicySettings, source, ("policy",))
        if settings is not None:
            policy, problems = cls.compiled(settings, source, calibration, shadow)
            if policy is not None:
                return policy
        raise ConfigError(*(f"{problem.where}: {problem.message}" for problem in problems))

    @classmethod
    def compiled(
        cls,
        settings: PolicySettings,
        source: Mapping[str, Any],
        calibration: Calibration | None = None,
        shadow: Policy | None = None,
    ) -> tuple[Policy | None, list[Problem]]:
        """The policy of validated settings, or what is wrong with them. `source` is the mapping that they came from."""
        from turnguard.core.compile import messages, stages
        from turnguard.core.own import defined

        resolved, problems = stages(settings, calibration)
        if not problems:
            problems = list(_unasked(settings, resolved, shadow))
        if problems:
            return None, problems
        text = json.dumps(source, sort_keys=True, default=str, ensure_ascii=False)
        if calibration is not None:
            text += calibration.digest
        if shadow is not None:
            text += f"shadow {shadow.digest}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(resolved, messages(settings), digest, source, calibration, shadow=shadow, own=defined(settings)), []


def _unasked(settings: PolicySettings, stages: Mapping[Stage, StagePolicy], shadow: Policy | None) -> Iterator[Problem]:
    """What a shadow may not need: it is decided from what the policy beside it asks for, and nothing else."""
    from turnguard.core.own import defined
    from turnguard.core.validate import Problem

    if shadow is None:
        if settings.shadow is not None:
            told = "names a file that was not read: use Guard.from_yaml, or Policy.from_dict(..., shadow=)"
            yield Problem(_SHADOW, told)
        return
    if shadow.shadow is not None:
        yield Problem(_SHADOW, "a shadow has no shadow of its own")
    if shadow.own is not None and shadow.own != defined(settings):
        told = "the shadow has categories of its own, which the moderator is not told about: define the same ones here"
        yield Problem(_SHADOW, told)
    for stage, rules in stages.items():
        for kind in sorted(shadow.stages[stage].partly - rules.partly):
            told = f"the shadow trims a {kind} that is too long to be judged whole (stage {stage})"
            yield Problem(_SHADOW, f"{told}; this policy does not, so that nothing of it is asked about")
