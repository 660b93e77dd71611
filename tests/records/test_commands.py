"""`turnguard records`: the questions that people ask of past decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pyarrow import parquet

from tests.cli.conftest import Run
from tests.records.conftest import KEY
from turnguard import Guard, Step
from turnguard.config.files import load
from turnguard.records import schema
from turnguard.records.store import Store, now
from turnguard.testing import FakeModerator

pytestmark = pytest.mark.usefixtures("recorded")

UNSAFE = {"bomb": ["Guns and Illegal Weapons"], "damn": ["Profanity"], "both": ["Profanity", "Threat"]}
YAML = """\
moderator: {base_url: "http://127.0.0.1:1/v1"}
records: {url: "%s", content: true, key: "%s"}
policy:
  categories:
    Guns and Illegal Weapons: {action: block, above: 0.85, otherwise: flag}
    # says nothing bad
    Profanity: flag
  shadow: shadow.yaml
"""


@pytest.fixture
def recorded(url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Some decisions in a database; by text, their ids."""
    (tmp_path / "turnguard.yaml").write_text(YAML % (url, KEY))
    (tmp_path / "shadow.yaml").write_text("policy:\n  categories:\n    Profanity: block\n")
    ids = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        config = load("turnguard.yaml")
        guard = Guard(config.policy, FakeModerator(unsafe=UNSAFE), records=config.records)
        for text, owner in (
            ("hello planted", {"user": "ann", "tenant": "acme"}),
            ("damn planted", {"user": "ann", "tenant": "acme"}),
            ("a bomb planted", {"user": "bob", "thread": "t1", "tenant": "globex"}),
            ("both planted", {"user": "O'Brien; DROP TABLE records; --", "tenant": "acme"}),
        ):
            ids[text.removesuffix(" planted")] = guard.check(Step.input(text, metadata=owner)).id
        guard.close()
    yield ids
    store = Store.open(config.records)
    with store.begin() as connection:
        connection.execute(sa.delete(schema.records))
    store.close()


def store_of(tmp_path: Path) -> Store:
    return Store.open(load(tmp_path / "turnguard.yaml").records)


# ---------------------------------------------------------------- why


def test_why_shows_the_rule_with_its_line_as_it_was_then(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text(
        (tmp_path / "turnguard.yaml").read_text().split("policy:")[0] + "policy: {}\n"
    )
    told = run("records", "why", recorded["a bomb"])
    assert told.code == 0
    assert "block  input" in told.out
    assert "P(unsafe) 0.98 > 0.85" in told.out
    assert "turnguard.yaml:5  policy.categories.Guns and Illegal Weapons" in told.out
    assert ">    5      Guns and Illegal Weapons: {action: block, above: 0.85, otherwise: flag}" in told.out
    assert "the shadow policy agrees" in told.out
    assert "planted" not in told.out
    assert max(map(len, told.out.splitlines())) <= 100


def test_why_finds_a_persons_decision_of_a_day(run: Run, recorded: dict[str, str]) -> None:
    from datetime import datetime

    today = datetime.now().astimezone().strftime("%Y-%m-%d")
    found = run("records", "why", "--user", "ann", "--on", today, "--json").data
    assert [each["id"] for each in found] == [recorded["damn"]]  # what passed needs no explanation
    assert found[0]["shadow"] == "block"
    assert found[0]["shadow_reasons"][0]["file"] == "shadow.yaml"
    assert found[0]["shadow_reasons"][0]["line"] == 3
    assert found[0]["reasons"][0]["written"] == "Profanity: flag"
    assert run("records", "why", "--user", "ann", "--on", "2001-01-01").out == "nothing but what passed\n"


def test_why_takes_the_beginning_of_an_id(run: Run, recorded: dict[str, str]) -> None:
    assert run("records", "why", recorded["damn"][:8], "--json").data["id"] == recorded["damn"]
    assert run("records", "why", "ffffffffff").code == 2


def test_looking_at_content_is_a_record(run: Run, recorded: dict[str, str]) -> None:
    assert "text: a bomb planted" in run("records", "why", recorded["a bomb"], "--content").out
    (seen,) = run("records", "list", "--event", "content_seen", "--json").data
    assert seen["metadata"]["decision"] == recorded["a bomb"]


def test_why_with_another_key_is_a_clear_error(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "turnguard.yaml"
    file.write_text(file.read_text().replace(KEY, "another key of more than 32 characters"))
    told = run("records", "why", recorded["a bomb"], "--content")
    assert told.code == 2
    assert "records.key does not open this content" in told.err


def test_why_without_the_policy_and_with_a_damaged_row(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with store.begin() as connection:
        connection.execute(sa.delete(schema.policies))
        connection.execute(
            sa.update(schema.records).where(schema.records.c.id == recorded["damn"]),
            {"evidence": '{"judgements":[{"ver', "parts": "[{"},
        )
    store.close()
    told = run("records", "why", recorded["a bomb"])
    assert told.code == 0
    assert "is not in the database" in told.out
    assert "policy.categories.Guns and Illegal Weapons" in told.out
    damaged = run("records", "why", recorded["damn"])
    assert damaged.code == 0
    assert "the record is damaged" in damaged.out


# ---------------------------------------------------------------- list, top


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["--action", "flag"], ["damn"]),
        (["--category", "profanity"], ["both", "damn"]),
        (["--rule", "policy.default"], ["both"]),
        (["--user", "ann", "--stage", "input"], ["damn", "hello"]),
        (["--thread", "t1"], ["a bomb"]),
        (["--tenant", "globex"], ["a bomb"]),
        (["--shadow-differs"], ["damn"]),
        (["--failed"], []),
        (["--reduced"], []),
        (["--user", "O'Brien; DROP TABLE records; --"], ["both"]),
        (["--user", "ann' OR '1'='1"], []),
        (["--category", "Prof%"], []),
        (["--rule", 'x" OR "1"="1'], []),
        (["--since", "1h"], ["both", "a bomb", "damn", "hello"]),
        (["--until", "1h"], []),
    ],
)
def test_filters(run: Run, recorded: dict[str, str], options: list[str], texts: list[str]) -> None:
    found = {each["id"] for each in run("records", "list", "--json", *options).data}
    assert found == {recorded[text] for text in texts}


