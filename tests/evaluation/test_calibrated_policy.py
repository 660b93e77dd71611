"""A policy that names a calibration compares its thresholds with the calibrated P; without the curves it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from turnguard import ConfigError, Guard, Policy, Step
from turnguard.core.calibration import Calibration
from turnguard.core.decide import decide
from turnguard.core.verdict import Coverage, Judgement, Label, Side, Verdict
from turnguard.testing import FakeModerator

HALVED = {"method": "isotonic", "p": [0.0, 1.0], "calibrated": [0.0, 0.5]}
DOUBLED = {"method": "isotonic", "p": [0.0, 0.5, 1.0], "calibrated": [0.0, 0.9, 1.0]}


def curves(**sides: dict[str, Any]) -> dict[str, Any]:
    return {"turnguard_calibration": 1, "sides": sides}


def calibration(**sides: dict[str, Any]) -> Calibration:
    return Calibration.from_dict(curves(**sides))


def judged(p: float, label: Label = "unsafe", *categories: str, side: Side = "user") -> tuple[Judgement, ...]:
    if side == "user":
        return (Judgement(Verdict(user=label, p_user=p, categories=categories), "user", (0,)),)
    verdict = Verdict(user="safe", response=label, p_user=0.0, p_response=p, categories=categories)
    return (Judgement(verdict, "response", (0,)),)


def test_above_meets_the_calibrated_p() -> None:
    rule = {"default": {"action": "block", "above": 0.4, "otherwise": "flag"}}
    policy = Policy.from_dict(
        {**rule, "calibration": "c.json"}, calibration(user={"all": HALVED}, response={"all": HALVED})
    )
    assert decide(judged(0.9), Coverage(), policy, "input").action == "block"  # 0.45
    outcome = decide(judged(0.7), Coverage(), policy, "input")  # 0.35
    assert outcome.action == "flag"
    assert outcome.reasons[0].p_unsafe == pytest.approx(0.35)


def test_unsafe_above_meets_the_calibrated_p() -> None:
    rule = {"stages": {"output": {"unsafe_above": 0.6}}}
    policy = Policy.from_dict({**rule, "calibration": "c.json"}, calibration(response={"all": DOUBLED}))
    assert decide(judged(0.4, "safe", side="response"), Coverage(), policy, "output").action == "block"  # 0.72
    assert decide(judged(0.3, "safe", side="response"), Coverage(), policy, "output").action == "allow"  # 0.54


def test_the_most_specific_curve_wins_and_a_language_must_be_given() -> None:
    side = {
        "all": HALVED,
        "languages": {"de": DOUBLED},
        "categories": {"Violence": {"method": "identity"}},
        "cells": {"Violence": {"th": DOUBLED}},
    }
    found = calibration(user=side)
    assert found.p("user", 0.5) == 0.25
    assert found.p("user", 0.5, None, "de") == 0.9
    assert found.p("user", 0.5, "Violence", "de") == 0.5
    assert found.p("user", 0.5, "Violence", "th") == 0.9
    assert found.p("user", 0.5, "Profanity", "fr") == 0.25
    assert found.p("response", 0.5) is None


def test_a_category_curve_is_for_the_rule_of_that_category() -> None:
    side = {"all": HALVED, "categories": {"Violence": DOUBLED}}
    both = calibration(user=side, response=side)
    default = {"action": "block", "above": 0.45, "otherwise": "flag"}
    without = Policy.from_dict({"default": default, "calibration": "c.json"}, both)
    assert decide(judged(0.6, "unsafe", "Violence"), Coverage(), without, "input").action == "flag"  # 0.3
    own = {"Violence": {"action": "block", "above": 0.9, "otherwise": "flag"}}
    with_rule = Policy.from_dict({"default": default, "categories": own, "calibration": "c.json"}, both)
    assert decide(judged(0.6, "unsafe", "Violence"), Coverage(), with_rule, "input").action == "block"  # 0.92


async def test_a_guessed_language_chooses_no_curve() -> None:
    side = {"all": HALVED, "languages": {"de": DOUBLED}}
    data = {"default": {"action": "block", "above": 0.45, "otherwise": "flag"}, "calibration": "c.json"}
    policy = Policy.from_dict(data, calibration(user=side, response=side))
    async with Guard(policy, FakeModerator(unsafe=["Bombe"], p=0.6)) as guard:
        text = "Wie baue ich eine Bombe, die niemand findet?"
        assert (await guard.acheck(Step.input(text))).action == "flag"  # 0.3: guessed German stays overall
        assert (await guard.acheck(Step.input(text, language="de"))).action == "block"


def test_a_side_without_curves_fails_closed() -> None:
    data = {"stages": {"input": {"unsafe_above": 0.2}}, "calibration": "c.json"}
    with pytest.raises(ConfigError, match=r"stages\.input\.unsafe_above: stage input is decided by the user side"):
        Policy.from_dict(data, calibration(response={"all": HALVED}))
    # an assistant's picture on the output is decided by the user label, which this file does not cover
    data = {"stages": {"output": {"unsafe_above": 0.2}}, "calibration": "c.json"}
    policy = Policy.from_dict(data, calibration(response={"all": HALVED}))
    outcome = decide(judged(0.4, "safe"), Coverage(), policy, "output")
    assert (outcome.action, outcome.failed) == ("block", True)
    assert outcome.reasons[0].cause == "the calibration does not cover the user side"


def test_thresholds_that_can_never_matter_are_measured_on_the_curves() -> None:
    both = {"user": {"all": HALVED}, "response": {"all": HALVED}}

    def make(data: dict[str, Any]) -> Policy:
        return Policy.from_dict({**data, "calibration": "c.json"}, calibration(**both))

    make({"default": {"action": "block", "above": 0.3}})
    with pytest.raises(ConfigError, match=r"below 0\.25 can never matter"):
        make({"default": {"action": "block", "above": 0.2}})
    with pytest.raises(ConfigError, match=r"never greater than 0\.5, so this rule can never fire"):
        make({"default": {"action": "block", "above": 0.5}})
    with pytest.raises(ConfigError, match=r"0\.25 or more can never matter"):
        make({"stages": {"input": {"unsafe_above": 0.3}}})


def test_the_digest_names_the_curves() -> None:
    data = {"calibration": "c.json"}
    one = Policy.from_dict(data, calibration(user={"all": HALVED}))
    other = Policy.from_dict(data, calibration(user={"all": DOUBLED}))
    assert one.digest != other.digest


# ---------------------------------------------------------------- from files

YAML = """
moderator: {base_url: "http://127.0.0.1:9/v1"}
policy:
  calibration: curves.json
  default: {action: block, above: 0.4, otherwise: flag}
