"""`turnguard eval`: figures from the rail's own verdicts, failures apart, a report that a browser shows."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import Cli, read_rows, write_rows
from tests.evaluation.test_batch import picture
from turnguard import Guard, Step
from turnguard.cli import main
from turnguard.core.verdict import Verdict
from turnguard.evaluation.examples import Example
from turnguard.evaluation.results import result_of
from turnguard.sandbox.wire import ChatRequest
from turnguard.testing import FakeVLLM, faults


def report(out: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((out / "report.json").read_text())
    return data


def rows() -> list[dict[str, Any]]:
    """Ten unsafe rows (eight called so) and ten safe ones (one called unsafe)."""
    made: list[dict[str, Any]] = []
    for index in range(20):
        unsafe = index < 10
        word = "bomb" if index < 8 or index == 10 else "tea"
        made.append(
            {
                "id": f"n{index}",
                "text": f"{word} number {index}",
                "label": "unsafe" if unsafe else "safe",
                "language": "de" if index % 2 else "en",
                "categories": ["Violence"] if unsafe else [],
                "attack": "plain",
            }
        )
    return made


def test_figures_of_own_data(tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    fake.when("bomb", categories=["Violence"], p=0.9)
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out") == 0
    (section,) = report(tmp_path / "out")["sections"]
    table = section["sides"]["user"]
    assert table["cells"] == {"tp": 8, "fp": 1, "fn": 2, "tn": 9}
    assert table["measures"]["accuracy"]["value"] == pytest.approx(17 / 20)
    assert table["measures"]["f1"]["value"] == pytest.approx(16 / 19)
    assert table["measures"]["false_positive_rate"]["value"] == pytest.approx(0.1)
    assert table["measures"]["f1"]["low"] < 16 / 19 < table["measures"]["f1"]["high"]
    assert {part["name"]: part["rows"] for part in table["by"]["language"]} == {"de": 10, "en": 10}
    assert table["by"]["named"] == [{"name": "Violence", "rows": 9, "unsafe": 8}]
    assert section["policy"]["unsafe_withheld"]["value"] == 0.8
    assert section["latency"]["rows"] == 20
    told = capsys.readouterr().out
    assert "user f1" in told
    assert "0.842" in told
    assert "0.842" not in (tmp_path / "out" / "report.md").read_text()  # per cent there
    assert "84.2%" in (tmp_path / "out" / "report.md").read_text()


def test_failures_are_counted_apart_and_never_as_safe(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.when("bomb", p=0.9)
    fake.when("number 8", raw="I cannot say.")  # unsafe rows: an illegible reply, a refused one, and a dead connection
    fake.fail(faults.status(422), when="number 9")
    fake.fail("crash", when="number 7")
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out") == 3  # something may yet be had by running it again
    table = report(tmp_path / "out")["sections"][0]["sides"]["user"]
    assert table["without_verdict"] == {"rejected": 1, "unavailable": 1, "unparseable": 1}
    assert table["cells"] == {"tp": 7, "fp": 1, "fn": 0, "tn": 9}
    assert (table["rows"], table["judged"]) == (20, 17)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3 of 20 rows (15.0%) are in no rate: 1 rejected, 1 unavailable, 1 unparseable" in page
    asked = len(fake.chats)
    fake.heal()
    assert cli("eval", source, "--out", tmp_path / "out") == 3  # two of twenty are still more than 2 %
    table = report(tmp_path / "out")["sections"][0]["sides"]["user"]
    assert table["without_verdict"] == {"rejected": 1, "unparseable": 1}  # the model's own: they stay
    assert len(fake.chats) == asked + 1


def test_a_few_failures_are_a_warning(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.when("number 57", raw="I cannot say.")
    made = [{"id": str(n), "text": f"tea number {n}", "label": "safe"} for n in range(60)]
    assert cli("eval", write_rows(tmp_path / "mine.jsonl", made), "--out", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert "1 of 60 rows (1.7%) are in no rate: 1 unparseable" in told.err
    assert told.out.startswith("1 of 60 rows (1.7%) are in no rate")
    found = report(tmp_path / "out")
    assert found["unjudged"] == {"rows": 1, "of": 60, "share": pytest.approx(1 / 60), "why": {"unparseable": 1}}
    assert (
        found["sections"][0]["policy"]["safe_withheld"]["value"] == 0.0
    )  # the failed row was withheld, and no verdict


def made_like_xstest(folder: Path) -> Path:
    """A folder with 450 rows in the form of XSTest's release: 250 safe, 200 unsafe, one in two with the word kill."""
    (folder / "xstest").mkdir(parents=True)
    with (folder / "xstest" / "xstest_prompts.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "prompt", "type", "label", "focus", "note"])
        for n in range(450):
            verb = ("kill", "stop")[n % 2]
            kind, label = ("homonyms", "safe") if n < 250 else ("contrast_homonyms", "unsafe")
            table.writerow([n + 1, f"How can I {verb} number {n}?", kind, label, verb, ""])
    return folder


@pytest.mark.parametrize("released_by", ["made", "XSTest"])
def test_rates_are_those_of_the_judged_rows(
    released_by: str, request: pytest.FixtureRequest, tmp_path: Path, fake: FakeVLLM, cli: Cli
) -> None:
    """450 rows with 40 % planted failures: the report equals the measures of the other 60 %."""
    data = made_like_xstest(tmp_path / "data") if released_by == "made" else request.getfixturevalue("data")
    with (data / "xstest" / "xstest_prompts.csv").open(encoding="utf-8") as file:
        released = list(csv.DictReader(file))
    assert len(released) == 450
    shuffled = sorted((row["prompt"] for row in released), key=lambda text: hashlib.sha256(text.encode()).digest())
    planted = {prompt: place for place, prompt in enumerate(shuffled)}
    fates = [planted[row["prompt"]] for row in released]

    def fate(chat: ChatRequest, low: int, high: int) -> bool:
        return planted[chat.prompt] in range(low, high)

    fake.fail("crash", when=lambda chat: fate(chat, 0, 60))
    fake.fail(faults.status(422), when=lambda chat: fate(chat, 60, 120))
    fake.fail(faults.content("I cannot say."), when=lambda chat: fate(chat, 120, 180))
    fake.when(lambda chat: "kill" in chat.prompt or planted[chat.prompt] % 5 == 0, p=0.8)
    assert cli("eval", "xstest", "--data", data, "--out", tmp_path / "out") == 3
    found = report(tmp_path / "out")
    (section,) = found["sections"]
    judged = [(row, fate) for row, fate in zip(released, fates, strict=True) if fate >= 180]
    assert len(judged) == 270
    assert (found["unjudged"]["rows"], found["unjudged"]["share"]) == (180, 0.4)
    truth = [row["label"] == "unsafe" for row, _ in judged]
    called = ["kill" in row["prompt"] or fate % 5 == 0 for row, fate in judged]
    tp, fp, fn, tn = (
        sum(pair == cell for pair in zip(truth, called, strict=True))
        for cell in ((True, True), (False, True), (True, False), (False, False))
    )
    expected = {
        "accuracy": (tp + tn) / len(judged),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "false_positive_rate": fp / (fp + tn),
    }
    measured = section["sides"]["user"]["measures"]
    assert {name: measured[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert section["policy"]["unsafe_withheld"]["value"] == pytest.approx(expected["recall"], abs=1e-12)
    assert section["policy"]["safe_withheld"]["value"] == pytest.approx(expected["false_positive_rate"], abs=1e-12)
    assert "are in no rate" in (tmp_path / "out" / "report.md").read_text().split("##")[0]


def test_a_folder_named_like_a_benchmark_holds_its_files(
    data: Path, tmp_path: Path, fake: FakeVLLM, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data / "xstest", tmp_path / "xstest")
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "xstest", "--out", "out", "--config", str(config)]) == 0
    assert report(tmp_path / "out")["sections"][0]["title"] == "XSTest"


def test_the_card_stands_beside(
    data: Path, tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.when(lambda chat: "kill" in chat.prompt, p=0.8)
    assert cli("eval", "xstest", "--data", data, "--out", tmp_path / "out") == 0
    (section,) = report(tmp_path / "out")["sections"]
    stated = {line["figure"]: line for line in section["card"]}
    assert stated["prompt_f1"]["card"] == 0.77
    assert stated["prompt_f1"]["difference"] == pytest.approx(stated["prompt_f1"]["value"] - 0.77)
    assert stated["response_f1"]["value"] is None  # the release's prompts alone hold no responses
    assert "XSTest" in capsys.readouterr().out


def test_a_whole_table_names_what_is_not_there(
    data: Path, tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("eval", "card-safe", "--data", data, "--out", tmp_path / "out") == 0
    found = report(tmp_path / "out")
    assert [section["name"] for section in found["sections"]] == ["mmmu"]
    assert found["sections"][0]["card"][0]["card"] == 0.023
    assert [sentence.split(":")[0] for sentence in found["absent"]] == ["docvqa", "ai2d"]


async def test_a_part_that_was_not_judged_is_not_safe() -> None:
    """A broken picture beside harmless text: the model said safe of what it saw, and it did not see all."""
    from turnguard.testing import FakeModerator

    async with Guard(moderator=FakeModerator(unsafe=["bomb"])) as guard:
        broken = Example("a", "tea", label="unsafe", images=(picture()[:30],))
        result = result_of(1, broken, await guard.acheck(broken.step()))
        assert (result.called, result.why) == (None, "partly judged")
        caught = Example("b", "bomb", label="unsafe", images=(picture()[:30],))
        partly = result_of(2, caught, await guard.acheck(caught.step()))
        assert (partly.called, partly.why, partly.p) == (None, "partly judged", None)
        pictured = Example("c", "tea", images=(picture(),), label="safe")
        assert result_of(3, pictured, await guard.acheck(pictured.step())).called == "safe"


async def test_one_failed_request_among_several_is_not_safe() -> None:
    from turnguard import Unavailable
    from turnguard.core.exchange import Exchange
    from turnguard.testing import FakeModerator

    def second_fails(exchange: Exchange) -> Verdict | Exception:
        return Verdict(user="safe", p_user=0.1) if fake.asked.index(exchange) == 0 else Unavailable("gone")

    fake = FakeModerator(script=second_fails)
    async with Guard(moderator=fake) as guard:
        step = Step.input("two pictures", images=[picture("red"), picture("blue")])
        result = result_of(1, Example("a", label="unsafe"), await guard.acheck(step))
        assert (result.called, result.why, result.p, result.status) == (None, "unavailable", None, "failed")


def test_bad_data_end_before_anything_is_asked(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad, sentence in (
        ({"text": "x"}, "row 21: label is missing"),
        ({"text": "x", "label": "harmful"}, "row 21: label is neither safe nor unsafe"),
        ({"label": "safe"}, "row 21: nothing to judge"),
    ):
        source = write_rows(tmp_path / "mine.jsonl", [*rows(), bad])
        assert cli("eval", source, "--out", tmp_path / "out") == 2
        assert sentence in capsys.readouterr().err
    assert cli("eval", "xtest") == 2
    assert "did you mean 'xstest'" in capsys.readouterr().err
    assert cli("eval", "xstest", "--data", tmp_path) == 2
    assert "xstest_prompts.csv" in capsys.readouterr().err
    assert cli("eval") == 2
    assert "name a benchmark" in capsys.readouterr().err
    assert not fake.chats


def test_a_missing_extra_is_told_before_anything_is_asked(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out") == 2
    assert "jinja2 is not installed: pip install 'turnguard[eval]'" in capsys.readouterr().err
    assert not fake.chats


def test_a_server_that_does_not_answer_is_told_at_once(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "mine.jsonl", rows())
    with fake.down():
        assert cli("eval", source, "--out", tmp_path / "out") == 2
    assert "is the server up" in capsys.readouterr().err


def test_results_of_another_model_are_not_mixed(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out") == 0
    before = (tmp_path / "out" / "mine.jsonl").read_bytes()
    with FakeVLLM(root="another/model") as other:
        config = tmp_path / "turnguard.yaml"
        config.write_text(config.read_text().replace(fake.base_url, other.base_url))
        assert cli("eval", source, "--out", tmp_path / "out") == 2
    assert "begun with another model behind the endpoint" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine.jsonl").read_bytes() == before


def test_an_interrupted_run_goes_on(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out") == 0
    results = tmp_path / "out" / "mine.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole[: len(whole) // 2])  # in the middle of a line
    asked = len(fake.chats)
    assert cli("eval", source, "--out", tmp_path / "out") == 0
    assert 9 <= len(fake.chats) - asked <= 12
    now, before = read_rows(results), [json.loads(line) for line in whole.splitlines()]
    for record in (*now, *before):
        del record["latency"]
    assert now == before


def test_the_list_of_benchmarks(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("eval", "--list") == 0
    told = capsys.readouterr().out
    assert "wildguard" in told
    assert "gated: accept its terms" in told
    assert "licence: CC BY-NC 4.0, for research only" in told


# ---------------------------------------------------------------- the page


@pytest.fixture
def page(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> Path:
    """A report with mistakes: text that tries to be markup, and a picture."""
    fake.when("bomb", p=0.9)
    (tmp_path / "p.png").write_bytes(picture())
    made = rows()
    made[8] |= {"text": "<script>document.title='owned'</script><img src=x onerror=alert(1)>", "images": ["p.png"]}
    made[8]["categories"] = ["</svg><script>document.title='owned'</script>", "Violence"]
    made[9]["categories"] = ["Violence"]
    source = write_rows(tmp_path / "mine.jsonl", made)
    assert cli("eval", source, "--out", tmp_path / "out") == 0
    return tmp_path / "out" / "report.html"


def test_the_page_holds_everything_and_runs_nothing_foreign(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']""", text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "<script>document.title" not in text
    assert html.escape("<script>document.title='owned'</script>") in text
    assert text.count('class="pic"') == 1
    assert "blur(" in text
    for plot in ("Precision and recall", "Reliability", "Latency", "Confusion", "By language", "By the data"):
        assert plot in text


def test_content_can_be_left_out(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.when("bomb", p=0.9)
    source = write_rows(tmp_path / "mine.jsonl", rows())
    assert cli("eval", source, "--out", tmp_path / "out", "--no-content") == 0
    assert "tea number 8" not in (tmp_path / "out" / "report.html").read_text()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.timeout(180)
def test_a_real_browser_shows_the_page(page: Path, tmp_path: Path) -> None:
    """The page's own script runs: tables get their sort buttons, a click sorts, a click shows the picture."""
    probe = """
    <script>
    addEventListener("load", function () {
      var table = document.querySelector("table.sortable"), column = 1;
      document.querySelectorAll("details").forEach(function (d) { d.open = true; });
      var numbers = function () { return Array.from(table.tBodies[0].rows).map(function (r) { return r.cells[0].textContent; }); };
      table.querySelectorAll("th button")[0].click();
      var down = numbers(); table.querySelectorAll("th button")[0].click(); var up = numbers();
      var picture = document.querySelector(".pic"), image = picture.querySelector("img");
      var before = getComputedStyle(image).filter; picture.click(); var after = getComputedStyle(image).filter;
      var wide = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
      document.body.dataset.probe = JSON.stringify({ title: document.title, buttons: document.querySelectorAll("th button").length,
        sorted: JSON.stringify(up) === JSON.stringify(down.slice().reverse()), before: before, after: after, fits: wide,
        drawn: image.complete && image.naturalWidth > 0, svgs: document.querySelectorAll("svg").length });
    });
    </script>"""
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", probe + "</body>"))
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1200,900",
        "--dump-dom",
        probed.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=150).stdout
    match = re.search(r'data-probe="([^"]*)"', shown)
    assert match, shown[-500:]
    found = json.loads(html.unescape(match[1]))
    assert found["title"] == "Evaluation report"
    assert found["buttons"] > 5
    assert found["svgs"] >= 4
    assert found["sorted"]
    assert found["fits"]
    assert found["drawn"]
    assert "blur" in found["before"]
    assert found["after"] == "none"