def test_the_tables_fit_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("list", "top"):
        told = run("records", command)
        assert told.code == 0
        assert max(map(len, told.out.splitlines())) <= 80
        assert "…" not in told.out


def test_top_counts_every_rule_that_fired(run: Run) -> None:
    found = run("records", "top", "--since", "7d", "--json").data
    assert {group["name"]: group["count"] for group in found["groups"]} == {
        "policy.categories.Profanity": 2,
        "policy.categories.Guns and Illegal Weapons": 1,
        "policy.default": 1,
        None: 1,
    }
    assert found["all"]["count"] == 4
    assert found["all"]["p50"] > 0
    assert {g["name"]: g["count"] for g in run("records", "top", "--by", "tenant", "--json").data["groups"]} == {
        "acme": 3,
        "globex": 1,
    }
    assert {g["name"]: g["count"] for g in run("records", "top", "--by", "category", "--json").data["groups"]} == {
        "Profanity": 2,
        "Threat": 1,
        "Guns and Illegal Weapons": 1,
        None: 1,
    }


@pytest.mark.parametrize(
    "arguments",
    [("top", "--by", "colour"), ("list", "--since", "soon"), ("list", "--action", "deny"), ("list", "--on", "today")],
)
def test_a_mistake_is_a_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    told = run("records", *arguments)
    assert told.code == 2
    assert told.err


# ---------------------------------------------------------------- replay


