"""`turnguard reviews`: list, look, answer once, and hand the answers on as labelled rows."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.kit import picture
from tests.cli.conftest import Run
from turnguard import Guard, Step
from turnguard.testing import FakeVLLM

pytest.importorskip("sqlalchemy", reason="the extra records is not installed")

KEY = "a key for tests of forty characters long"
CALL = {"to": "anna", "body": "a punch"}


@pytest.fixture
def file(fake: FakeVLLM, tmp_path: Path) -> Path:
    fake.when("punch", categories=["Violence"], user="unsafe", response="unsafe")
    path = tmp_path / "turnguard.yaml"
    path.write_text(
        f"moderator: {{base_url: '{fake.base_url}'}}\n"
        f"records: {{url: 'sqlite:///turnguard.db', key: '{KEY}'}}\n"
        "policy: {default: review}\n",
        encoding="utf-8",
    )
    return path


def hold(file: Path, *steps: Step) -> list[str]:
    """Steps that wait for a person; the names of their reviews."""
    guard = Guard.from_yaml(file)
    names = [guard.check(step).review_id for step in steps]
    guard.close()
    assert all(names)
    return [str(name) for name in names]


OUTPUT = Step.output("a punch\x1b[2J in the film", prompt="what then", metadata={"user": "ben", "tenant": "acme"})


def test_what_waits_is_listed_without_content(file: Path, run: Run) -> None:
    assert run("reviews", "list").out == "nothing waits\n"
    (name,) = hold(file, OUTPUT)
    ran = run("reviews", "list")
    assert ran.code == 0
    assert name[:12] in ran.out
    assert "Violence" in ran.out
    assert "punch" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    (row,) = run("reviews", "list", "--json").data
    assert (row["id"], row["status"], row["tenant"]) == (name, "waiting", "acme")
    assert run("reviews", "list", "--tenant", "other", "--json").data == []
    assert run("reviews", "list", "--status", "approved", "--json").data == []


def test_looking_shows_the_content_and_is_recorded(file: Path, run: Run) -> None:
    (name,) = hold(file, OUTPUT)
    ran = run("reviews", "show", name[:8], "--by", "Anna")
    assert ran.code == 0
    assert "in the film" in ran.out
    assert "what then" in ran.out
    assert "\x1b" not in ran.out, "content cannot move the cursor"
    data = run("reviews", "show", name, "--by", "Ben", "--json").data
    assert data["parts"] == [{"part": "text", "text": "a punch\x1b[2J in the film"}]
    assert run("reviews", "show", name).code == 2, "who looks must be said"


@pytest.mark.parametrize(("answer", "status"), [("approve", "approved"), ("reject", "rejected")])
def test_an_answer_is_given_once_and_heard_by_the_application(answer: str, status: str, file: Path, run: Run) -> None:
    (name,) = hold(file, OUTPUT)
    ran = run("reviews", answer, name[:10], "--by", "Anna", "--note", "a film")
    assert (ran.code, ran.out) == (0, f"{status} {name[:12]} (output) by Anna\n")
    again = run("reviews", "approve", name, "--by", "Ben")
    assert again.code == 2
    assert f"answered already: {status} by Anna" in again.err
    guard = Guard.from_yaml(file)
    review = guard.review(name)
    guard.close()
    assert (review.status, review.by, review.note) == (status, "Anna", "a film")
    assert review.content == (OUTPUT.parts if status == "approved" else ())
    (row,) = run("reviews", "list", "--status", status, "--json").data
    assert row["note"] == "a film"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "zzz", "--by", "Anna"), "there is no review 'zzz'"),
        (("approve", "", "--by", "Anna"), "2 reviews begin with ''"),
        (("approve", "'; DROP TABLE reviews; --", "--by", "Anna"), "there is no review"),
        (("list", "--status", "open"), "--status is one of"),
        (("export", "rows.csv", "--by", "Anna"), ".jsonl or .parquet"),
        (("list", "--config", "absent.yaml"), "absent.yaml"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments: tuple[str, ...], told: str, file: Path, run: Run) -> None:
    hold(file, OUTPUT, Step.input("a punch"))
    ran = run("reviews", *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_without_a_database_there_is_nothing_to_answer(file: Path, run: Run) -> None:
    file.write_text("moderator: {base_url: 'http://localhost:1/v1'}\n", encoding="utf-8")
    ran = run("reviews", "list")
    assert ran.code == 2
    assert "names no database" in ran.err


def answered(file: Path, run: Run) -> None:
    """Steps of every stage, approved and rejected in turn, and two that nobody has answered."""
    steps = [
        Step.output("a punch", prompt="what then", language="de"),
        Step.input("a punch", images=[picture()]),
        Step.tool_call("send", CALL, prompt="do it"),
        Step.tool_result("search", "a punch", prompt="do it"),
        Step.retrieval(["a punch", "a second punch"], prompt="do it"),
        Step.input("a punch that waits"),
    ]
    for at, name in enumerate(hold(file, *steps)[:-1]):
        assert run("reviews", ("approve", "reject")[at % 2], name, "--by", "Anna").code == 0


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_answers_are_rows_that_eval_reads_as_they_are(ending: str, file: Path, run: Run, tmp_path: Path) -> None:
    answered(file, run)
    out = tmp_path / f"rows.{ending}"
    ran = run("reviews", "export", out, "--by", "Anna")
    assert (ran.code, ran.out) == (0, f"5 labelled rows in {out}, with content\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    ran = run("eval", out, "--out", tmp_path / "eval")
    assert ran.code == 0, ran.err
    results = [json.loads(line) for line in (tmp_path / "eval" / "rows.jsonl").read_text().splitlines()]
    assert len([one for one in results if "id" in one]) == 5, results


def test_a_row_says_what_the_person_said(file: Path, run: Run, tmp_path: Path) -> None:
    answered(file, run)
    run("reviews", "export", tmp_path / "rows.jsonl", "--by", "Anna")
    rows: dict[str, dict[str, Any]] = {}
    for line in (tmp_path / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[f"{row['stage']} {row['label']}"] = row
    assert set(rows) == {"output safe", "input unsafe", "tool_call safe", "tool_result unsafe", "retrieval safe"}
    assert rows["output safe"]["prompt"] == "what then"
    assert rows["output safe"]["language"] == "de"
    assert rows["input unsafe"]["images"][0].startswith("data:")
    assert rows["input unsafe"]["categories"] == ["Violence"]
    assert json.loads(rows["tool_call safe"]["text"]) == {"name": "send", "arguments": CALL}
    assert rows["tool_result unsafe"]["tool"] == "search"
    assert rows["retrieval safe"]["text"] == "a punch\na second punch"


def test_calibrate_takes_what_people_answered(file: Path, run: Run, tmp_path: Path) -> None:
    answered(file, run)
    ran = run("calibrate", "--from-reviews", "Anna", "--out", tmp_path / "curves")
    assert "5 labelled rows" in ran.out
    assert ran.code == 2
    assert "rows" in ran.err, "five rows are too few to fit a curve, and it says so"
    assert run("calibrate").code == 2
    assert run("calibrate", "rows.jsonl", "--from-reviews", "Anna").code == 2


def test_check_names_the_review_that_it_left_behind(file: Path, run: Run) -> None:
    ran = run("check", "a punch", "--json")
    assert ran.code == 1
    name = ran.data["review_id"]
    assert [row["id"] for row in run("reviews", "list", "--json").data] == [name]
    assert "waits as" in run("check", "another punch").out
    file.write_text(file.read_text().replace("records:", "audit: {} #"), encoding="utf-8")
    assert "review_id" not in run("check", "a punch", "--json").data, "it would wait in a process that has ended"
