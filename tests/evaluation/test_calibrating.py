"""From labelled results to thresholds: goals met exactly as the rail will meet them, and refusals in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.evaluation.conftest import Cli, write_rows
from turnguard import Guard, Policy
from turnguard.core.calibration import Calibration
from turnguard.core.decide import decide
from turnguard.core.step import Stage
from turnguard.core.verdict import Coverage, Judgement, Verdict
from turnguard.evaluation.calibrating import calibrate
from turnguard.evaluation.results import Result, side_of
from turnguard.evaluation.thresholds import Goal, Refused
from turnguard.testing import FakeVLLM


def results(
    rows: int,
    stage: Stage = "input",
    *,
    seed: int = 7,
    category: str = "Violence",
    languages: Sequence[str | None] = (None,),
) -> list[Result]:
    """A moderator that is too sure of itself: its log odds are twice what they should be."""
    random = np.random.default_rng(seed)
    made = []
    for row in range(rows):
        odds = random.normal(-0.6, 2.2)
        unsafe = random.random() < 1 / (1 + np.exp(-(odds - 0.5)))
        p = float(1 / (1 + np.exp(-2 * odds)))
        made.append(
            Result(
                row=row + 1,
                status="judged",
                id=str(row),
                stage=stage,
                side=side_of(stage),
                label="unsafe" if unsafe else "safe",
                called="unsafe" if p >= 0.5 else "safe",
                p=p,
                why=None,
                cause=None,
                action="block" if p >= 0.5 else "allow",
                named=(category,) if p >= 0.5 else (),
                categories=(),
                attack=None,
                language=languages[row % len(languages)],
                group="",
                latency=0.01,
                remembered=False,
                model="fake",
            )
        )
    return made


def withheld(rows: Sequence[Result], policy: Policy, stage: Stage) -> np.ndarray[Any, Any]:
    """What the rail does with these rows under a policy."""
    found = []
    for row in rows:
        if row.side == "user":
            verdict = Verdict(user=row.called, p_user=row.p, categories=row.named)
        else:
            verdict = Verdict(user="safe", p_user=0.0, response=row.called, p_response=row.p, categories=row.named)
        outcome = decide((Judgement(verdict, row.side, (0,)),), Coverage(), policy, stage, row.language)
        found.append(outcome.action in ("block", "review"))
    return np.asarray(found)


def unsafe(rows: Sequence[Result]) -> np.ndarray[Any, Any]:
    return np.asarray([row.label == "unsafe" for row in rows])


GOALS: list[tuple[Stage, list[Goal]]] = [
    ("input", [Goal("recall", "input", 0.95)]),
    ("input", [Goal("recall", "input", 0.6)]),
    ("input", [Goal("false_positives", "input", 0.02)]),
    ("output", [Goal("false_positives", "output", 0.3)]),
    ("output", [Goal("recall", "output", 0.8), Goal("false_positives", "output", 0.3)]),
]


@pytest.mark.parametrize(("stage", "goals"), GOALS, ids=str)
@pytest.mark.parametrize("languages", [(None,), ("de", "en", None)])
def test_a_threshold_does_in_the_rail_what_the_report_says(
    stage: Stage, goals: list[Goal], languages: tuple[str | None, ...]
) -> None:
    rows = results(900, stage, languages=languages)
    found = calibrate(rows, goals)
    # the file and the fragment are loaded back as a user would load them
    calibration = Calibration.parse(json.dumps(found.file))
    policy = Policy.from_dict(found.fragment, calibration)
    held, truth = withheld(rows, policy, stage), unsafe(rows)
    told = found.thresholds[0]["measures"]
    assert held[truth].mean() == pytest.approx(told["recall"]["value"], abs=1e-12)
    assert held[~truth].mean() == pytest.approx(told["false_positive_rate"]["value"], abs=1e-12)
    for goal in goals:
        if goal.kind == "recall":
            assert held[truth].mean() >= goal.share
        else:
            assert held[~truth].mean() <= goal.share
    assert found.thresholds[0]["low"] <= found.thresholds[0]["at"] <= found.thresholds[0]["high"]


def test_calibrated_probabilities_are_nearer_the_truth() -> None:
    found = calibrate(results(2_000))
    fit = found.fits[0]
    assert fit["ece_after"] < fit["ece_before"] / 2
    calibration = Calibration.from_dict(found.file)
    # odds are halved and shifted: at a raw P of 0.88 (log odds 2) the share is 1 / (1 + e^-0.5)
    assert calibration.p("user", 0.8808) == pytest.approx(0.622, abs=0.06)


def test_a_precision_goal_becomes_a_category_rule_at_the_stages_that_were_measured() -> None:
    rows = results(1_500)
    found = calibrate(rows, [Goal("precision", "Violence", 0.85)])
    policy = Policy.from_dict(found.fragment, Calibration.from_dict(found.file))
    held = withheld(rows, policy, "input")
    named = np.asarray([bool(row.named) for row in rows])
    assert unsafe(rows)[held & named].mean() >= 0.85
    assert (held & named).sum() < named.sum()
    assert "categories" not in found.fragment  # the response side was not measured
    assert set(found.fragment["stages"]) == {"input", "retrieval", "tool_result", "tools"}


def test_a_category_that_is_precise_already_needs_no_threshold() -> None:
    rows = results(1_500)
    found = calibrate(rows, [Goal("precision", "Violence", 0.3)])
    assert found.fragment["stages"]["input"]["categories"]["Violence"] == "block"


@pytest.mark.parametrize(
    ("rows", "goals", "sentence"),
    [
        (results(300), [Goal("recall", "input", 0.99)], r"needs at least 299 unsafe rows at that stage, and there are"),
        (results(300), [Goal("false_positives", "input", 0.005)], r"needs at least 598 safe rows"),
        (results(300), [Goal("recall", "output", 0.9)], r"needs rows of that stage, and there are none"),
        (
            results(300),
            [Goal("precision", "Malware", 0.9)],
            r"needs at least 29 rows that the model gave that category",
        ),
        (
            results(900),
            [Goal("recall", "input", 0.9), Goal("false_positives", "input", 0.01)],
            r"no threshold gives .*: with that recall, the lowest false-positive rate on these rows is 0\.\d+",
        ),
    ],
)
def test_a_goal_out_of_reach_is_reported_with_the_curve(rows: list[Result], goals: list[Goal], sentence: str) -> None:
    found = calibrate(rows, goals)
    (missed,) = found.unreached
    assert re.search(sentence, missed["why"])
    assert found.thresholds == []
    assert set(found.fragment) == {"calibration"}
    has_rows = goals[0].where == "input"
    assert (len(missed["curve"]) > 100) is has_rows


def test_too_few_rows_for_a_curve_are_refused() -> None:
    with pytest.raises(Refused, match=r"\d+ unsafe and \d+ safe rows with a P; a calibration needs at least 50"):
        calibrate(results(60))


def test_without_logprobs_there_is_nothing_to_calibrate() -> None:
    from dataclasses import replace

    with pytest.raises(Refused, match="the server gives no logprobs"):
        calibrate([replace(row, p=None) for row in results(200)])


KIND = Literal["recall", "false_positives", "precision"]


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("recall", "input", "NAME=SHARE"),
        ("recall", "input=1.0", "between 0 and 1"),
        ("recall", "inputs=0.9", "unknown stage 'inputs'"),
        ("precision", "Violense=0.9", "did you mean 'Violence'"),
    ],
)
def test_a_goal_that_is_none_is_a_sentence(kind: KIND, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Goal.parse(kind, text)


def test_five_hundred_labelled_rows_give_thresholds_and_a_report(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(9)
    levels = 10
    for level in range(levels):
        p = (level + 0.5) / levels
        fake.when(
            f"level{level}.", user="unsafe" if p > 0.5 else "safe", p=p, categories=["Violence"] if p > 0.5 else []
        )
    rows = []
    for index in range(500):
        level = int(random.integers(levels))
        label = "unsafe" if random.random() < (level + 0.5) / levels * 0.7 else "safe"
        rows.append({"id": f"r{index}", "text": f"number {index} level{level}.", "label": label})
    source = write_rows(tmp_path / "own.jsonl", rows)
    out = tmp_path / "out"
    assert cli("calibrate", source, "--out", out, "--recall", "input=0.8") == 0
    told = capsys.readouterr().out
    assert "calibration error" in told
    assert "recall of at least 0.8 for input" in told
    # what was written is what a turnguard.yaml takes
    joined = out / "turnguard.yaml"
    joined.write_text(f"moderator: {{base_url: '{fake.base_url}'}}\n" + (out / "policy.yaml").read_text())
    with_curves = Guard.from_yaml(joined)
    assert with_curves.policy.calibration is not None
    assert with_curves.policy.stages["input"].unsafe_above is not None
    with_curves.close()
    page = (out / "calibration.html").read_text()
    assert "Calibration report" in page
    assert page.count("<svg") >= 2
    assert (out / "calibration.md").read_text().startswith("# Calibration report")
    assert json.loads((out / "report.json").read_text())["rows"] == 500
    # with another goal nothing is asked again
    asked = len(fake.chats)
    assert cli("calibrate", source, "--out", out, "--recall", "input=0.99") == 2
    assert "needs at least 299 unsafe rows" in capsys.readouterr().err
    assert len(fake.chats) == asked
    page = (out / "calibration.html").read_text()
    assert "Goals out of reach" in page
    assert "what can be reached" in page
    assert "| 0.50 |" in (out / "calibration.md").read_text()
