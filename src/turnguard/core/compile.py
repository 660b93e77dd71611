"""Validated settings → every rule resolved, or the list of what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from turnguard.core.action import Action
from turnguard.core.calibration import Calibration
from turnguard.core.mistakes import mistakes, unreachable
from turnguard.core.own import known, spelling
from turnguard.core.policy_settings import PolicySettings, RuleSettings, StageSettings, UncheckableAction
from turnguard.core.rules import CALLABLE, RECORDED, REDUCED, TEXTS, Rule, StagePolicy
from turnguard.core.step import KINDS, STAGES, Kind, Stage
from turnguard.core.taxonomy import MINOR
from turnguard.core.validate import Problem


def stages(
    settings: PolicySettings, calibration: Calibration | None = None
) -> tuple[dict[Stage, StagePolicy], list[Problem]]:
    """Every rule of validated settings resolved for each stage, or the list of what is wrong with them."""
    if settings.calibration is not None and calibration is None:
        # never in silence: the thresholds would then meet a P on another scale
        told = "names a file whose curves were not read: use Guard.from_yaml, or Policy.from_dict(..., calibration=)"
        return {}, [Problem(("policy", "calibration"), told)]
    problems = list(mistakes(settings, calibration))
    if problems:
        return {}, problems
    own = spelling(settings)
    general = {
        _known(name, own): _rule(rule, ("policy", "categories", name)) for name, rule in settings.categories.items()
    }
    general |= {name: _rule(rule, ("policy", "custom", name)) for name, rule in settings.custom.items()}
    default = _rule(settings.default, ("policy", "default"))
    found: dict[Stage, StagePolicy] = {}
    for stage in STAGES:
        at_one = settings.stages.get(stage) or StageSettings()
        found[stage] = _stage(stage, at_one, settings, general, default)
    return found, list(unreachable(found, calibration))


def messages(settings: PolicySettings) -> dict[str, dict[str, str]]:
    """The user's own words by category, under the taxonomy's own names."""
    own = spelling(settings)
    return {_known(name, own): dict(texts) for name, texts in settings.messages.items()}


def _stage(
    stage: Stage, own: StageSettings, settings: PolicySettings, general: Mapping[str, Rule], default: Rule
) -> StagePolicy:
    at = ("policy", "stages", stage)
    categories = dict(general)
    stage_default = default
    if own.default is not None:
        stage_default = _rule(own.default, (*at, "default"))
    elif stage == "tools":
        stage_default = Rule("flag", _path((*at, "default")))
    for name, rule in own.categories.items():
        categories[_known(name, spelling(settings))] = _rule(rule, (*at, "categories", name))
    if stage in CALLABLE:
        stage_default = _callable(stage_default)
        categories = {name: _callable(rule) for name, rule in categories.items()}
    categories |= _never_held(categories.get(MINOR, stage_default))
    if own.on_failure is not None:
        on_failure = Rule(own.on_failure, _path((*at, "on_failure")))
    else:
        on_failure = Rule(settings.on_failure, "policy.on_failure")
    uncheckable = {kind: _uncheckable(kind, own, settings, stage) for kind in KINDS}
    return StagePolicy(
        default=stage_default,
        categories=categories,
        unsafe_above=own.unsafe_above,
        unsafe_above_path=_path((*at, "unsafe_above")),
        on_failure=on_failure,
        on_uncheckable=uncheckable,
        partly=frozenset(kind for kind in TEXTS if uncheckable[kind].action not in ("review", "block")),
        on_reduced={kind: _reduced(kind, own, settings, stage) for kind in REDUCED},
    )


def _uncheckable(kind: Kind, own: StageSettings, settings: PolicySettings, stage: Stage) -> Rule:
    """The stage's word, then the general one, then the default of the kind at this stage."""
    at = ("policy", "stages", stage)
    for value, where in (
        (own.on_uncheckable, (*at, "on_uncheckable")),
        (settings.on_uncheckable, ("policy", "on_uncheckable")),
    ):
        if isinstance(value, str):
            return _of_uncheckable(value, _path(where))
        if value is not None and kind in value:
            return _of_uncheckable(value[kind], _path((*where, kind)))
    cut = kind in RECORDED or (kind in TEXTS and stage in ("tool_result", "retrieval"))
    return _of_uncheckable("trim" if cut else "flag" if kind == "encrypted" else "block", "policy.on_uncheckable")


def _reduced(kind: Kind, own: StageSettings, settings: PolicySettings, stage: Stage) -> Rule:
    """The same for what was judged at a low resolution."""
    for value, where in (
        (own.on_reduced, ("policy", "stages", stage, "on_reduced")),
        (settings.on_reduced, ("policy", "on_reduced")),
    ):
        if isinstance(value, str):
            return Rule(value, _path(where))
        if value is not None and kind in value:
            return Rule(value[kind], _path((*where, kind)))
    return Rule(REDUCED[kind], "policy.on_reduced")


def _of_uncheckable(action: UncheckableAction, path: str) -> Rule:
    return Rule("rewrite", path, "trim") if action == "trim" else Rule(action, path)


def _rule(settings: RuleSettings, at: tuple[str, ...]) -> Rule:
    otherwise: Rule | None = None
    if settings.above is not None:
        lax = settings.otherwise or RuleSettings(action="flag")
        otherwise = Rule(lax.action, _path((*at, "otherwise")), lax.way)
    return Rule(settings.action, _path(at), settings.way, settings.above, otherwise)


def _callable(rule: Rule) -> Rule:
    """On a tool call and a tool's definition only `redact` can rewrite, and only the strings: a general rule with
    another way blocks.
    """
    action: Action = "block" if rule.action == "rewrite" and rule.way != "redact" else rule.action
    return replace(rule, action=action, otherwise=_callable(rule.otherwise) if rule.otherwise else None)


def _never_held(rule: Rule) -> dict[str, Rule]:
    """A rule that would keep sexual content about minors for a reviewer blocks it instead."""
    otherwise = rule.otherwise
    if otherwise is not None and otherwise.action == "review":
        otherwise = replace(otherwise, action="block")
    kept = replace(rule, action="block" if rule.action == "review" else rule.action, otherwise=otherwise)
    return {} if kept == rule else {MINOR: kept}


def _known(name: str, own: Mapping[str, str]) -> str:
    return known(name, own) or name


def _path(at: tuple[str, ...]) -> str:
    return ".".join(at)
