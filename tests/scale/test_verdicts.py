"""Verdicts apart from decisions: what the model said is kept, and decided again without a server."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnguard.cli import main
from turnguard.evaluation.ordered import Pace, in_order
from turnguard.testing import FakeVLLM
from turnguard.testing.faults import status

Run = Callable[..., int]


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        server.when("bomb", categories=["Violence"], p=0.97)
        server.when("maybe", p=0.6)
        server.when("damn", categories=["Profanity"])
        server.fail(status(400, {"error": {"message": "no"}}), when="refused")
        yield server


def config(path: Path, url: str, policy: str, family: str = "nemotron-3") -> Path:
    moderator = f"{{base_url: '{url}', deadline: 20s, family: {family}}}"
    path.write_text(f"moderator: {moderator}\npolicy: {policy}\n")
    return path


LENIENT = "{default: flag, categories: {Profanity: allow}}"
STRICT = "{default: block, categories: {Profanity: block}, stages: {input: {unsafe_above: 0.01}}}"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    texts = ["hello", "a bomb", "maybe", "damn", "a bomb", "please be refused", 7, "the bomb again"]
    found: list[dict[str, Any]] = [{"id": f"n{index}", "text": text} for index, text in enumerate(texts)]
    found[1]["label"] = "unsafe"
    found[7] |= {"stage": "output", "prompt": "ask", "language": "en"}
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for record in found:
        record.pop("evidence", None)
    return found


def judged(tmp_path: Path, rows: Path, fake: FakeVLLM) -> Path:
    verdicts = tmp_path / "verdicts.parquet"
    lenient = config(tmp_path / "lenient.yaml", fake.base_url, LENIENT)
    assert main(["batch", str(rows), str(tmp_path / "out.jsonl"), "--verdicts", str(verdicts), "-c", str(lenient)]) == 3
    return verdicts


def test_deciding_again_gives_the_records_of_asking_again(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    verdicts = judged(tmp_path, rows, fake)
    strict = config(tmp_path / "strict.yaml", fake.base_url, STRICT)
    assert main(["batch", str(rows), str(tmp_path / "asked.jsonl"), "-c", str(strict)]) == 3
    asked = len(fake.chats)
    for name in ("strict", "lenient"):
        again = tmp_path / f"{name}.jsonl"
        assert main(["batch", "--redecide", str(verdicts), str(again), "-c", str(tmp_path / f"{name}.yaml")]) == 3
    assert len(fake.chats) == asked  # no model was asked
    assert records(tmp_path / "lenient.jsonl") == records(tmp_path / "out.jsonl")
    assert records(tmp_path / "strict.jsonl") == records(tmp_path / "asked.jsonl")
    assert [record["action"] for record in records(tmp_path / "strict.jsonl")] == (
        ["block", "block", "block", "block", "block", "block", None, "block"]
    )
    assert [record["action"] for record in records(tmp_path / "lenient.jsonl")] == (
        ["allow", "flag", "flag", "allow", "flag", "block", None, "flag"]
    )


def test_deciding_again_needs_no_server(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    verdicts = judged(tmp_path, rows, fake)
    nowhere = tmp_path / "nowhere.yaml"
    nowhere.write_text(f"policy: {STRICT}\n")
    assert main(["batch", "--redecide", str(verdicts), str(tmp_path / "again.jsonl"), "-c", str(nowhere)]) == 3
    assert len(records(tmp_path / "again.jsonl")) == 8


def test_a_file_of_verdicts_holds_no_content(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    fake.reply(raw="User Safety: unsafe\nSafety Categories: Words Of The Row")
    verdicts = judged(tmp_path, rows, fake)
    held = json.dumps(pq.read_table(verdicts).to_pylist())
    for word in ("bomb", "hello", "Words Of The Row", "ask"):
        assert word not in held
    assert "Violence" in held


def test_a_folder_of_files_is_read_as_one(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    whole = pq.read_table(judged(tmp_path, rows, fake))
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(whole.slice(0, 3), folder / "part-0.parquet")
    pq.write_table(whole.slice(3), folder / "part-1.parquet")
    lenient = tmp_path / "lenient.yaml"
    assert main(["batch", "--redecide", str(folder), str(tmp_path / "again.jsonl"), "-c", str(lenient)]) == 3
    assert records(tmp_path / "again.jsonl") == records(tmp_path / "out.jsonl")


def test_a_run_that_was_interrupted_is_gone_on_with(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    verdicts = judged(tmp_path, rows, fake)
    lenient, again = tmp_path / "lenient.yaml", tmp_path / "again.jsonl"
    command = ["batch", "--redecide", str(verdicts), str(again), "-c", str(lenient)]
    assert main(command) == 3
    whole = again.read_bytes()
    again.write_bytes(whole[: len(whole) // 2])
    assert main(command) == 3
    assert again.read_bytes() == whole
    strict = config(tmp_path / "strict.yaml", fake.base_url, STRICT)
    assert main([*command[:-1], str(strict)]) == 2  # it was begun under another policy
    assert again.read_bytes() == whole


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda table: table.replace_schema_metadata({}), "not a file of verdicts"),
        (lambda table: table.drop(["evidence"]), "the column 'evidence' is missing"),
        (
            lambda table: table.set_column(
                table.schema.get_field_index("evidence"), "evidence", pa.array(["{}"] * len(table))
            ),
            "not a verdict",
        ),
        (
            lambda table: table.set_column(table.schema.get_field_index("stage"), "stage", pa.array([7] * len(table))),
            "not a verdict",
        ),
        (
            lambda table: table.replace_schema_metadata(
                {b"turnguard": json.dumps({"format": "turnguard verdicts 0", "family": "nemotron-3"})}
            ),
            "another version",
        ),
    ],
)
def test_what_is_no_file_of_verdicts_is_named(
    spoil: Callable[[Any], Any],
    said: str,
    tmp_path: Path,
    rows: Path,
    fake: FakeVLLM,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verdicts = judged(tmp_path, rows, fake)
    pq.write_table(spoil(pq.read_table(verdicts)), verdicts)
    lenient = tmp_path / "lenient.yaml"
    assert main(["batch", "--redecide", str(verdicts), str(tmp_path / "again.jsonl"), "-c", str(lenient)]) == 2
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- own categories


OWN = "{default: flag, custom: {Rivals: {definition: '%s', action: block}}}"


def replayed(verdicts: Path, policy: Path, now: Path) -> list[str]:
    return ["records", "replay", "--verdicts", str(verdicts), "--policy", str(policy), "-c", str(now)]


def test_own_categories_are_decided_again_under_the_same_definitions(
    tmp_path: Path, rows: Path, fake: FakeVLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.when("damn", categories=["Rivals"])
    own = config(tmp_path / "own.yaml", fake.base_url, OWN % "Praises a rival.", "nemotron-3.5")
    other = config(tmp_path / "other.yaml", fake.base_url, OWN % "Names a rival.", "nemotron-3.5")
    none = config(tmp_path / "none.yaml", fake.base_url, LENIENT, "nemotron-3.5")
    softer = config(
        tmp_path / "softer.yaml", fake.base_url, (OWN % "Praises a rival.").replace("block", "flag"), "nemotron-3.5"
    )
    with_own, without = tmp_path / "own.parquet", tmp_path / "none.parquet"
    for verdicts, policy in ((with_own, own), (without, none)):
        out = tmp_path / f"{policy.stem}.jsonl"
        assert main(["batch", str(rows), str(out), "--verdicts", str(verdicts), "-c", str(policy)]) == 3
    again = tmp_path / "again.jsonl"
    assert main(["batch", "--redecide", str(with_own), str(again), "-c", str(softer)]) == 3
    assert records(tmp_path / "own.jsonl")[3]["action"] == "block"
    assert records(again)[3]["action"] == "flag"
    capsys.readouterr()
    # the model was asked about other things: what it would say now is not known
    for verdicts, policy, mine in ((with_own, other, own), (with_own, none, own), (without, own, none)):
        for command in (
            ["batch", "--redecide", str(verdicts), str(tmp_path / "no.jsonl"), "-c", str(policy)],
            replayed(verdicts, policy, mine),
        ):
            assert main(command) == 2
            assert "was asked about other categories under policy.custom" in capsys.readouterr().err
    assert not (tmp_path / "no.jsonl").exists()


def test_records_replay_reads_the_same_file(
    tmp_path: Path, rows: Path, fake: FakeVLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = judged(tmp_path, rows, fake)
    lenient, strict = tmp_path / "lenient.yaml", config(tmp_path / "strict.yaml", fake.base_url, STRICT)
    again = tmp_path / "again.jsonl"
    assert main(["batch", "--redecide", str(verdicts), str(again), "-c", str(strict)]) == 3
    asked = len(fake.chats)
    capsys.readouterr()
    assert main([*replayed(verdicts, strict, lenient), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    pairs = [
        (old["action"], new["action"])
        for old, new in zip(records(tmp_path / "out.jsonl"), records(again), strict=True)
        if old["action"] is not None
    ]
    assert found["records"] == len(pairs)
    moves = Counter(pair for pair in pairs if pair[0] != pair[1])
    assert {(each["from"], each["to"]): each["count"] for each in found["changes"]} == moves
    assert len(fake.chats) == asked


@pytest.mark.parametrize("command", ["redecide", "replay"])
def test_a_folder_with_the_verdicts_of_two_policies_is_refused(
    command: str, tmp_path: Path, rows: Path, fake: FakeVLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lenient = tmp_path / "verdicts", config(tmp_path / "lenient.yaml", fake.base_url, LENIENT, "nemotron-3.5")
    own = config(tmp_path / "own.yaml", fake.base_url, OWN % "Praises a rival.", "nemotron-3.5")
    for policy in (lenient, own):
        out, verdicts = tmp_path / f"{policy.stem}.jsonl", folder / f"{policy.stem}.parquet"
        assert main(["batch", str(rows), str(out), "--verdicts", str(verdicts), "-c", str(policy)]) == 3
    again = ["batch", "--redecide", str(folder), str(tmp_path / "again.jsonl"), "-c", str(lenient)]
    assert main(again if command == "redecide" else replayed(folder, lenient, lenient)) == 2
    assert "verdicts of several model families or policies" in capsys.readouterr().err


def test_the_command_line_says_what_is_missing(tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", str(rows)]) == 2
    assert "OUT is missing" in capsys.readouterr().err
    assert main(["batch", "--redecide", "x.parquet", str(rows), str(tmp_path / "out")]) == 2
    assert "--redecide takes OUT alone" in capsys.readouterr().err


# ---------------------------------------------------------------- deadlines and endpoints


@pytest.mark.parametrize("command", ["batch", "eval", "calibrate"])
def test_a_deadline_that_is_none_is_named(
    command: str, tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path / "turnguard.yaml", "http://127.0.0.1:9/v1", LENIENT)
    out = [str(tmp_path / "out")] if command == "batch" else []
    assert main([command, str(rows), *out, "--deadline", "soon", "-c", str(path)]) == 2
    assert "--deadline: a duration is a number of seconds or such as 500ms, 2s, 1m" in capsys.readouterr().err


def test_a_row_takes_no_longer_than_the_deadline_given(tmp_path: Path, rows: Path, fake: FakeVLLM) -> None:
    fake.latency = 30.0
    path = config(tmp_path / "turnguard.yaml", fake.base_url, LENIENT)
    out = tmp_path / "out.jsonl"
    assert main(["batch", str(rows), str(out), "--deadline", "200ms", "-c", str(path)]) == 3
    assert {record["verdict"]["failure"] for record in records(out) if record["status"] == "failed"} == {"timeout"}


def test_several_moderators_share_the_rows(tmp_path: Path, fake: FakeVLLM) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(40)))
    path = config(tmp_path / "turnguard.yaml", "http://127.0.0.1:9/v1", LENIENT)
    with FakeVLLM() as other:
        both = f"{fake.base_url},{other.base_url}"
        assert main(["batch", str(source), str(tmp_path / "out.jsonl"), "--moderators", both, "-c", str(path)]) == 0
        assert len(fake.chats) + len(other.chats) == 40
        assert min(len(fake.chats), len(other.chats)) >= 10


def test_moderators_that_are_no_urls_are_named(tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path / "turnguard.yaml", "http://127.0.0.1:9/v1", LENIENT)
    assert main(["batch", str(rows), str(tmp_path / "out"), "--moderators", "gpu1:8000", "-c", str(path)]) == 2
    assert "--moderators: " in capsys.readouterr().err


async def test_rows_that_take_long_make_room_for_each_other() -> None:
    async def work(item: int) -> int:
        await asyncio.sleep(0.02 if item < 40 else 0.0)
        return item

    pace = Pace(8, late=0.001)
    done: list[int] = []
    limits: list[int] = []

    def sink(item: int) -> None:
        done.append(item)
        limits.append(pace.limit)

    await in_order(range(40), work, sink, pace)
    assert min(limits) <= 2  # halved round after round
    pace.late = 60.0
    await in_order(range(40, 400), work, sink, pace)
    assert pace.limit > min(limits)  # and raised again, one by one
    assert done == list(range(400))
