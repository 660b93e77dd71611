"""`${VAR}` and `${VAR:-default}` in values, expanded after parsing: a value cannot become YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from turnguard.config.yaml import Path
from turnguard.core.validate import Problem

_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def secretive(problem: Problem) -> Problem:
    """A value that came from the environment may be a secret: the sentence about it does not show it."""
    if "environment variable" in problem.message:
        return problem
    return Problem(problem.path, "the value that came from the environment is not valid here")


def with_environment(
    value: Any, env: Mapping[str, str], path: Path, problems: list[Problem], from_env: set[Path]
) -> Any:
    """Expand variables in strings, after parsing, so that a value cannot become YAML. `$${X}` stays the text `${X}`.

    The paths of what was expanded are added to `from_env`.
    """
    if isinstance(value, Mapping):
        return {key: with_environment(inner, env, (*path, key), problems, from_env) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_environment(inner, env, (*path, index), problems, from_env) for index, inner in enumerate(value)]
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
