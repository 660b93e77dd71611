"""What is wrong with a policy that no type can say: names, ways and thresholds, and rules that can never fire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from turnguard.core.calibration import Calibration
from turnguard.core.own import known, spelling
from turnguard.core.own import mistakes as own_mistakes
from turnguard.core.policy_settings import PolicySettings, RuleSettings, StageSettings
from turnguard.core.rules import CALLABLE, REDUCED, TEXTS, TRIMMED, StagePolicy
from turnguard.core.step import KINDS, STAGES, Stage
from turnguard.core.taxonomy import MINOR, canonical, nearest
from turnguard.core.validate import Problem
from turnguard.core.verdict import Side

WORDS = frozenset({"default", "failure", "uncheckable", "removed", "cut", "left_out"})
"""Keys of `messages` that are no categories."""


def mistakes(settings: PolicySettings, calibration: Calibration | None) -> Iterator[Problem]:
    """Everything that is wrong with validated settings."""
    at = ("policy",)
    own = spelling(settings)
    yield from own_mistakes(settings, WORDS)
    yield from _own_rules(settings, own, calibration)
    yield from _rules(settings.categories, settings.default, at, calibration, own)
    yield from _untrimmable(settings.on_uncheckable, at)
    for stage, at_one in settings.stages.items():
        at_stage = ("policy", "stages", stage)
        yield from _rules(at_one.categories, at_one.default, at_stage, calibration, own)
        yield from _untrimmable(at_one.on_uncheckable, at_stage)
        yield from _unsafe_above(stage, at_one, settings, calibration)
        if stage in CALLABLE:
            yield from _only_redact(at_one, at_stage)
    yield from _overridden(settings, own)
    yield from _names([name for name in settings.messages if name not in WORDS], ("policy", "messages"), own)


def category_rules(settings: PolicySettings) -> Iterator[tuple[str, ...]]:
    """The paths of all rules that need a category to be named."""
    for name in settings.categories:
        yield ("policy", "categories", name)
    for name in settings.custom:
        yield ("policy", "custom", name)
    for stage, own in settings.stages.items():
        for name in own.categories:
            yield ("policy", "stages", stage, "categories", name)


def _rules(
    categories: Mapping[str, RuleSettings],
    default: RuleSettings | None,
    at: tuple[str, ...],
    calibration: Calibration | None,
    own: Mapping[str, str],
) -> Iterator[Problem]:
    where = (*at, "categories")
    yield from _names(list(categories), where, own)
    for name, rule in categories.items():
        yield from _thresholds(rule, (*where, name), calibration, known(name, own))
        if canonical(name) == MINOR and "review" in (rule.action, rule.otherwise.action if rule.otherwise else None):
            yield Problem((*where, name), "content of this category is never kept for a reviewer: use 'block'")
    if default is not None:
        yield from _thresholds(default, (*at, "default"), calibration)


def _own_rules(settings: PolicySettings, own: Mapping[str, str], calibration: Calibration | None) -> Iterator[Problem]:
    for name, rule in settings.custom.items():
        yield from _thresholds(rule, ("policy", "custom", name), calibration, name)
    for name in settings.categories:
        if canonical(name) is None and (mine := known(name, own)) is not None:
            yield Problem(
                ("policy", "categories", name), f"the rule for {mine!r} stands under custom, with its definition"
            )


def _overridden(settings: PolicySettings, own: Mapping[str, str]) -> Iterator[Problem]:
    """General rules and settings of which the stages leave nothing."""
    owned = [{known(name, own) for name in stage.categories} for stage in settings.stages.values()]
    for key, names in (("categories", settings.categories), ("custom", settings.custom)):
        for name in names:
            if len(owned) == len(STAGES) and all(known(name, own) in each for each in owned):
                told = "this rule can never fire: every stage has its own rule for it"
                yield Problem(("policy", key, name), told)
    for key in ("default", "on_failure", "on_uncheckable", "on_reduced"):
        replaced = {stage for stage, own in settings.stages.items() if _replaces(own, key)}
        if key == "default":
            replaced.add("tools")  # it has a default of its own in any case
        if key in settings.model_fields_set and len(replaced) == len(STAGES):
            yield Problem(("policy", key), "this can never apply: every stage has its own")


def _only_redact(own: StageSettings, at: tuple[str, ...]) -> Iterator[Problem]:
    rules = {(*at, "categories", name): rule for name, rule in own.categories.items()}
    if own.default is not None:
        rules[(*at, "default")] = own.default
    for where, rule in rules.items():
        if any(r.action == "rewrite" and r.way != "redact" for r in (rule, rule.otherwise) if r is not None):
            what = "a tool call" if at[-1] == "tool_call" else "a tool's definition"
            told = f"{what} can only be rewritten with: redact; write {{action: rewrite, with: redact}}"
            yield Problem(where, told)


def _untrimmable(value: object, at: tuple[str, ...]) -> Iterator[Problem]:
    form = "{" + ", ".join(f"{kind}: trim" for kind in TEXTS) + "}"
    if value == "trim":
        yield Problem((*at, "on_uncheckable"), f"not every kind can be trimmed: write {form}")
    elif isinstance(value, dict):
        for kind in value:
            if value[kind] == "trim" and kind not in TRIMMED:
                told = f"it cannot be trimmed: write {kind}: block, or {form}"
                yield Problem((*at, "on_uncheckable", kind), told)


def _unsafe_above(
    stage: Stage, own: StageSettings, settings: PolicySettings, calibration: Calibration | None
) -> Iterator[Problem]:
    """What P alone makes unsafe names no category, so that it takes the stage's default."""
    threshold = own.unsafe_above
    if threshold is None:
        return
    where = ("policy", "stages", stage, "unsafe_above")
    _, turns = _reach(calibration, LABEL_TURNS)
    if threshold >= turns:
        told = f"the model's own label is already unsafe there; use a value below {turns:.4g}"
        yield Problem(where, f"{turns:.4g} or more can never matter: {told}")
    default = own.default or (None if stage == "tools" else settings.default)
    if default is None:
        return
    if default.action == "allow":
        told = "can never matter: the default of this stage is allow; use flag, or leave unsafe_above out"
        yield Problem(where, told)
    elif default.above is not None and default.above > threshold:
        told = f"the default fires only above {default.above:.4g}, which P alone never reaches"
        yield Problem(where, f"{told}: give this stage a default without 'above'")


def _replaces(stage: StageSettings, key: str) -> bool:
    """Whether a stage's own setting replaces the general one whole. A mapping of kinds replaces only those named."""
    own = getattr(stage, key)
    kinds = REDUCED if key == "on_reduced" else KINDS
    return own is not None and not (isinstance(own, dict) and set(own) != set(kinds))


def unreachable(stages: Mapping[Stage, StagePolicy], calibration: Calibration | None) -> Iterator[Problem]:
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


def _names(names: list[str], at: tuple[str, ...], own: Mapping[str, str]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in names:
        found = known(name, own)
        if found is None:
            near = nearest(name, own.values())
            yield Problem((*at, name), f"unknown category {name!r}; did you mean {near!r}?")
        elif found in seen:
            yield Problem((*at, name), f"category {found!r} is given twice, as {seen[found]!r} and as {name!r}")
        else:
            seen[found] = name


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
