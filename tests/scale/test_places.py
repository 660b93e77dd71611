"""Rows of other places and of odd shapes, judged by the local engine. tests/scale/test_ray.py has Ray's."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.scale.test_verdicts import records
from turnguard.cli import main
from turnguard.testing import FakeVLLM


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    with FakeVLLM() as server:
        server.when("bomb", categories=["Violence"], p=0.97)
        path = tmp_path / "turnguard.yaml"
        path.write_text(f"moderator: {{base_url: '{server.base_url}', deadline: 20s}}\npolicy: {{default: block}}\n")
        yield path


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(out, "PNG")
    return out.getvalue()


FILES = {
    "a/bomb.txt": b"a bomb",
    "a/page.html": b"<p>a page</p>",
    "b/picture.png": picture(),
    "b/broken.png": b"\x89PNG\r\n\x1a\n broken",
    "c.md": "grüße".encode(),
}


def judged(source: object, out: Path, config: Path) -> int:
    return main(["batch", str(source), str(out), "--config", str(config)])


def test_a_folder_of_another_place_gives_the_records_of_a_local_one(tmp_path: Path, config: Path, memory: Any) -> None:
    for name, data in FILES.items():
        memory.pipe_file(f"/in/{name}", data)
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert judged(tmp_path / "in", tmp_path / "local.jsonl", config) == 3
    assert judged("memory://in", tmp_path / "memory.jsonl", config) == 3
    assert judged((tmp_path / "in").as_uri(), tmp_path / "file.jsonl", config) == 3
    found = records(tmp_path / "local.jsonl")
    assert [record["id"] for record in found if record["action"] == "block"] == ["a/bomb.txt", "b/broken.png"]
    assert sorted(record["id"] for record in found) == sorted(FILES)
    for place in ("memory", "file"):
        again = {record["id"]: record for record in records(tmp_path / f"{place}.jsonl")}
        # a remote listing sorts paths as a whole, a walk sorts each folder
        assert {name: {**record, "row": 0} for name, record in again.items()} == {
            record["id"]: {**record, "row": 0} for record in found
        }


def test_files_that_a_table_names_are_fetched_from_beside_it(tmp_path: Path, config: Path, memory: Any) -> None:
    memory.pipe_file("/in/b/picture.png", picture())
    cells = ["b/picture.png", '["b/picture.png", "b/picture.png"]', "../secret.png", "b/none.png", "/etc/hostname", "["]
    table = io.StringIO()
    csv.writer(table).writerows(
        [("id", "text", "images"), *((f"n{place}", "look", cell) for place, cell in enumerate(cells))]
    )
    memory.pipe_file("/in/rows.csv", table.getvalue().encode())
    assert judged("memory://in/rows.csv", tmp_path / "out.jsonl", config) == 3
    found = records(tmp_path / "out.jsonl")
    assert [record["status"] for record in found] == ["judged"] * 2 + ["unreadable"] * 4
    assert not any(record["not_judged"] for record in found[:2])
    for record, why in zip(found[2:], ("outside", "FileNotFoundError", "outside", "JSON list"), strict=True):
        assert why in record["error"]


def test_a_table_of_another_place_is_read_and_gone_on_with(tmp_path: Path, config: Path, memory: Any) -> None:
    memory.pipe_file("/rows/in.jsonl", b"".join(b'{"text": "row %d"}\n' % number for number in range(20)))
    out = tmp_path / "out.jsonl"
    assert judged("memory://rows/in.jsonl", out, config) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    assert judged("memory://rows/in.jsonl", out, config) == 0
    assert out.read_bytes() == whole
    memory.pipe_file("/rows/in.jsonl", b'{"text": "another"}\n')
    assert judged("memory://rows/in.jsonl", out, config) == 2


@pytest.mark.parametrize(
    ("source", "out", "said"),
    [
        ("memory://none/in.jsonl", "out.jsonl", "memory://none/in.jsonl: no such file or folder"),
        ("nowhere://bucket/in.jsonl", "out.jsonl", "nowhere://bucket/in.jsonl: "),
        ("memory://in.jsonl", "memory://out.jsonl", "OUT is a URL of another place: only --engine ray writes there"),
    ],
)
def test_places_that_cannot_be_used_are_named(
    source: str, out: str, said: str, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = out if "://" in out else str(tmp_path / out)
    assert main(["batch", source, into, "--config", str(config)]) == 2
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- odd Parquet


def odd(path: Path) -> Path:
    """Every type that Parquet has, in the columns that text is read from. The first row is sound."""
    texts = pa.array([b"good", b"\xff\xfe", b"a bomb"], pa.binary())
    table = pa.table(
        {
            "id": pa.array([1.5, None, float("nan")], pa.float32()),
            "text": pa.Array.from_buffers(pa.string(), 3, texts.buffers()),  # the second is no UTF-8
            "prompt": pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int8()), pa.array(["ask"])),
            "language": pa.array(["en", "en", None], pa.large_string()),
            "categories": pa.array([["a"], None, []], pa.large_list(pa.string())),
        }
    )
    pq.write_table(table, path)
    return path


ODD: dict[str, pa.Array] = {
    "integers": pa.array([1, 2], pa.int64()),
    "bytes": pa.array([b"a", b"b"], pa.binary()),
    "dates": pa.array([dt.date(2026, 1, 1)] * 2),
    "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
    "a far year": pa.array([2**60, 2**61], pa.timestamp("s")).cast(pa.timestamp("ms"), safe=False),
    "decimals": pa.array([decimal.Decimal("1.5")] * 2),
    "structs": pa.array([{"a": 1}, {"a": 2}]),
    "lists": pa.array([["a"], ["b"]]),
    "maps": pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64())),
    "booleans": pa.array([True, False]),
    "half floats": pa.array([1.0, 2.0], pa.float16()),
    "durations": pa.array([1, 2], pa.duration("ns")),
}


def test_a_row_with_bytes_that_are_no_text_is_unreadable_alone(tmp_path: Path, config: Path) -> None:
    assert judged(odd(tmp_path / "in.parquet"), tmp_path / "out.jsonl", config) == 3
    found = records(tmp_path / "out.jsonl")
    assert [record["status"] for record in found] == ["judged", "unreadable", "judged"]
    assert [record["action"] for record in found] == ["allow", None, "block"]
    assert found[1]["error"] == "row 2: holds a value that cannot be read (UnicodeDecodeError)"
    assert found[0]["id"] == "1.5"


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("column", ["text", "images"])
def test_columns_of_odd_types_are_unreadable_rows(kind: str, column: str, tmp_path: Path, config: Path) -> None:
    columns = {"text": pa.array(["good", "good"]), column: ODD[kind]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    assert judged(tmp_path / "in.parquet", tmp_path / "out.jsonl", config) == 3
    for record in records(tmp_path / "out.jsonl"):
        if (kind, column) in {("lists", "images"), ("bytes", "images")}:  # names of files, and bytes of a picture
            assert record["not_judged"]
        else:
            assert record["status"] == "unreadable"
        assert record["action"] in ("block", None)


def test_a_damaged_file_is_named(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": [f"row {number}" for number in range(2000)]}), path, compression="gzip")
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    assert judged(path, tmp_path / "out.jsonl", config) == 2
    assert f"{path}: damaged, its rows cannot be read" in capsys.readouterr().err
