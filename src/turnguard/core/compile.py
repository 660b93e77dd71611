"""Validated settings → every rule resolved, or the list of what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from turnguard.core.action import Action
from turnguard.core.calibration import Calibration
from turnguard.core.policy_settings import PolicySettings, RuleSettings, StageSettings
from turnguard.core.rules import Rule, StagePolicy
from turnguard.core.step import KINDS, STAGES, Kind, Stage
from turnguard.core.taxonomy import canonical, nearest
from turnguard.core.validate import Problem
from turnguard.core.verdict import Side


def stages(
    settings: PolicySettings, calibration: Calibration | None = None
) -> tuple[dict[Stage, StagePolicy], list[Problem]]:
    """Every rule of validated settings resolved for each stage, or the list of what is wrong with them."""
    if settings.calibration is not None and calibration is None:
        # never in silence: the thresholds would then meet a P on another scale
        told = "names a file whose curves were not read: use Guard.from_yaml, or Policy.from_dict(..., calibration=)"
        return {}, [Problem(("policy", "calibration"), told)]
    problems = list(_mistakes(settings, calibration))
    if problems:
        return {}, problems
    general = {_known(name): _rule(rule, ("policy", "categories", name)) for name, rule in settings.categories.items()}
    default = _rule(settings.default, ("policy", "default"))
    found: dict[Stage, StagePolicy] = {}
    for stage in STAGES:
        own = settings.stages.get(stage) or StageSettings()
        found[stage] = _stage(stage, own, settings, general, default)
    return found, list(_uncalibrated(found, calibration))


def messages(settings: PolicySettings) -> dict[str, dict[str, str]]:
    """The user's own words by category, under the taxonomy's own names."""
    return {_known(name): dict(texts) for name, texts in settings.messages.items()}


def _stage(
    stage: Stage, own: StageSettings, settings: PolicySettings, general: Mapping[str, Rule], default: Rule
) -> StagePolicy:
    at = ("policy", "stages", stage)
    categories = dict(general)
    stage_default = default
    if own.default is not None:
        stage_default = _rule(own.default, (*at, "default"))
    for name, rule in own.categories.items():
        categories[_known(name)] = _rule(rule, (*at, "categories", name))
    if stage == "tool_call":
        stage_default = _callable(stage_default)
        categories = {name: _callable(rule) for name, rule in categories.items()}
    if own.on_failure is not None:
        on_failure = Rule(own.on_failure, _path((*at, "on_failure")))
    else:
        on_failure = Rule(settings.on_failure, "policy.on_failure")
    return StagePolicy(
        default=stage_default,
        categories=categories,
        unsafe_above=own.unsafe_above,
        unsafe_above_path=_path((*at, "unsafe_above")),
        on_failure=on_failure,
        on_uncheckable={kind: _uncheckable(kind, own, settings, at) for kind in KINDS},
    )


def _uncheckable(kind: Kind, own: StageSettings, settings: PolicySettings, at: tuple[str, ...]) -> Rule:
    """The stage's word, then the general one; a kind that neither names blocks."""
    for value, where in (
        (own.on_uncheckable, (*at, "on_uncheckable")),
        (settings.on_uncheckable, ("policy", "on_uncheckable")),
    ):
        if isinstance(value, str):
            return Rule(value, _path(where))
        if value is not None and kind in value:
            return Rule(value[kind], _path((*where, kind)))
    return Rule("block", "policy.on_uncheckable")


def _rule(settings: RuleSettings, at: tuple[str, ...]) -> Rule:
    otherwise: Rule | None = None
    if settings.above is not None:
        lax = settings.otherwise or RuleSettings(action="flag")
        otherwise = Rule(lax.action, _path((*at, "otherwise")), lax.way)
    return Rule(settings.action, _path(at), settings.way, settings.above, otherwise)


def _callable(rule: Rule) -> Rule:
    """On a tool call only `redact` can rewrite, and only the arguments' strings: a general rule with another way
    blocks.
    """
    action: Action = "block" if rule.action == "rewrite" and rule.way != "redact" else rule.action
    return replace(rule, action=action, otherwise=_callable(rule.otherwise) if rule.otherwise else None)


def _known(name: str) -> str:
    return canonical(name) or name


def _path(at: tuple[str, ...]) -> str:
    return ".".join(at)


# ---------------------------------------------------------------- what a type cannot say


