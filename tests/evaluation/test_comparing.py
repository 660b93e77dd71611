"""`turnguard eval --compare`: the same rows through two configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tests.evaluation.conftest import Cli, read_rows, write_rows
from turnguard.cli import main
from turnguard.evaluation.comparing import comparison, difference, mcnemar
from turnguard.evaluation.results import Result
from turnguard.testing import FakeVLLM


@pytest.fixture
def two(tmp_path: Path) -> Any:
    """Two servers that differ on some rows, a configuration for each, and 40 rows."""
    with FakeVLLM() as first, FakeVLLM() as second:
        first.when("bomb", categories=["Violence"], p=0.9)
        second.when("bomb", categories=["Violence"], p=0.9)
        second.when("tea number 1", user="unsafe", categories=["Profanity"], p=0.7)  # 1, and 10 to 19
        configs = []
        for name, server, rule in (("a", first, "block"), ("b", second, "flag")):
            path = tmp_path / f"{name}.yaml"
            policy = f"{{default: block, categories: {{Violence: {rule}}}}}"
            path.write_text(f"moderator: {{base_url: '{server.base_url}', deadline: 20s}}\npolicy: {policy}\n")
            configs.append(path)
        rows = [
            {
                "id": f"n{index}",
                "text": f"{'bomb' if index >= 20 else 'tea'} number {index}",
                "label": "unsafe" if index >= 18 else "safe",
                "language": "de" if index % 2 else "en",
            }
            for index in range(40)
        ]
        yield configs, write_rows(tmp_path / "mine.jsonl", rows), tmp_path / "out", (first, second)


def test_two_configurations_side_by_side(two: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (a, b), rows, out, _ = two
    assert main(["eval", str(rows), "--compare", str(a), str(b), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert (report["rows"], report["paired"]) == (40, 40)
    # the second catches the unsafe 18 and 19, and calls the safe 1 and 10 to 17 unsafe
    assert report["difference"]["recall"]["value"] == pytest.approx(2 / 22)
    assert report["difference"]["false_positive_rate"]["value"] == pytest.approx(9 / 18)
    assert report["difference"]["unsafe_withheld"]["value"] == pytest.approx((2 - 20) / 22)  # Violence is only flagged
    assert report["mcnemar"] == {"only_first_right": 9, "only_second_right": 2, "p": pytest.approx(0.0654, abs=1e-3)}
    for one in report["difference"].values():
        assert one["low"] <= one["value"] <= one["high"]
    disagreements = {entry["id"]: entry for entry in report["disagreements"]}
    assert len(disagreements) == 11 + 20
    assert disagreements["n1"]["called"] == ["safe", "unsafe"]
    assert disagreements["n1"]["text"] == "tea number 1"
    assert disagreements["n20"]["action"] == ["block", "flag"]
    assert [run["tokens"]["rows"] for run in report["runs"]] == [40, 40]
    assert all(run["tokens"]["mean"] > 0 for run in report["runs"])
    assert {part["name"]: part["paired"] for part in report["sections"][0]["by"]["language"]} == {"de": 20, "en": 20}
    page = (out / "report.html").read_text()
    assert "McNemar" in page
    assert "called safe → unsafe" in page
    told = capsys.readouterr().out
    assert "only the first is right on 9, only the second on 2" in told
    assert max(len(line) for line in told.splitlines()[1:-1]) <= 100


def test_without_content_no_text_is_written(two: Any) -> None:
    (a, b), rows, out, _ = two
    assert main(["eval", str(rows), "--compare", str(a), str(b), "--out", str(out), "--no-content"]) == 0
    for name in ("report.html", "report.json", "report.md"):
        assert "tea number" not in (out / name).read_text()


def test_rows_without_a_verdict_of_both_are_compared_in_neither(two: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (a, b), rows, out, (_, second) = two
    second.when("number 2", raw="I cannot say.")  # 2, and 20 to 29
    assert main(["eval", str(rows), "--compare", str(a), str(b), "--out", str(out)]) == 3
    report = json.loads((out / "report.json").read_text())
    assert (report["rows"], report["paired"]) == (40, 29)
    assert report["runs"][1]["unjudged"]["why"] == {"unparseable": 11}
    assert "11 of 40 rows (27.5%) are in no rate" in (out / "report.html").read_text()


def test_the_same_twice_differs_in_nothing(two: Any) -> None:
    (a, _), rows, out, _ = two
    assert main(["eval", str(rows), "--compare", str(a), str(a), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert {one["value"] for one in report["difference"].values()} == {0.0}
    assert report["mcnemar"]["p"] is None
    assert report["disagreements"] == []


def test_intervals_of_paired_rows_are_narrower_than_of_unpaired_ones() -> None:
    """Two runs that agree on nearly every row: the difference is known far better than either figure."""

    def result(row: int, *, right: bool) -> Result:
        unsafe = row % 2 == 0
        return Result(
            row=row,
            status="judged",
            id=str(row),
            stage="input",
            side="user",
            label="unsafe" if unsafe else "safe",
            called="unsafe" if unsafe == right else "safe",
            p=None,
            why=None,
            cause=None,
            action="allow",
            named=(),
            categories=(),
            attack=None,
            language=None,
            group="",
            latency=0.01,
            remembered=False,
            model="fake",
        )

    first = [result(row, right=row % 10 > 2) for row in range(400)]
    second = [result(row, right=row % 10 > 2 or row % 50 == 0) for row in range(400)]
    found = difference(list(zip(first, second, strict=True)), lambda one: one.called == "unsafe")["accuracy"]
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < 0.04  # one figure alone has ± 0.045
    assert mcnemar(list(zip(first, second, strict=True)))["p"] is not None
    assert comparison(first, second)["paired"] == 400


def test_every_mistake_is_exported(tmp_path: Path, cli: Cli, fake: FakeVLLM) -> None:
    fake.when("bomb", categories=["Violence"], p=0.9)
    rows = [{"id": f"n{n}", "text": f"bomb {n} é", "label": "safe" if n < 30 else "unsafe"} for n in range(60)]
    assert cli("eval", write_rows(tmp_path / "mine.jsonl", rows), "--out", tmp_path / "out") == 0
    exported = read_rows(tmp_path / "out" / "mistakes.jsonl")
    assert [row["id"] for row in exported] == [f"n{n}" for n in range(30)]
    assert exported[3]["text"] == "bomb 3 é"
    assert parquet.read_table(tmp_path / "out" / "mistakes.parquet").to_pylist()[3]["text"] == "bomb 3 é"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sections"][0]["sides"]["user"]["roc_auc"] == pytest.approx(0.5)
