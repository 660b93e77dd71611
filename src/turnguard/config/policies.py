"""Policies in files of their own, and the files that a policy itself names. Pure: a reader gives the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from turnguard.config.environment import secretive, with_environment
from turnguard.config.settings import ModeratorSettings
from turnguard.config.yaml import Path, located, origin, read_yaml
from turnguard.core.calibration import Calibration
from turnguard.core.errors import ConfigError
from turnguard.core.families import able
from turnguard.core.mistakes import category_rules
from turnguard.core.policy import Policy
from turnguard.core.policy_settings import PolicySettings
from turnguard.core.validate import Problem, Section, read

Reader = Callable[[str], str]
"""Gives the text of a file that a document names, relative to the document's folder. Raises `ConfigError`."""


class PolicyFile(Section):
    """The shape of a file that holds a policy and nothing else."""

    policy: PolicySettings


def compiled(
    settings: PolicySettings,
    source: Mapping[str, Any],
    asked: ModeratorSettings | None,
    env: Mapping[str, str],
    files: Reader | None,
) -> tuple[Policy | None, list[Problem]]:
    """The policy of validated settings, with the files that it names, or what is wrong with it.

    `asked` None: it is looked at by itself, without a moderator that would have to carry it out.
    """
    calibration, problems = _calibration(settings.calibration, asked, files)
    shadow: Policy | None = None
    if settings.shadow is not None and files is not None:
        try:
            shadow = of_file(settings.shadow, asked, env, files, shadow=True)
        except ConfigError as error:
            problems += [Problem(("policy", "shadow"), problem) for problem in error.problems]
    if problems:
        return None, problems
    policy, problems = Policy.compiled(settings, source, calibration, shadow)
    if asked is not None:
        problems += [*_idle(settings, asked), *_untold(settings, asked)]
    return (None if problems else policy), problems


def named(
    paths: Mapping[str, str], asked: ModeratorSettings, env: Mapping[str, str], files: Reader | None
) -> tuple[dict[str, Policy], list[str]]:
    """The policies in the files under `policies:`, by name, and the sentences about those that cannot be used."""
    found: dict[str, Policy] = {}
    problems: list[str] = []
    for name, path in paths.items():
        if files is None:
            problems.append(f"policies.{name}: names a file that is not read here: use Guard.from_yaml")
            continue
        try:
            found[name] = of_file(path, asked, env, files)
        except ConfigError as error:
            problems += error.problems
    return found, problems


def of_file(
    path: str, asked: ModeratorSettings | None, env: Mapping[str, str], files: Reader, *, shadow: bool = False
) -> Policy:
    """The policy in a file. What it names counts from its own folder. Raises `ConfigError`, a sentence per mistake.

    `shadow`: it is one, and may not name another, itself above all.
    """
    text = files(path)
    data, lines = read_yaml(text, path)
    problems: list[Problem] = []
    from_env: set[Path] = set()
    expanded = with_environment(data, env, (), problems, from_env)
    if not problems:
        document, problems = read(PolicyFile, expanded)
        if document is not None and shadow and document.policy.shadow is not None:
            problems = [Problem(("policy", "shadow"), "a shadow has no shadow of its own")]
        elif document is not None:
            policy, problems = compiled(document.policy, expanded["policy"], asked, env, _below(path, files))
            if policy is not None:
                return replace(policy, origin=origin(text, path, lines))
    told = (secretive(problem) if problem.path in from_env else problem for problem in problems)
    raise ConfigError(*(located(problem, path, lines) for problem in told))


def _below(path: str, files: Reader) -> Reader:
    return lambda name: files(str(PurePath(path).parent / name))


def _idle(settings: PolicySettings, asked: ModeratorSettings) -> list[Problem]:
    """Rules about categories where no moderator is asked for any."""
    asked_for_them = (asked, asked.fallback, asked.second_look)
    if any(each is not None and each.categories == "always" for each in asked_for_them):
        return []
    told = "this rule can never fire: with 'categories: never' no category is named; use 'categories: always'"
    return [Problem(path, told) for path in category_rules(settings)]


def _untold(settings: PolicySettings, asked: ModeratorSettings) -> list[Problem]:
    """Categories or a policy of one's own that no moderator can be told about."""
    families = [each.family for each in (asked, asked.fallback, asked.second_look) if each is not None]
    able_ones = able("own_categories")
    if any(family in able_ones for family in families):
        return []
    names = {"custom": "categories", "custom_policy": "policy"}
    return [
        Problem(
            ("policy", key),
            f"the family {asked.family!r} takes no {what} of your own; those that do: {', '.join(able_ones)}",
        )
        for key, what in names.items()
        if getattr(settings, key)
    ]


def _calibration(
    name: str | None, asked: ModeratorSettings | None, files: Reader | None
) -> tuple[Calibration | None, list[Problem]]:
    """The curves that the policy's thresholds are written for. A policy that names some is never run without them."""
    at = ("policy", "calibration")
    if name is None or files is None:
        return None, []
    try:
        found = Calibration.parse(files(name), name)
    except ConfigError as error:
        return None, [Problem(at, problem) for problem in error.problems]
    if asked is None:
        return found, []
    if found.family is not None and found.family != asked.family:
        told = f"{name} was measured on the family {found.family!r}, and the moderator is {asked.family!r}"
        return None, [Problem(at, told)]
    again = asked.second_look
    if again is not None and (again.family, again.model) != (asked.family, asked.model):
        told = f"{name} was measured on the moderator's own model, and the second look asks {again.model!r}"
        return None, [Problem(at, f"{told}: its P would meet thresholds that are on another scale")]
    return found, []