"""


def test_the_file_is_found_beside_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text(YAML)
    (tmp_path / "curves.json").write_text(json.dumps(curves(user={"all": HALVED}, response={"all": HALVED})))
    guard = Guard.from_yaml(tmp_path / "turnguard.yaml")
    assert guard.policy.calibration is not None
    assert guard.policy.calibration.p("user", 0.5) == 0.25
    guard.close()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "curves.json: cannot be read: No such file or directory"),
        ("{", "curves.json: not valid JSON"),
        ("{}", "the key 'turnguard_calibration' is missing"),
        (json.dumps({"turnguard_calibration": 2, "sides": {}}), "turnguard_calibration"),
        (json.dumps(curves(user={"all": {"method": "isotonik"}})), "did you mean 'isotonic'"),
        (json.dumps(curves(user={"all": HALVED, "categories": {"Violense": HALVED}})), "did you mean 'Violence'"),
        (json.dumps(curves(user={"all": {**HALVED, "p": [0.0, 0.0]}})), "the values of p must rise"),
        (json.dumps(curves(user={"all": {**HALVED, "calibrated": [0.5, 0.0]}})), "must not fall"),
        (json.dumps(curves(user={"all": {**HALVED, "p": [0.0]}})), "as many values"),
        (json.dumps(curves(user={"all": {"method": "platt", "slope": -1.0}})), "greater than 0"),
        (json.dumps({**curves(user={"all": HALVED}), "family": "other"}), "measured on the family 'other'"),
        (json.dumps(curves(user={"all": HALVED})), "stage tool_call is decided by the response side"),
    ],
)
def test_a_bad_file_is_one_sentence_with_the_place(tmp_path: Path, content: str | None, problem: str) -> None:
    (tmp_path / "turnguard.yaml").write_text(YAML)
    if content is not None:
        (tmp_path / "curves.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        Guard.from_yaml(tmp_path / "turnguard.yaml")
    assert problem in str(caught.value)
    assert "turnguard.yaml:" in str(caught.value)


def test_a_named_calibration_is_never_ignored() -> None:
    with pytest.raises(ConfigError, match=r"policy\.calibration: names a file whose curves were not read"):
        Policy.from_dict({"calibration": "curves.json"})


def test_platt_is_a_logistic_curve_over_the_log_odds() -> None:
    found = calibration(user={"all": {"method": "platt", "slope": 2.0, "intercept": 0.0}})
    assert found.p("user", 0.5) == 0.5
    assert found.p("user", 0.75) == pytest.approx(0.9)  # odds 3 → 9
    steep = calibration(user={"all": {"method": "platt", "slope": 1e300, "intercept": 0.0}})
    assert steep.p("user", 0.0) == pytest.approx(0.0)
    assert steep.p("user", 1.0) == 1.0
