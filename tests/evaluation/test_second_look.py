"""`turnguard eval` reports what a second look changes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import write_rows
from turnguard.cli import main
from turnguard.sandbox import Sandbox
from turnguard.sandbox.wire import ChatRequest
from turnguard.testing import FakeVLLM


def configured(folder: Path, first: str, second: str, how: str) -> Path:
    path = folder / "turnguard.yaml"
    path.write_text(
        f"moderator:\n  base_url: '{first}'\n  deadline: 20s\n"
        f"  second_look: {{base_url: '{second}', model: large, {how}}}\npolicy: {{}}\n"
    )
    return path


def report(out: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((out / "report.json").read_text())
    return data


def test_the_table_of_first_second_and_strictest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": f"n{number}", "text": f"{text} {number}", "label": label}
        for number, (text, label) in enumerate(
            [
                ("kill a process", "safe"),  # both looks are needed: the second one is right
                ("kill a person", "unsafe"),
                ("kill time", "safe"),  # the second look fails: the first verdict stands
                ("tea", "safe"),  # never looked at twice
                ("doubtful poison", "unsafe"),  # the first says safe, the second unsafe
            ]
        )
    ]
    with FakeVLLM() as small, FakeVLLM(model="large") as large:
        small.when("kill", p=0.7)
        small.when("doubtful", user="safe", p=0.4)
        large.when("person", p=0.9)
        large.when("poison", p=0.9)
        large.fail("crash", when="kill time")
        config = configured(tmp_path, small.base_url, large.base_url, "between: [0.3, 0.8], decides: second")
        out = tmp_path / "out"
        assert (
            main(["eval", str(write_rows(tmp_path / "mine.jsonl", rows)), "--config", str(config), "--out", str(out)])
            == 0
        )
        assert len(small.chats) == 5
    (section,) = report(out)["sections"]
    found = section["sides"]["user"]
    assert found["cells"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 2}  # as configured: the second decides
    looks = found["looks"]
    assert (looks["rows"], looks["requests"], looks["failed"]) == (4, 4, 1)
    cells = {way["name"]: way["cells"] for way in looks["ways"]}
    assert cells["first look"] == {"tp": 1, "fp": 2, "fn": 1, "tn": 1}
    assert cells["second look"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 2}
    assert cells["strictest"] == {"tp": 2, "fp": 2, "fn": 0, "tn": 1}
    text = (out / "report.md").read_text()
    assert "4 rows were looked at twice, with 4 second requests; 1 of them failed" in text
    assert "| Decided by |" in text
    page = (out / "report.html").read_text()
    assert "What the second look changes" in page
    assert "strictest false positive rate" in capsys.readouterr().out


def test_without_a_second_look_there_is_no_such_table(tmp_path: Path) -> None:
    with FakeVLLM() as small:
        config = tmp_path / "turnguard.yaml"
        config.write_text(f"moderator: {{base_url: '{small.base_url}'}}\npolicy: {{}}\n")
        rows = [{"id": "a", "text": "tea", "label": "safe"}]
        out = tmp_path / "out"
        assert (
            main(["eval", str(write_rows(tmp_path / "mine.jsonl", rows)), "--config", str(config), "--out", str(out)])
            == 0
        )
    assert report(out)["sections"][0]["sides"]["user"]["looks"] is None
    assert "Decided by" not in (out / "report.md").read_text()


def test_xstest_with_the_sandbox_and_a_scripted_larger_model(tmp_path: Path, data: Path) -> None:
    """450 prompts; the larger model is right on all but every twentieth of them."""
    with (data / "xstest" / "xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        truth = {
            row["prompt"].strip(): (row["label"] == "unsafe") != (number % 20 == 0)
            for number, row in enumerate(csv.DictReader(file))
        }
    assert len(truth) == 450

    def unsafe(chat: ChatRequest) -> bool:
        return truth[chat.prompt.strip()]

    with Sandbox() as small, FakeVLLM(model="large") as large:
        large.when(unsafe, user="unsafe", categories=["Violence"], p=0.97)
        how = "between: [0.05, 0.99], unsafe: true, decides: second"
        config = configured(tmp_path, small.base_url, large.base_url, how)
        out = tmp_path / "out"
        assert main(["eval", "xstest", "--data", str(data), "--config", str(config), "--out", str(out)]) == 0
        asked = len(large.chats)
    (section,) = report(out)["sections"]
    looks = section["sides"]["user"]["looks"]
    assert looks["requests"] == asked > 50
    first, second, strictest = looks["ways"]
    for way in (first, second, strictest):
        assert way["judged"] == 450
        for measure in ("recall", "false_positive_rate"):
            found = way["measures"][measure]
            assert found["low"] <= found["value"] <= found["high"]
    assert second["cells"]["fp"] < first["cells"]["fp"]
    assert strictest["cells"]["fp"] >= first["cells"]["fp"]
    assert strictest["cells"]["tp"] >= first["cells"]["tp"]
