"""`turnguard bench` measures what it says, and counts what failed apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnguard import Guard
from turnguard.cli.app import app
from turnguard.evaluation.bench import Case, Measurement, cases, measure
from turnguard.testing import FakeModerator, FakeVLLM, faults

run = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "turnguard.yaml"


def configured(config: Path, fake: FakeVLLM) -> str:
    config.write_text(f"moderator: {{base_url: '{fake.base_url}', deadline: 2s}}\n")
    return str(config)


def test_figures_are_nearest_ranks_of_what_was_measured() -> None:
    row = Measurement(Case("input", 1), tuple(number / 1000 for number in range(1, 201)), 3, 2.0)
    assert row.figures() == {"mean": pytest.approx(0.1005), "median": 0.1005, "p95": 0.190, "P99": 0.198}
    assert row.rate == 100.0
    assert Measurement(Case("input", 1), (0.5,), 0, 1.0).percentile(99) == 0.5
    assert Measurement(Case("input", 1), (), 5, 1.0).figures() == dict.fromkeys(("mean", "median", "p95", "P99"))


async def test_cold_steps_all_differ_and_warm_ones_repeat() -> None:
    moderator = FakeModerator()
    guard = Guard(moderator=moderator)
    await measure(guard, Case("input", 4), 20)
    assert len({exchange.prompt for exchange in moderator.asked}) == 20
    moderator.asked.clear()
    warm = await measure(guard, Case("output", 4, warm=True), 20)
    assert len(moderator.asked) == 1
    assert len(warm.seconds) == 20


@pytest.mark.parametrize("case", cases(concurrency=[2]), ids=str)
async def test_every_case_runs_as_many_as_it_says(case: Case) -> None:
    moderator = FakeModerator()
    row = await measure(Guard(moderator=moderator), case, 5)
    assert (len(row.seconds), row.failed) == (5, 0)
    assert any(exchange.picture for exchange in moderator.asked) == case.images


def test_the_table_and_the_plot(config: Path, tmp_path: Path) -> None:
    with FakeVLLM(latency=0.002) as fake:
        arguments = [
            "bench",
            "-c",
            configured(config, fake),
            "-n",
            "4",
            "--concurrency",
            "1,2",
            "--plot",
            str(tmp_path / "p.svg"),
        ]
        result = run.invoke(app, arguments, standalone_mode=False)
        assert result.return_value == 0, result.output
        assert fake.peak == 2
    for name in ("mean", "median", "p95", "P99", "checks/s", "tool_result", "from memory", "picture"):
        assert name in result.output
    assert (tmp_path / "p.svg").read_text().startswith("<svg")


def test_json_and_failures_are_counted_apart(config: Path) -> None:
    with FakeVLLM() as fake:
        fake.fail(faults.content("garbage"), times=3)
        arguments = [
            "bench",
            "-c",
            configured(config, fake),
            "-n",
            "4",
            "--concurrency",
            "1",
            "-s",
            "input",
            "--no-images",
            "--json",
        ]
        result = run.invoke(app, arguments, standalone_mode=False)
    assert result.return_value == 3
    rows = json.loads(result.stdout)["rows"]
    assert sum(row["failed"] for row in rows) == 2  # one of the three was the warm-up's
    assert [row["warm"] for row in rows] == [False, True]
    assert rows[0]["checks"] == 2
    assert "not part of a verdict" in result.stderr


@pytest.mark.parametrize("arguments", [["-s", "inptu"], ["--concurrency", "0"], ["--concurrency", "many"]])
def test_usage(config: Path, arguments: list[str]) -> None:
    from turnguard.cli.output import UsageError

    config.write_text("moderator: {base_url: 'http://127.0.0.1:1/v1'}\n")
    result = run.invoke(app, ["bench", "-c", str(config), *arguments], standalone_mode=False)
    assert isinstance(result.exception, UsageError)
