"""The rules of one YAML: a table of rules for each stage. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError
from turnguard.core.rules import StagePolicy
from turnguard.core.step import Stage

if TYPE_CHECKING:
    from turnguard.core.calibration import Calibration
    from turnguard.core.policy_settings import PolicySettings
    from turnguard.core.validate import Problem


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

    `origin` is None where the policy was not read from a file.
    """

    stages: Mapping[Stage, StagePolicy]
    messages: Mapping[str, Mapping[str, str]]
    digest: str
    source: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)
    calibration: Calibration | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None = None, calibration: Calibration | None = None) -> Policy:
        """Make a policy of the mapping under `policy:` in the YAML. Raises `ConfigError`, a sentence per mistake.

        Reads no file: where the mapping names a calibration, its curves are given as `calibration`.
        """
        from turnguard.core.policy_settings import PolicySettings  # pydantic costs more to import than all else here
        from turnguard.core.validate import read

        source = data or {}
        settings, problems = read(PolicySettings, source, ("policy",))
        if settings is not None:
            policy, problems = cls.compiled(settings, source, calibration)
            if policy is not None:
                return policy
        raise ConfigError(*(f"{problem.where}: {problem.message}" for problem in problems))

    @classmethod
    def compiled(
        cls, settings: PolicySettings, source: Mapping[str, Any], calibration: Calibration | None = None
    ) -> tuple[Policy | None, list[Problem]]:
        """The policy of validated settings, or what is wrong with them. `source` is the mapping that they came from."""
        from turnguard.core.compile import messages, stages

        resolved, problems = stages(settings, calibration)
        if problems:
            return None, problems
        text = json.dumps(source, sort_keys=True, default=str, ensure_ascii=False)
        if calibration is not None:
            text += calibration.digest
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(resolved, messages(settings), digest, source, calibration), []
