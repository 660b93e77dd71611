"""Turn labelled results into a calibration file and a policy fragment that names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from turnguard.core.calibration import FORMAT, Calibration
from turnguard.core.policy import Policy
from turnguard.core.step import STAGES
from turnguard.core.taxonomy import canonical
from turnguard.core.verdict import Side
from turnguard.evaluation.fitting import ENOUGH_FOR_ALL, ENOUGH_FOR_PART, Fit, fit
from turnguard.evaluation.results import Result, side_of
from turnguard.evaluation.thresholds import Goal, Refused, Threshold, for_category, for_stage, scored, trade_off

NAME = "calibration.json"


@dataclass(slots=True)
class Calibrated:
    """The calibration file, the fragment under `policy:`, and what a report shows.

    `unreached` holds the goals that these rows cannot meet: where, the goal, why, and the curve of what they can.
    """

    file: dict[str, Any]
    fragment: dict[str, Any]
    fits: list[dict[str, Any]] = field(default_factory=list)
    thresholds: list[dict[str, Any]] = field(default_factory=list)
    unreached: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    without_p: int = 0


def calibrate(
    results: Sequence[Result], goals: Sequence[Goal] = (), *, family: str | None = None, model: str | None = None
) -> Calibrated:
    """Fit curves and find thresholds. Raises `Refused` where the data are too few for a curve."""
    usable = [result for result in results if result.called is not None and result.p is not None and result.label]
    if not usable:
        raise Refused(
            "no row has a P(unsafe): the server gives no logprobs, and without them nothing can be calibrated"
        )
    found = Calibrated({"turnguard_calibration": FORMAT, "family": family, "model": model, "sides": {}}, {})
    found.without_p = len(results) - len(usable)
    sides: tuple[Side, ...] = ("user", "response")
    for side in sides:
        rows = [result for result in usable if result.side == side]
        if rows:
            found.file["sides"][side] = _side(side, rows, found)
    calibration = Calibration.from_dict(found.file)
    _thresholds(usable, goals, calibration, found)
    found.fragment = {"calibration": NAME, **found.fragment}
    Policy.from_dict(found.fragment, calibration)  # what is written must load
    return found


def _side(side: Side, rows: list[Result], found: Calibrated) -> dict[str, Any]:
    unsafe = sum(row.label == "unsafe" for row in rows)
    safe = len(rows) - unsafe
    if min(unsafe, safe) < ENOUGH_FOR_ALL:
        raise Refused(
            f"the {side} side has {unsafe:,} unsafe and {safe:,} safe rows with a P; "
            f"a calibration needs at least {ENOUGH_FOR_ALL} of each"
        )
    curves: dict[str, Any] = {"all": _keep(side, "all", rows, found)}
    named = [(row, canonical(name)) for row in rows if row.called == "unsafe" for name in row.named]
    parts: dict[str, dict[str, list[Result]]] = {"languages": {}, "categories": {}}
    for row in rows:
        if row.language:
            parts["languages"].setdefault(row.language, []).append(row)
    cells: dict[tuple[str, str], list[Result]] = {}
    for row, name in named:
        if name is None:
            continue  # a category that the taxonomy does not know has no rule to calibrate for
        parts["categories"].setdefault(name, []).append(row)
        if row.language:
            cells.setdefault((name, row.language), []).append(row)
    for kind, groups in parts.items():
        for name, members in sorted(groups.items()):
            if _enough(members, f"{side} {name}", found):
                curves.setdefault(kind, {})[name] = _keep(side, name, members, found)
    for (name, language), members in sorted(cells.items()):
        if _enough(members, f"{side} {name} in {language}", found):
            curve = _keep(side, f"{name} in {language}", members, found)
            curves.setdefault("cells", {}).setdefault(name, {})[language] = curve
    return curves


def _enough(rows: Sequence[Result], name: str, found: Calibrated) -> bool:
    unsafe = sum(row.label == "unsafe" for row in rows)
    if min(unsafe, len(rows) - unsafe) >= ENOUGH_FOR_PART:
        return True
    found.skipped.append(
        f"{name}: {unsafe:,} unsafe and {len(rows) - unsafe:,} safe rows, {ENOUGH_FOR_PART} of each needed"
    )
    return False


def _keep(side: Side, name: str, rows: Sequence[Result], found: Calibrated) -> dict[str, Any]:
    p = [row.p for row in rows if row.p is not None]
    fitted = fit(p, [row.label == "unsafe" for row in rows], [row.group for row in rows])
    found.fits.append(_told(side, name, fitted))
    kept = fitted.curve.model_dump()
    if fitted.curve.method != "isotonic":
        del kept["p"], kept["calibrated"]
    if fitted.curve.method != "platt":
        del kept["slope"], kept["intercept"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}


def _told(side: Side, name: str, fitted: Fit) -> dict[str, Any]:
    told = asdict(fitted)
    told.pop("curve")
    curve = fitted.curve
    return {"side": side, "name": name, "method": curve.method, "rows": curve.rows, "unsafe": curve.unsafe, **told}


def _thresholds(results: list[Result], goals: Sequence[Goal], calibration: Calibration, found: Calibrated) -> None:
    for stage in STAGES:
        wanted = [goal for goal in goals if goal.where == stage]
        if not wanted:
            continue
        rows = [result for result in results if result.stage == stage]
        if not rows:
            _miss(found, wanted, f"a {wanted[0]} needs rows of that stage, and there are none", [])
            continue
        scores = scored(rows, calibration)
        try:
            threshold = for_stage(wanted, scores)
        except Refused as refusal:
            _miss(found, wanted, str(refusal), trade_off(scores))
            continue
        found.thresholds.append({"where": stage, **threshold.as_dict()})
        rules = stage_rules(threshold, rows[0].side, calibration)
        if rules:
            found.fragment.setdefault("stages", {}).setdefault(stage, {}).update(rules)
    for goal in goals:
        if goal.kind == "precision":
            try:
                threshold = for_category(goal, results, calibration)
            except Refused as refusal:
                _miss(found, [goal], str(refusal), [])
                continue
            found.thresholds.append({"where": goal.where, **threshold.as_dict()})
            lowest, _ = calibration.reach(0.5, goal.where)
            rule: Any = "block"  # where every row already is precise enough, no threshold is needed
            if threshold.at >= lowest:
                rule = {"action": "block", "above": threshold.at, "otherwise": "flag"}
            _put(found.fragment, goal.where, rule, calibration)


def _miss(found: Calibrated, goals: Sequence[Goal], why: str, curve: list[list[float]]) -> None:
    found.unreached.append({"where": goals[0].where, "goal": [str(goal) for goal in goals], "why": why, "curve": curve})


def _put(fragment: dict[str, Any], category: str, rule: Any, calibration: Calibration) -> None:
    """A category's rule: for all stages, or only for those whose side was calibrated."""
    if len(calibration.sides) == 2:
        fragment.setdefault("categories", {})[category] = rule
        return
    for stage in STAGES:
        if side_of(stage) in calibration.sides:
            rules = fragment.setdefault("stages", {}).setdefault(stage, {})
            rules.setdefault("categories", {})[category] = rule


def stage_rules(threshold: Threshold, side: Side, calibration: Calibration) -> dict[str, Any]:
    """The threshold as rules of a stage: the half that can matter, or both where labels turn on either side of it."""
    curves = calibration.sides[side]
    turns = [curve.at(0.5) for curve in (curves.all, *curves.languages.values())]
    rules: dict[str, Any] = {}
    if threshold.at < max(turns):
        rules["unsafe_above"] = threshold.at
    if threshold.at >= min(turns):
        rules["default"] = {"action": "block", "above": threshold.at, "otherwise": "flag"}
    return rules