def _mistakes(settings: PolicySettings, calibration: Calibration | None) -> Iterator[Problem]:
    yield from _categories(settings.categories, ("policy", "categories"), calibration)
    yield from _thresholds(settings.default, ("policy", "default"), calibration)
    overridden = [set(map(_known, stage.categories)) for stage in settings.stages.values()]
    for name in settings.categories:
        if len(overridden) == len(STAGES) and all(_known(name) in names for names in overridden):
            yield Problem(
                ("policy", "categories", name), "this rule can never fire: every stage has its own rule for it"
            )
    for key in ("default", "on_failure", "on_uncheckable"):
        replaced = [stage for stage in settings.stages.values() if _replaces(stage, key)]
        if key in settings.model_fields_set and len(replaced) == len(STAGES):
            yield Problem(("policy", key), "this can never apply: every stage has its own")
    for stage, own in settings.stages.items():
        at = ("policy", "stages", stage)
        yield from _categories(own.categories, (*at, "categories"), calibration)
        if own.default is not None:
            yield from _thresholds(own.default, (*at, "default"), calibration)
        _, turns = _reach(calibration, LABEL_TURNS)
        if own.unsafe_above is not None and own.unsafe_above >= turns:
            told = f"the model's own label is already unsafe there; use a value below {turns:.4g}"
            yield Problem((*at, "unsafe_above"), f"{turns:.4g} or more can never matter: {told}")
        if stage == "tool_call":
            rules = {("categories", name): rule for name, rule in own.categories.items()}
            if own.default is not None:
                rules["default",] = own.default  # type: ignore[index]
            for where, rule in rules.items():
                if any(r.action == "rewrite" and r.way != "redact" for r in (rule, rule.otherwise) if r is not None):
                    yield Problem((*at, *where), "a tool call can only be rewritten with: redact")
    names = [name for name in settings.messages if name not in {"default", "failure", "uncheckable", "removed"}]
    yield from _names(names, ("policy", "messages"))


def _replaces(stage: StageSettings, key: str) -> bool:
    """Whether a stage's own setting leaves nothing of the general one. A list of kinds leaves the kinds that it does
    not name.
    """
    own = getattr(stage, key)
    return own is not None and not (isinstance(own, dict) and set(own) != set(KINDS))


def _categories(
    rules: Mapping[str, RuleSettings], at: tuple[str, ...], calibration: Calibration | None
) -> Iterator[Problem]:
    yield from _names(list(rules), at)
    for name, rule in rules.items():
        yield from _thresholds(rule, (*at, name), calibration, canonical(name))


def _uncalibrated(stages: Mapping[Stage, StagePolicy], calibration: Calibration | None) -> Iterator[Problem]:
    """A threshold at a stage whose side the calibration lacks would meet nothing but a missing P."""
    if calibration is None:
        return
    for stage, rules in stages.items():
        side: Side = "response" if stage in ("output", "tool_call") else "user"
        if side in calibration.sides:
            continue
        paths = [rule.path for rule in (rules.default, *rules.categories.values()) if rule.above is not None]
        if rules.unsafe_above is not None:
            paths.append(rules.unsafe_above_path)
        for path in dict.fromkeys(paths):
            told = f"stage {stage} is decided by the {side} side, which the calibration does not cover"
            yield Problem(tuple(path.split(".")), told)


def _names(names: list[str], at: tuple[str, ...]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in names:
        known = canonical(name)
        if known is None:
            yield Problem((*at, name), f"unknown category {name!r}; did you mean {nearest(name)!r}?")
        elif known in seen:
            yield Problem((*at, name), f"category {known!r} is given twice, as {seen[known]!r} and as {name!r}")
        else:
            seen[known] = name


LABEL_TURNS = 0.5
"""The model's own P(unsafe) from which its label is unsafe."""


def _reach(calibration: Calibration | None, p: float, category: str | None = None) -> tuple[float, float]:
    """The lowest and the highest value as which the model's own P can meet a threshold."""
    return (p, p) if calibration is None else calibration.reach(p, category)


def _thresholds(
    rule: RuleSettings, at: tuple[str, ...], calibration: Calibration | None, category: str | None = None
) -> Iterator[Problem]:
    if rule.otherwise is not None and rule.above is None:
        yield Problem((*at, "otherwise"), "'otherwise' can never apply without 'above'")
    lax = rule.otherwise or RuleSettings(action="flag")
    if rule.above is not None and (rule.action, rule.way) == (lax.action, lax.way):
        yield Problem((*at, "above"), f"can never matter: below it the rule does the same, {lax.action}")
    for own, where in ((rule, at), (rule.otherwise, (*at, "otherwise"))):
        if own is not None and own.action != "rewrite" and "way" in own.model_fields_set:
            yield Problem((*where, "with"), f"'with' says how to rewrite, and this rule's action is {own.action}")
    lowest, _ = _reach(calibration, LABEL_TURNS, category)
    _, highest = _reach(calibration, 1.0, category)
    if rule.above is not None and rule.above < lowest:
        told = f"the rule is asked only when the label is unsafe, which it is from {lowest:.4g} on"
        yield Problem((*at, "above"), f"below {lowest:.4g} can never matter: {told}")
    if rule.above is not None and rule.above >= highest:
        yield Problem((*at, "above"), f"P(unsafe) is never greater than {highest:.4g}, so this rule can never fire")
    if rule.otherwise is not None and rule.otherwise.above is not None:
        yield Problem((*at, "otherwise", "above"), "'otherwise' takes an action, not a second threshold")