def test_replay_counts_what_would_change(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text("policy:\n  categories:\n    Profanity: block\n    Threat: allow\n")
    found = run("records", "replay", "--policy", "next.yaml", "--json").data
    assert (found["records"], found["decided"], found["changed"], found["undecided"]) == (4, 4, 1, {})
    assert found["changes"] == [{"from": "flag", "to": "block", "count": 1, "examples": [recorded["damn"]]}]
    assert found["rules"][0]["rule"] == "policy.categories.Profanity"
    shown = run("records", "replay", "--policy", "next.yaml", "--html", "out/replay.html")
    assert "1 of 4 decisions change (25.00%) under next.yaml" in shown.out
    page = (tmp_path / "out" / "replay.html").read_text()
    assert "Replay report" in page
    assert recorded["damn"] in page
    assert run("records", "replay", "--policy", "next.yaml", "--fail-above", "1%").code == 1
    assert run("records", "replay", "--policy", "next.yaml", "--fail-above", "25%").code == 0


def test_replay_under_the_same_policy_changes_nothing(run: Run) -> None:
    found = run("records", "replay", "--policy", "turnguard.yaml", "--fail-above", "0", "--json")
    assert found.code == 0
    assert found.data["changed"] == 0


def test_the_shadow_and_its_replay_say_the_same(run: Run) -> None:
    shadows = {each["id"]: each["shadow"] for each in run("records", "list", "--json").data}
    differ = {each["id"] for each in run("records", "list", "--shadow-differs", "--json").data}
    found = run("records", "replay", "--policy", "shadow.yaml", "--json").data
    assert {name for change in found["changes"] for name in change["examples"]} == differ
    assert found["after"] == {
        action: list(shadows.values()).count(action) for action in ("allow", "block") if action in shadows.values()
    }


def test_what_cannot_be_decided_again_is_counted_apart(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with store.begin() as connection:
        chosen = schema.records.c.id
        for name in ("damn", "both"):  # of these, only the first hangs on P: the other is blocked for a threat anyway
            (row,) = connection.execute(sa.select(schema.records).where(chosen == recorded[name]))
            blind = json.loads(row.evidence)
            for judgement in blind["judgements"]:
                judgement["verdict"].pop("p_user")
            made = {"evidence": json.dumps(blind)}
            connection.execute(sa.update(schema.records).where(chosen == recorded[name]), made)
        connection.execute(sa.update(schema.records).where(chosen == recorded["hello"]), {"evidence": '{"judg'})
    store.close()
    (tmp_path / "next.yaml").write_text("policy: {categories: {Profanity: {action: block, above: 0.9}}}\n")
    found = run("records", "replay", "--policy", "next.yaml", "--json").data
    assert found["undecided"] == {
        "no P was kept, and the policy has another threshold": 1,
        "the record is damaged": 1,
    }
    assert run("records", "replay", "--policy", "next.yaml", "--fail-above", "49%").code == 1


def test_a_bound_that_is_no_share_is_a_sentence(run: Run) -> None:
    assert "a share, such as 1%" in run("records", "replay", "--policy", "shadow.yaml", "--fail-above", "x").err


# ---------------------------------------------------------------- export, prune, import


def test_export_as_json_lines_and_as_parquet(run: Run, recorded: dict[str, str], tmp_path: Path) -> None:
    assert run("records", "export", "out.jsonl").out == "4 records in out.jsonl\n"
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(recorded.values())
    assert "content" not in lines[0]
    assert lines[2]["reasons"][0]["rule"] == "policy.categories.Guns and Illegal Weapons"
    run("records", "export", "with.jsonl", "--content", "--user", "bob")
    (line,) = (tmp_path / "with.jsonl").read_text().splitlines()
    assert json.loads(line)["content"]["parts"][0]["text"] == "a bomb planted"
    run("records", "export", "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column("id").to_pylist() == list(recorded.values())
    assert table.schema.field("time").type == "int64"
    assert run("records", "export", "out.csv").code == 2


def test_prune_erases_a_person(run: Run, tmp_path: Path) -> None:
    assert run("records", "prune").code == 2
    assert run("records", "prune", "--user", "ann").out == "2 records erased\n"
    assert len(run("records", "list", "--json").data) == 2
    assert run("records", "prune", "--before", "1h").out == "0 records erased\n"


async def test_audit_files_of_several_processes_are_imported_once(run: Run, tmp_path: Path) -> None:
    from turnguard.config.settings import AuditSettings

    run("records", "prune", "--before", "2100-01-01")
    config = load(tmp_path / "turnguard.yaml")
    decided: list[Any] = []
    for name in ("a.jsonl", "b.jsonl"):
        audit = AuditSettings(path=str(tmp_path / name))
        async with Guard(config.policy, FakeModerator(unsafe=UNSAFE), audit=audit) as guard:
            decided += [await guard.acheck(Step.input(text, language="de")) for text in ("a bomb", "damn", "fine")]
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"time": "2026-')  # a kill left half a line
    told = run("records", "import", "a.jsonl", "b.jsonl")
    assert told.out == "a.jsonl: 3 records\nb.jsonl: 3 records, 1 lines are damaged\n"
    assert run("records", "import", "a.jsonl").code == 0
    found = {each["id"]: each for each in run("records", "list", "--json").data}
    assert set(found) == {each.id for each in decided}
    for each in decided:
        assert found[each.id]["action"] == each.action
        assert abs(found[each.id]["time"] - now()) < 60_000
    replayed = run("records", "replay", "--policy", "turnguard.yaml", "--json").data
    assert (replayed["decided"], replayed["changed"]) == (6, 0)


def test_before_anything_was_recorded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text("records: {url: sqlite:///nothing.db}\n")
    told = run("records", "list")
    assert told.code == 2
    assert "nothing has been recorded yet" in told.err
    (tmp_path / "turnguard.yaml").write_text("policy: {}\n")
    assert "records.url" in run("records", "top").err
