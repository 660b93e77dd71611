"""`turnguard.yaml`: text → settings and policy. Pure: text, environment and file name come in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnguard.config.environment import secretive, with_environment
from turnguard.config.settings import (
    AuditSettings,
    ChecksSettings,
    MediaSettings,
    ModeratorSettings,
    StreamSettings,
)
from turnguard.config.yaml import Path, located, read_yaml
from turnguard.core.calibration import Calibration
from turnguard.core.errors import ConfigError
from turnguard.core.mistakes import category_rules
from turnguard.core.policy import Policy
from turnguard.core.policy_settings import PolicySettings
from turnguard.core.validate import Problem, Section, read


class Document(Section):
    """The shape of the file."""

    moderator: ModeratorSettings = ModeratorSettings()
    media: MediaSettings = MediaSettings()
    stream: StreamSettings = StreamSettings()
    checks: ChecksSettings = ChecksSettings()
    audit: AuditSettings = AuditSettings()
    policy: PolicySettings = PolicySettings()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a `turnguard.yaml` says, validated."""

    moderator: ModeratorSettings
    media: MediaSettings
    stream: StreamSettings
    checks: ChecksSettings
    audit: AuditSettings
    policy: Policy
    source: str = "turnguard.yaml"


Reader = Callable[[str], str]
"""Gives the text of a file that the configuration names. Raises `ConfigError`."""


def parse(
    text: str, env: Mapping[str, str], source: str = "turnguard.yaml", calibration: Reader | None = None
) -> Config:
    """Read YAML text. `env` expands `${VAR}` and `${VAR:-default}` in values; `calibration` reads the file that the
    policy names. Raises `ConfigError`, a sentence per mistake.
    """
    data, lines = read_yaml(text, source)
    return _config(data, env, source, lines, calibration)


def from_dict(
    data: Mapping[str, Any],
    env: Mapping[str, str],
    source: str = "the settings",
    calibration: Reader | None = None,
) -> Config:
    """The same for settings that are already a mapping, such as those inline in another program's YAML."""
    return _config(data, env, source, {}, calibration)


def _config(data: Any, env: Mapping[str, str], source: str, lines: Mapping[Path, int], reader: Reader | None) -> Config:
    problems: list[Problem] = []
    from_env: set[Path] = set()
    expanded = with_environment(data, env, (), problems, from_env)
    policy: Policy | None = None
    document: Document | None = None
    if not problems:
        document, problems = read(Document, expanded)
        if document is None:
            problems = [*problems, *_policy_mistakes(expanded, problems)]
    if document is not None:
        calibration, problems = _calibration(document, reader)
        if not problems:
            policy, problems = Policy.compiled(document.policy, expanded.get("policy", {}), calibration)
            problems += _idle(document)
        nowhere = not document.moderator.base_urls and document.moderator.checkpoint is None
        if nowhere and env.get("TURNGUARD_BASE_URL"):
            moderator, more = read(
                ModeratorSettings,
                {**expanded.get("moderator", {}), "base_url": env["TURNGUARD_BASE_URL"]},
                ("TURNGUARD_BASE_URL",),
            )
            problems += [Problem(("TURNGUARD_BASE_URL",), problem.message) for problem in more]
            document = document.model_copy(update={"moderator": moderator})
    if problems or policy is None or document is None:
        told = (secretive(problem) if problem.path in from_env else problem for problem in problems)
        raise ConfigError(*(located(problem, source, lines) for problem in told))
    return Config(document.moderator, document.media, document.stream, document.checks, document.audit, policy, source)


def _idle(document: Document) -> list[Problem]:
    """Rules about categories where no moderator is asked for any."""
    moderators = (document.moderator, document.moderator.fallback)
    if any(asked is not None and asked.categories == "always" for asked in moderators):
        return []
    told = "this rule can never fire: with 'categories: never' no category is named; use 'categories: always'"
    return [Problem(path, told) for path in category_rules(document.policy)]


def _calibration(document: Document, reader: Reader | None) -> tuple[Calibration | None, list[Problem]]:
    """The curves that the policy's thresholds are written for. A policy that names some is never run without them."""
    name = document.policy.calibration
    at = ("policy", "calibration")
    if name is None or reader is None:
        return None, []
    try:
        found = Calibration.parse(reader(name), name)
    except ConfigError as error:
        return None, [Problem(at, problem) for problem in error.problems]
    if found.family is not None and found.family != document.moderator.family:
        told = f"{name} was measured on the family {found.family!r}, and the moderator is {document.moderator.family!r}"
        return None, [Problem(at, told)]
    return found, []


def _policy_mistakes(expanded: Any, known: list[Problem]) -> list[Problem]:
    """What is wrong with the rules themselves, told together with what is wrong elsewhere in the document."""
    source = expanded.get("policy", {}) if isinstance(expanded, Mapping) else {}
    if any(problem.path[:1] == ("policy",) for problem in known) or not isinstance(source, Mapping):
        return []
    settings, _ = read(PolicySettings, source, ("policy",))
    if settings is None or settings.calibration is not None:
        return []
    return Policy.compiled(settings, source)[1]
