"""`turnguard.yaml`: text → settings and policy. Pure: the text, the environment and the file's name come in as
arguments.

YAML 1.2 (so `no` is a language, not `false`), no duplicate keys, no tags, no anchors, and every mistake with its line.
The text is composed to a node graph and read from there: nothing is ever constructed from a tag, and nothing can
expand.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnguard.config.settings import (
    AuditSettings,
    ChecksSettings,
    MediaSettings,
    ModeratorSettings,
    StreamSettings,
)
from turnguard.core.calibration import Calibration
from turnguard.core.errors import ConfigError
from turnguard.core.mistakes import category_rules
from turnguard.core.policy import Policy
from turnguard.core.policy_settings import PolicySettings
from turnguard.core.validate import Problem, Section, read

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32

Path = tuple["str | int", ...]


class _Document(Section):
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
    data, lines = _load(text, source)
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
    expanded = _expanded(data, env, (), problems, from_env)
    policy: Policy | None = None
    document: _Document | None = None
    if not problems:
        document, problems = read(_Document, expanded)
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
        told = (_secretive(problem) if problem.path in from_env else problem for problem in problems)
        raise ConfigError(*(_located(problem, source, lines) for problem in told))
    return Config(document.moderator, document.media, document.stream, document.checks, document.audit, policy, source)


def _idle(document: _Document) -> list[Problem]:
    """Rules about categories where no moderator is asked for any."""
    moderators = (document.moderator, document.moderator.fallback)
    if any(asked is not None and asked.categories == "always" for asked in moderators):
        return []
    told = "this rule can never fire: with 'categories: never' no category is named; use 'categories: always'"
    return [Problem(path, told) for path in category_rules(document.policy)]


def _calibration(document: _Document, reader: Reader | None) -> tuple[Calibration | None, list[Problem]]:
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


def _located(problem: Problem, source: str, lines: Mapping[Path, int]) -> str:
    path = problem.path
    while path and path not in lines:
        path = path[:-1]
    line = lines.get(path)
    return f"{source}{f':{line}' if line else ''}: {problem.where}: {problem.message}"


# ---------------------------------------------------------------- environment

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def _secretive(problem: Problem) -> Problem:
    """A value that came from the environment may be a secret: the sentence about it does not show it."""
    if "environment variable" in problem.message:
        return problem
    return Problem(problem.path, "the value that came from the environment is not valid here")


def _expanded(value: Any, env: Mapping[str, str], path: Path, problems: list[Problem], from_env: set[Path]) -> Any:
    """Expand variables in strings, after parsing, so that a value cannot become YAML. `$${X}` stays the text `${X}`.

    The paths of what was expanded are added to `from_env`.
    """
    if isinstance(value, Mapping):
        return {key: _expanded(inner, env, (*path, key), problems, from_env) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_expanded(inner, env, (*path, index), problems, from_env) for index, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[3] is not None:
            return env.get(match[2]) or match[3]
        if match[2] not in env:
            problems.append(Problem(path, f"the environment variable {match[2]} is not set and has no default"))
            return ""
        return env[match[2]]

    if "${" in _VARIABLE.sub("", value):
        told = "'${' opens no variable that can be read: write ${NAME}, ${NAME:-default}, or $${ for the text itself"
        problems.append(Problem(path, f"this names no environment variable: {told}"))
    from_env.add(path)
    return _VARIABLE.sub(one, value)


# ---------------------------------------------------------------- YAML


def _load(text: str, source: str) -> tuple[dict[str, Any], dict[Path, int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{source}: the file is larger than {MAX_CHARACTERS} characters")
    _refuse_deep(text, source)
    yaml = YAML(typ="rt", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is given twice: every anchor is refused below
            nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = (error.problem or error.context or "it cannot be read").splitlines()[0]
        raise ConfigError(f"{source}{line}: not valid YAML: {problem}") from None
    except (
        YAMLError,
        RecursionError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:
        # the scanner itself trips over some malformed input; whatever it raises, the file is not valid YAML
        raise ConfigError(f"{source}: not valid YAML ({type(error).__name__})") from None
    nodes = [node for node in nodes if node is not None]
    if not nodes:
        raise ConfigError(f"{source}: the file is empty; an empty policy still needs 'policy: {{}}'")
    if len(nodes) > 1:
        raise ConfigError(f"{source}:{nodes[1].start_mark.line + 1}: one document is expected, this is a second one")
    reader = _Reader(source, yaml)
    data = reader.value(nodes[0], ())
    if data is None:
        raise ConfigError(f"{source}: the file is empty; an empty policy still needs 'policy: {{}}'")
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: expected a mapping with keys such as moderator and policy, not {type(data).__name__}"
        )
    return data, reader.lines


def _refuse_deep(text: str, source: str) -> None:
    """Nesting that no policy needs, refused before a recursive parser meets it."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if depth > MAX_DEPTH or (len(line) - len(line.lstrip(" -")) > 4 * MAX_DEPTH):
            raise ConfigError(f"{source}:{number}: nested too deeply")


class _Reader:
    """Plain values out of composed nodes, with the line of each path."""

    def __init__(self, source: str, yaml: Any) -> None:
        self.source = source
        self.constructor = yaml.constructor
        self.lines: dict[Path, int] = {}
        self.seen: set[int] = set()

    def value(self, node: Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if id(node) in self.seen or node.anchor:
            raise ConfigError(f"{self.source}:{line}: anchors and aliases are not supported; write the value out")
        self.seen.add(id(node))
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"{self.source}:{line}: nested too deeply")
        kind = type(node).__name__
        tag = str(node.tag)
        if kind == "ScalarNode":
            return self._scalar(node, tag, line)
        if kind == "SequenceNode" and tag == "tag:yaml.org,2002:seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if kind == "MappingNode" and tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        raise ConfigError(f"{self.source}:{line}: the tag {tag!r} is not supported: the policy is data, not code")

    def _mapping(self, node: Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if type(key_node).__name__ != "ScalarNode":
                raise ConfigError(f"{self.source}:{line}: a key must be text")
            key = str(key_node.value)
            if key in result:
                raise ConfigError(f"{self.source}:{line}: {'.'.join(map(str, (*path, key)))}: the key is given twice")
            if key_node.anchor:
                raise ConfigError(f"{self.source}:{line}: anchors and aliases are not supported; write the value out")
            at: Path = (*path, key)
            self.lines[at] = line
            result[key] = self.value(value_node, at)
        return result

    def _scalar(self, node: Node, tag: str, line: int) -> Any:
        text: str = node.value
        if tag == "tag:yaml.org,2002:null":
            return None
        if tag == "tag:yaml.org,2002:bool":
            return text.lower() == "true"
        if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            number = _number(text)
            return text if number is None else number
        if tag in (
            "tag:yaml.org,2002:str",
            "tag:yaml.org,2002:timestamp",
            "tag:yaml.org,2002:merge",
            "tag:yaml.org,2002:value",
        ):
            return text
        raise ConfigError(f"{self.source}:{line}: the tag {tag!r} is not supported: the policy is data, not code")


def _number(text: str) -> int | float | None:
    """YAML 1.2 core numbers; anything longer than a policy needs stays text, and fails where a number is expected."""
    plain = text.replace("_", "")
    if len(plain) > 32:
        return None
    for read_as in (lambda: int(plain, 10), lambda: int(plain, 0), lambda: float(plain)):
        try:
            return read_as()
        except ValueError:
            continue
    return None
