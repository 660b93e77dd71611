"""`turnguard batch`: the same bytes however often it was killed, every kind of bad row told, nothing lost."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.evaluation.conftest import Cli, read_rows, write_rows
from tests.media.drawing import encoded, page
from tests.media.pdfs import pdf
from tests.media.planted.office import word
from turnguard.evaluation import bulk
from turnguard.evaluation.ledger import Again
from turnguard.evaluation.ordered import Pace, in_order
from turnguard.testing import FakeVLLM

COMMAND = [sys.executable, "-c", "import sys; from turnguard.cli import main; sys.exit(main())", "batch"]


def picture(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- what comes out


def test_one_record_per_row_in_order_and_nothing_that_varies(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.latency = lambda chat: random.random() * 0.02  # noqa: S311 - replies come in any order
    fake.when("bomb", categories=["Violence"], p=0.97)
    fake.when("damn", categories=["Profanity"])
    rows: list[dict[str, Any]] = [{"id": f"n{index}", "text": f"harmless {index}"} for index in range(40)]
    rows[7]["text"] = "a bomb"
    rows[8] |= {"text": "damn", "label": "safe"}
    rows[9] = {"text": "the bomb in an answer", "stage": "output", "prompt": "ask"}
    rows[10] = {"text": '{"name": "shell", "arguments": {"cmd": "bomb"}}', "stage": "tool_call", "prompt": "do"}
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    records = read_rows(tmp_path / "out.jsonl")
    assert [record["row"] for record in records] == list(range(1, 41))
    assert records[0]["id"] == "n0"
    assert records[7]["action"] == "block"
    assert records[7]["verdict"]["p_unsafe"] == pytest.approx(0.97, abs=1e-6)
    assert (records[8]["action"], records[8]["label"]) == ("flag", "safe")
    assert records[9]["verdict"]["response"] == "unsafe"
    assert (records[10]["stage"], records[10]["verdict"]["response"]) == ("tool_call", "unsafe")
    assert not {"latency", "remembered", "message"} & (set(records[0]) | set(records[0]["verdict"]))
    first = (tmp_path / "out.jsonl").read_bytes()
    assert cli("batch", source, tmp_path / "again.jsonl") == 0
    assert (tmp_path / "again.jsonl").read_bytes() == first


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_every_table_format_gives_the_same_records(kind: str, tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.when("bomb", categories=["Violence"])
    (tmp_path / "p.png").write_bytes(picture())
    rows = [
        {"id": "a", "text": 'one, "two"\nthree', "images": "p.png", "group": "x"},
        {"id": "b", "text": "bomb – ünïcode", "images": "", "group": "y"},
    ]
    path = tmp_path / f"in.{kind}"
    if kind == "jsonl":
        write_rows(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    assert cli("batch", path, tmp_path / "out.jsonl") == 0
    records = read_rows(tmp_path / "out.jsonl")
    assert [(record["row"], record["id"], record["action"]) for record in records] == [
        (1, "a", "allow"),
        (2, "b", "block"),
    ]
    assert sum(len(request.chat.images) for request in fake.chats if request.chat) == 1


def test_pictures_in_parquet_as_bytes(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    rows = [{"id": "a", "text": "look", "images": [{"bytes": picture(), "path": "x.png"}]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert cli("batch", tmp_path / "in.parquet", tmp_path / "out.jsonl") == 0
    assert fake.chats[0].chat is not None
    assert len(fake.chats[0].chat.images) == 1


def test_a_folder_of_files(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.when("bomb")
    folder = tmp_path / "in"
    (folder / "unsafe").mkdir(parents=True)
    (folder / "b.png").write_bytes(picture())
    (folder / "unsafe" / "a.txt").write_text("a bomb")
    assert cli("batch", folder, tmp_path / "out.jsonl") == 0
    records = read_rows(tmp_path / "out.jsonl")
    assert [(record["id"], record["action"], record.get("label")) for record in records] == [
        ("b.png", "allow", None),
        ("unsafe/a.txt", "block", "unsafe"),
    ]


def test_every_file_of_a_folder_is_judged_or_told(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    fake.when("bomb")
    folder = tmp_path / "in"
    folder.mkdir()
    judged = {
        "a.bmp": encoded(page(), "BMP"),
        "a.tiff": encoded(page(), "TIFF"),
        "a.html": b"<p>a bo<b>mb</b></p>",
        "a.eml": b"From: a@example.com\nSubject: a bomb\n\nx\n",
        "a.csv": b"a,bomb",
        "a.docx": word("<w:p><w:r><w:t>a bomb</w:t></w:r></w:p>"),
        "cp1251.txt": "как сделать bomb дома и что нужно".encode("cp1251"),
        "no suffix": b"a bomb",
    }
    unread = {"a.bin": bytes(range(256)), "a.odt": b"PK\3\4" + bytes(40), "a.rtf": b"{\\rtf1 a}", "empty": b""}
    for name, data in {**judged, **unread}.items():
        (folder / name).write_bytes(data)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.pdf").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "elsewhere").mkdir()
    (folder / "folder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert cli("batch", folder, tmp_path / "out.jsonl") == 3
    records = {record["id"]: record for record in read_rows(tmp_path / "out.jsonl")}
    assert {*records} == {*judged, *unread, "link.pdf", "folder"}
    for name in judged:
        assert records[name]["status"] == "judged"
        assert records[name]["not_judged"] == []
        assert records[name]["action"] == ("block" if name[2:] not in ("bmp", "tiff") else "allow"), name
    for name in unread:
        assert records[name]["action"] == "block"
        assert records[name]["not_judged"], name
    assert "outside the data's folder" in records["link.pdf"]["error"]
    assert "a link to a folder" in records["folder"]["error"]
    assert not any("secret" in str(chat.body) for chat in fake.chats)


def test_the_output_may_not_stand_in_the_folder(tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("batch", tmp_path, tmp_path / "out.jsonl") == 2
    assert "OUT stands inside the folder IN" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../p.png", "/etc/hostname", "inner/../../p.png", "link.png"])
def test_a_row_names_no_file_outside_its_folder(path: str, tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "p.png").write_bytes(picture())
    (folder / "link.png").symlink_to(tmp_path / "p.png")
    source = write_rows(folder / "in.jsonl", [{"text": "look", "images": [path]}])
    assert cli("batch", source, tmp_path / "out.jsonl") == 3
    assert "outside the data's folder, which --anywhere allows" in read_rows(tmp_path / "out.jsonl")[0]["error"]
    assert not fake.chats
    if path != "/etc/hostname":
        assert cli("batch", source, tmp_path / "again.jsonl", "--anywhere") == 0
        assert len(fake.chats) == 1


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("id,text,text", "the column 'text' stands twice"),
        ("id,text,langauge", "there is no column 'langauge': did you mean language?"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_doubled_and_unknown_columns_are_errors(
    header: str, error: str, kind: str, tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"in.{kind}"
    if kind == "csv":
        path.write_text(f"{header}\n1,hello,bomb\n")
    else:
        pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 3, header.split(",")), path)
    assert cli("batch", path, tmp_path / "out.jsonl") == 2
    assert error in " ".join(capsys.readouterr().err.split())
    assert not fake.chats


def test_doubled_and_unknown_keys_of_a_row_are_told(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    lines = ['{"text": "hello", "text": "bomb"}', '{"text": "hello", "txet": "bomb"}', '{"text": "hello"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    assert cli("batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl") == 3
    records = read_rows(tmp_path / "out.jsonl")
    assert [record.get("error") for record in records] == [
        "row 1: the key 'text' stands twice",
        "row 2: there is no column 'txet': did you mean text?",
        None,
    ]


@pytest.mark.parametrize("form", ["folder", "column"])
def test_documents_are_judged_page_by_page(
    form: str, tmp_path: Path, fake: FakeVLLM, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdfium2")
    monkeypatch.chdir(tmp_path)  # where the report goes
    fake.when("bomb", categories=["Guns and Illegal Weapons"])
    folder = tmp_path / "in"
    (folder / "safe").mkdir(parents=True)
    (folder / "unsafe").mkdir()
    line = "BT /F1 24 Tf 72 700 Td ({}) Tj ET"
    (folder / "safe" / "bread.pdf").write_bytes(pdf(line.format("How to bake bread.")))
    (folder / "unsafe" / "parts.pdf").write_bytes(pdf(line.format("Page one."), line.format("How to build a bomb.")))
    (folder / "unsafe" / "torn.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    source = folder
    if form == "column":
        names = ("safe/bread.pdf", "unsafe/parts.pdf", "unsafe/torn.pdf")
        rows = [{"id": name, "documents": [f"in/{name}"], "label": name.split("/")[0]} for name in names]
        source = write_rows(tmp_path / "in.jsonl", rows)
    assert cli("batch", source, tmp_path / "out.jsonl") == 3  # one could not be judged
    found = {record["id"]: record for record in read_rows(tmp_path / "out.jsonl")}
    assert {name: (record["action"], record["label"]) for name, record in found.items()} == {
        "safe/bread.pdf": ("allow", "safe"),
        "unsafe/parts.pdf": ("block", "unsafe"),
        "unsafe/torn.pdf": ("block", "unsafe"),
    }
    assert found["unsafe/parts.pdf"]["verdict"]["categories"] == ["Guns and Illegal Weapons"]
    assert any("How to build a bomb." in str(chat.body) for chat in fake.chats), "the text of page 2"
    assert cli("eval", source, "--out", tmp_path / "eval") == 3  # a labelled set, of which a third cannot be judged


# ---------------------------------------------------------------- killed and gone on with


@pytest.mark.timeout(300)
def test_killed_ten_times_it_gives_the_same_bytes_as_an_unbroken_run(
    tmp_path: Path, fake: FakeVLLM, config: Path, cli: Cli
) -> None:
    fake.when("bomb", categories=["Violence"], p=0.9)
    fake.latency = 0.005
    rows = [{"id": f"n{index}", "text": f"row {index}" + (" bomb" if index % 7 == 0 else "")} for index in range(2_400)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    command = [*COMMAND, str(source), str(out), "--config", str(config), "--concurrency", "8"]
    dice = random.Random(4)  # noqa: S311 - when to kill
    kills = 0
    while kills < 10:
        before = out.stat().st_size if out.exists() else 0
        goes_on_for = dice.randrange(1, 40_000)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and (not out.exists() or out.stat().st_size <= before + goes_on_for):
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stderr:
            process.stderr.close()
        kills += 1
        if kills % 3 == 0:  # what a kill in the middle of a write, or a full disk, leaves behind
            with out.open("ab") as file:
                file.write(b'{"row":9999,"status":"jud')
    asked = len(fake.chats)
    assert asked < 2_400 + 10 * 300
    fake.latency = 0.0
    assert cli("batch", source, out) == 0
    assert len(fake.chats) < 2_400 + 10 * 700  # only what a kill caught on its way was asked twice
    assert cli("batch", source, tmp_path / "unbroken.jsonl") == 0
    assert out.read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()


@pytest.mark.parametrize("moment", ["asking", "merging", "renamed"])
def test_killed_while_asking_again(
    moment: str, tmp_path: Path, fake: FakeVLLM, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": f"n{index}", "text": f"row {index}."} for index in range(60)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert cli("batch", source, tmp_path / "unbroken.jsonl") == 0
    for index in (3, 30, 59):
        fake.fail("crash", when=f"row {index}.", times=2)
    out = tmp_path / "out.jsonl"

    class Killed(BaseException):
        pass

    def kill(*_args: object) -> None:
        raise Killed

    real_unlink = Path.unlink

    def kill_after_renaming(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(".again") and path.exists():
            raise Killed
        real_unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        if moment == "asking":
            patched.setattr(Again, "append", kill)
        elif moment == "merging":
            patched.setattr(os, "fsync", kill)
        else:
            patched.setattr(Path, "unlink", kill_after_renaming)
        with pytest.raises(Killed):
            cli("batch", source, out)
    assert cli("batch", source, out) == 0
    assert out.read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()
    assert {path.name for path in tmp_path.glob("out.jsonl*")} == {"out.jsonl", "out.jsonl.turnguard.json"}


def test_a_finished_run_asks_nothing_again(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "hello"}])
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    asked = len(fake.chats)
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    assert len(fake.chats) == asked


# ---------------------------------------------------------------- failed rows


def test_a_failed_row_is_asked_again_and_takes_its_own_place(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    rows = [{"id": f"n{index}", "text": f"row {index}."} for index in range(20)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    fake.fail("crash", when="row 4.", times=2)  # one attempt and the client's one retry
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    records = read_rows(tmp_path / "out.jsonl")
    assert [record["row"] for record in records] == list(range(1, 21))
    assert records[4]["status"] == "judged"
    assert records[4]["action"] == "allow"


def test_rows_that_still_fail_make_exit_3_and_the_next_run_asks_them_again(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": f"row {index}."} for index in range(6)])
    fake.fail("crash", when="row 2.")
    assert cli("batch", source, tmp_path / "out.jsonl") == 3
    told = capsys.readouterr().out
    assert "1 rows that the moderator failed on" in told
    assert "row 3: the moderator failed: unavailable" in told
    record = read_rows(tmp_path / "out.jsonl")[2]
    assert (record["status"], record["action"], record["failed"]) == ("failed", "block", True)
    fake.heal()
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    assert read_rows(tmp_path / "out.jsonl")[2]["status"] == "judged"


def test_a_server_that_is_gone_ends_the_run_early(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bulk, "GIVES_UP_AFTER", 25)
    source = write_rows(tmp_path / "in.jsonl", [{"text": f"row {index}."} for index in range(300)])
    with fake.down():
        assert cli("batch", source, tmp_path / "out.jsonl") == 3
    assert "25 rows failed one after the other" in capsys.readouterr().err
    assert cli("batch", source, tmp_path / "out.jsonl") == 0
    assert {record["status"] for record in read_rows(tmp_path / "out.jsonl")} == {"judged"}


# ---------------------------------------------------------------- bad input


def test_bad_rows_are_told_in_their_place_and_the_rest_is_done(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        b'{"id": "ok", "text": "hello"}',
        b"{not json",
        b'{"text": "x", "label": "dangerous"}',
        b'{"text": "x", "stage": "imput"}',
        b'{"id": "none"}',
        b'{"text": "caf\xe9"}',
        b"[1, 2]",
        b'{"text": 5}',
        b'{"id": "last", "text": "bye"}',
    ]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(lines))
    assert cli("batch", source, tmp_path / "out.jsonl") == 3
    records = read_rows(tmp_path / "out.jsonl")
    assert [record["status"] for record in records] == ["judged", *["unreadable"] * 7, "judged"]
    assert [record["error"].split(": ", 1) for record in records[1:8]] == [
        ["row 2", "not valid JSON (Expecting property name enclosed in double quotes)"],
        ["row 3", "label is neither safe nor unsafe"],
        ["row 4", "stage is none of input, retrieval, tool_call, tool_result, output, tools"],
        ["row 5", "nothing to judge: the input step holds neither text, image nor document"],
        ["row 6", "not valid UTF-8"],
        ["row 7", "expected a JSON object, not list"],
        ["row 8", "text is not text but int"],
    ]
    assert all(record["action"] is None for record in records[1:8])
    assert "7 rows that cannot be read" in capsys.readouterr().out


def test_a_broken_picture_is_decided_by_the_policy_and_told(
    tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(picture()[:40])
    rows: list[dict[str, Any]] = [{"text": f"row {index}"} for index in range(5)]
    rows[2]["images"] = ["broken.png"]
    rows[3]["images"] = ["missing.png"]
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert cli("batch", source, tmp_path / "out.jsonl") == 3
    records = read_rows(tmp_path / "out.jsonl")
    assert [record["action"] for record in records] == ["allow", "allow", "block", "block", "allow"]
    assert records[2]["not_judged"][0]["kind"] == "image"
    told = capsys.readouterr().out
    assert "2 rows with a part that could not be judged" in told
    assert "row 3: image not judged" in told


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_without_anything_to_judge_is_refused_at_once(
    kind: str, tmp_path: Path, fake: FakeVLLM, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"in.{kind}"
    if kind == "csv":
        path.write_text("id,txet\n1,hello\n")
    else:
        pq.write_table(pa.table({"id": [1], "txet": ["hello"]}), path)
    assert cli("batch", path, tmp_path / "out.jsonl") == 2
    assert "a column text, images or documents is missing; it has id, txet" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert not fake.chats


def test_a_row_with_another_number_of_cells(tmp_path: Path, fake: FakeVLLM, cli: Cli) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,hello\n2\n3,bye\n")
    assert cli("batch", tmp_path / "in.csv", tmp_path / "out.jsonl") == 3
    assert read_rows(tmp_path / "out.jsonl")[1]["error"] == "row 2: has 1 columns where the header has 2"


@pytest.mark.parametrize("foreign", ["", "my notes\n", '{"row":1,"status":"judged"}\n'])
def test_a_foreign_output_is_left_untouched(
    foreign: str, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "hello"}])
    out = tmp_path / "out.jsonl"
    out.write_text(foreign)
    assert cli("batch", source, out) == 2
    assert out.read_text() == foreign
    assert "was not begun by this command; it is left as it is" in capsys.readouterr().err


def test_an_output_of_other_settings_or_another_input_is_left_untouched(
    tmp_path: Path, config: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "hello"}])
    out = tmp_path / "out.jsonl"
    assert cli("batch", source, out) == 0
    done = out.read_bytes()
    config.write_text(config.read_text().replace("Profanity: flag", "Profanity: review"))
    assert cli("batch", source, out) == 2
    assert "begun with other settings" in capsys.readouterr().err
    config.write_text(config.read_text().replace("Profanity: review", "Profanity: flag").replace("20s", "21s"))
    assert cli("batch", source, out) == 0  # how long a check may take changes no record
    write_rows(source, [{"text": "hello"}, {"text": "more"}])
    assert cli("batch", source, out) == 2
    assert "begun with another input" in capsys.readouterr().err
    assert out.read_bytes() == done


def test_usage_errors(tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "hello"}])
    assert cli("batch", source, source) == 2
    assert "the same file" in capsys.readouterr().err
    assert cli("batch", tmp_path / "none.jsonl", tmp_path / "out.jsonl") == 2
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "in.xlsx").write_text("x")
    assert cli("batch", tmp_path / "in.xlsx", tmp_path / "out.jsonl") == 2
    assert "expected .jsonl, .csv, .tsv, .parquet or a folder" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence_and_nothing_done_is_lost(
    tmp_path: Path, fake: FakeVLLM, config: Path, cli: Cli
) -> None:
    """A limit on the file's size refuses the write in its middle, as a full disk does."""
    source = write_rows(tmp_path / "in.jsonl", [{"id": f"n{index}", "text": f"row {index}"} for index in range(800)])
    out = tmp_path / "out.jsonl"
    limit = 100_000
    limited = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));" + COMMAND[2]
    command = [sys.executable, "-c", limited, "batch", str(source), str(out), "--config", str(config)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 2
    assert "out.jsonl cannot be written: File too large; what is in it stays" in done.stderr
    assert "row " in done.stderr
    assert out.stat().st_size == limit  # up to the middle of a line
    asked = len(fake.chats)
    assert cli("batch", source, out) == 0
    assert len(read_rows(out)) == 800
    assert len(fake.chats) - asked < 700


def test_two_runs_at_once_do_not_mix(
    tmp_path: Path, fake: FakeVLLM, config: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.latency = 0.05
    source = write_rows(tmp_path / "in.jsonl", [{"text": f"row {index}"} for index in range(400)])
    out = tmp_path / "out.jsonl"
    command = [*COMMAND, str(source), str(out), "--config", str(config), "--concurrency", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not out.exists():
            time.sleep(0.005)
        assert cli("batch", source, out) == 2
        assert "is being written by another run" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- memory and order


async def test_a_slow_row_holds_the_others_back_before_memory_fills() -> None:
    begun = 0
    gate = asyncio.Event()
    told: list[int] = []

    async def work(item: int) -> int:
        nonlocal begun
        begun += 1
        if item == 0:
            await gate.wait()
        return item

    running = asyncio.ensure_future(in_order(range(5_000), work, told.append, 4))
    for _ in range(2_000):
        await asyncio.sleep(0)
    assert begun <= 4 * 16
    assert told == []
    gate.set()
    await running
    assert told == list(range(5_000))


async def test_an_error_ends_everything() -> None:
    cancelled = 0

    async def work(item: int) -> int:
        nonlocal cancelled
        if item == 3:
            raise OSError("disk")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return item

    with pytest.raises(OSError, match="disk"):
        await in_order(range(100), work, lambda _: None, 4)
    assert cancelled == 3


def test_memory_stays_bounded(tmp_path: Path, fake: FakeVLLM, config: Path) -> None:
    """Rows of 100 kB each, 60 MB in all: never more than a few are held."""
    long = "word " * 20_000
    with (tmp_path / "in.jsonl").open("w") as file:
        for index in range(600):
            # the guard judges long texts in windows; an unreadable row passes through without a request
            file.write(json.dumps({"text": 7, "id": f"{index}{long}"}) + "\n")
    out = tmp_path / "out.jsonl"
    # not ru_maxrss: that of a child begins with its parent's
    watched = COMMAND[2].replace(
        "sys.exit(main())",
        "code = main(); print(*[s for s in open('/proc/self/status') if s[:5] == 'VmHWM']); sys.exit(code)",
    )
    command = [sys.executable, "-c", watched, "batch", str(tmp_path / "in.jsonl"), str(out), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert int(done.stdout.split("VmHWM:")[1].split()[0]) < 150_000  # kilobytes


async def test_a_strained_server_gets_fewer_rows_at_once_and_later_more_again() -> None:
    pace = Pace(16)
    running = peak = done = 0
    strain = True
    least = 16

    async def work(_item: int) -> bool:
        nonlocal running, peak, done, least
        running += 1
        peak = max(peak, running)
        least = min(least, pace.limit)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        done += 1
        return strain

    def sink(_result: bool) -> None:
        nonlocal strain
        strain = done < 200

    await in_order(range(1_000), work, sink, pace, strained=lambda result: result)
    assert (peak, least, pace.limit, running) == (16, 1, 16, 0)
