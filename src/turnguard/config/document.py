"""`turnguard.yaml`: text → settings and policies. Pure: text, environment and file name come in as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path as FilePath
from typing import Annotated, Any

from pydantic import Field

from turnguard.config.environment import secretive, with_environment
from turnguard.config.policies import Reader, compiled, named
from turnguard.config.service import ServiceSettings
from turnguard.config.settings import (
    AuditSettings,
    ChecksSettings,
    MediaSettings,
    MemorySettings,
    ModeratorSettings,
    RecordsSettings,
    ReviewsSettings,
    StreamSettings,
    TelemetrySettings,
)
from turnguard.config.yaml import Path, located, origin, read_yaml
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.core.policy_settings import PolicySettings
from turnguard.core.review import can_review
from turnguard.core.validate import Problem, Section, read

PolicyName = Annotated[str, Field(min_length=1)]


class Document(Section):
    """The shape of the file."""

    moderator: ModeratorSettings = ModeratorSettings()
    memory: MemorySettings = MemorySettings()
    media: MediaSettings = MediaSettings()
    stream: StreamSettings = StreamSettings()
    checks: ChecksSettings = ChecksSettings()
    audit: AuditSettings = AuditSettings()
    records: RecordsSettings = RecordsSettings()
    reviews: ReviewsSettings = ReviewsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    service: ServiceSettings = ServiceSettings()
    policy: PolicySettings = PolicySettings()
    policies: dict[str, PolicyName] = Field(
        default_factory=dict, description="Further policies for the same guard: a file that holds a policy, by name."
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a `turnguard.yaml` says, validated."""

    moderator: ModeratorSettings
    media: MediaSettings
    stream: StreamSettings
    checks: ChecksSettings
    audit: AuditSettings
    reviews: ReviewsSettings
    telemetry: TelemetrySettings
    memory: MemorySettings
    policy: Policy
    policies: Mapping[str, Policy]
    service: ServiceSettings
    source: str = "turnguard.yaml"
    records: RecordsSettings = field(default_factory=RecordsSettings)
    lines: Mapping[Path, int] = field(default_factory=dict, repr=False, compare=False)

    def changed(self, before: Config) -> list[str]:
        """What a guard is made of, apart from policies, that is not as it was."""
        apart = ("policy", "policies", "service", "source", "lines")
        names = [each.name for each in fields(self) if each.name not in apart]
        return [name for name in names if getattr(self, name) != getattr(before, name)]

    def located(self, sentence: str) -> str:
        """A sentence that begins with the path of a key, with the file and the key's line."""
        path, colon, told = sentence.partition(": ")
        keys = tuple(path.split("."))
        if not colon or keys[0] not in Document.model_fields:
            return sentence
        return located(Problem(keys, told), self.source, self.lines)

    @property
    def folder(self) -> FilePath:
        """Where relative paths in it count from: the file's folder, or the working directory without a file."""
        return FilePath(self.source).parent


def parse(text: str, env: Mapping[str, str], source: str = "turnguard.yaml", files: Reader | None = None) -> Config:
    """Read YAML text. `env` expands `${VAR}` and `${VAR:-default}` in values; `files` reads those that the document
    names. Raises `ConfigError`, a sentence per mistake.
    """
    data, lines = read_yaml(text, source)
    config = _config(data, env, source, lines, files)
    return replace(config, policy=replace(config.policy, origin=origin(text, source, lines)))


def from_dict(
    data: Mapping[str, Any],
    env: Mapping[str, str],
    source: str = "the settings",
    files: Reader | None = None,
) -> Config:
    """The same for settings that are already a mapping, such as those inline in another program's YAML."""
    return _config(data, env, source, {}, files)


def _config(data: Any, env: Mapping[str, str], source: str, lines: Mapping[Path, int], files: Reader | None) -> Config:
    problems: list[Problem] = []
    from_env: set[Path] = set()
    expanded = with_environment(data, env, (), problems, from_env)
    policy: Policy | None = None
    policies: dict[str, Policy] = {}
    document: Document | None = None
    elsewhere: list[str] = []
    if not problems:
        document, problems = read(Document, expanded)
        if document is None:
            problems = [*problems, *_policy_mistakes(expanded, problems)]
    if document is not None:
        asked = document.moderator
        policy, problems = compiled(document.policy, expanded.get("policy", {}), asked, env, files)
        policies, elsewhere = named(document.policies, asked, env, files)
        problems += _unkept(document, [*policies.values(), *([policy] if policy is not None else [])])
        nowhere = not document.moderator.base_urls and document.moderator.checkpoint is None
        if nowhere and env.get("TURNGUARD_BASE_URL"):
            moderator, more = read(
                ModeratorSettings,
                {**expanded.get("moderator", {}), "base_url": env["TURNGUARD_BASE_URL"]},
                ("TURNGUARD_BASE_URL",),
            )
            problems += [Problem(("TURNGUARD_BASE_URL",), problem.message) for problem in more]
            document = document.model_copy(update={"moderator": moderator})
    if problems or elsewhere or policy is None or document is None:
        told = (secretive(problem) if problem.path in from_env else problem for problem in problems)
        raise ConfigError(*(located(problem, source, lines) for problem in told), *elsewhere)
    return Config(
        document.moderator,
        document.media,
        document.stream,
        document.checks,
        document.audit,
        document.reviews,
        document.telemetry,
        document.memory,
        policy,
        policies,
        document.service,
        source,
        document.records,
        lines,
    )


def _unkept(document: Document, policies: list[Policy]) -> list[Problem]:
    """A review that the database could never hold."""
    if document.records.url is None or document.records.keys or not any(map(can_review, policies)):
        return []
    told = "a step under review is held encrypted: give a key of 32 characters or more"
    return [Problem(("records", "key"), told)]


def _policy_mistakes(expanded: Any, known: list[Problem]) -> list[Problem]:
    """What is wrong with the rules themselves, told together with what is wrong elsewhere in the document."""
    source = expanded.get("policy", {}) if isinstance(expanded, Mapping) else {}
    if any(problem.path[:1] == ("policy",) for problem in known) or not isinstance(source, Mapping):
        return []
    settings, _ = read(PolicySettings, source, ("policy",))
    if settings is None or settings.calibration is not None or settings.shadow is not None:
        return []
    return Policy.compiled(settings, source)[1]
