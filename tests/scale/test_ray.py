"""Rows over a real local Ray: the same records as the local engine's, whatever dies on the way."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
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
from turnguard.config.document import from_dict
from turnguard.evaluation import batch_ray
from turnguard.testing import FakeVLLM

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        server.when("bomb", categories=["Violence"], p=0.97)
        yield server


@pytest.fixture
def config(tmp_path: Path, fake: FakeVLLM) -> Path:
    path = tmp_path / "turnguard.yaml"
    path.write_text(f"moderator: {{base_url: '{fake.base_url}', deadline: 20s}}\npolicy: {{default: block}}\n")
    return path


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"n{number}", "text": f"{'a bomb' if number % 7 == 3 else 'text'} {number}"} for number in range(count)
    ]


def written(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def parts(out: Path) -> list[dict[str, Any]]:
    return [record for part in sorted(out.glob("part-*.jsonl")) for record in records(part)]


def over_ray(config: Path, source: object, out: object, *more: object) -> int:
    given = ["batch", source, out, "--engine", "ray", "--workers", 2, "--config", config, *more]
    return main([str(word) for word in given])


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_ray, "PART_ROWS", 20)
    defaults = dict(batch_ray.distribute.__kwdefaults__ or {})
    monkeypatch.setattr(batch_ray.distribute, "__kwdefaults__", {**defaults, "part_rows": 20})


@pytest.mark.parametrize(
    "kind",
    ["jsonl", pytest.param("csv", marks=pytest.mark.exhaustive), pytest.param("parquet", marks=pytest.mark.exhaustive)],
)
def test_the_records_are_those_of_the_local_engine(kind: str, tmp_path: Path, config: Path) -> None:
    found = rows(110)
    source = tmp_path / f"in.{kind}"
    if kind == "jsonl":
        written(source, found)
        source.write_text(source.read_text() + "{broken\n\n" + json.dumps({"text": 7}) + "\n")
    elif kind == "csv":
        source.write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"]}\n2"\n' for row in found) + "short\n")
    else:
        pq.write_table(pa.Table.from_pylist(found), source)
    code = main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)])
    assert over_ray(config, source, tmp_path / "out") == code
    assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")
    missed = [json.loads(text) for text in (tmp_path / "out" / "not-judged.jsonl").read_text().splitlines()]
    assert len(missed) == {"jsonl": 2, "csv": 1, "parquet": 0}[kind]


def test_a_second_run_asks_for_what_is_missing_or_failed_alone(tmp_path: Path, config: Path, fake: FakeVLLM) -> None:
    source = written(tmp_path / "in.jsonl", rows(100))
    out = tmp_path / "out"
    fake.fail("unauthorized", when="text 5")
    assert over_ray(config, source, out) == 3
    whole = parts(out)
    assert {record["id"] for record in whole if record["status"] == "failed"} == {
        "n5",
        *(f"n{number}" for number in range(50, 60) if number % 7 != 3),
    }
    fake.heal()
    (out / "part-000004.jsonl").unlink()
    (out / "part-000003.jsonl.1.tmp").write_text("half a part")
    asked = len(fake.chats)
    assert over_ray(config, source, out) == 0
    assert len(fake.chats) - asked <= 20 + 10
    assert [record["row"] for record in parts(out)] == list(range(1, 101))
    assert {record["status"] for record in parts(out)} == {"judged"}
    assert (out / "not-judged.jsonl").read_text() == ""


@pytest.mark.exhaustive
def test_another_input_or_policy_is_refused(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "in.jsonl", rows(20))
    out = tmp_path / "out"
    assert over_ray(config, source, out) == 0
    before = parts(out)
    written(source, rows(21))
    assert over_ray(config, source, out) == 2
    assert "was begun with another input" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert over_ray(config, source, tmp_path / "mine") == 2
    assert "was not begun by this command" in capsys.readouterr().err
    assert parts(out) == before


def test_a_worker_killed_midway_loses_and_doubles_nothing(tmp_path: Path, config: Path, fake: FakeVLLM) -> None:
    source = written(tmp_path / "in.jsonl", rows(600))
    fake.latency = 0.01
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < 3 and not over.is_set():
            time.sleep(0.4)
            workers = [pid for pid in _workers() if pid not in killed]
            if workers and len(fake.chats) > 40 * (1 + len(killed)):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        assert over_ray(config, source, tmp_path / "out", "--concurrency", 8) == 0
    finally:
        over.set()
        assassin.join()
    assert killed
    fake.latency = 0.0
    assert main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 0
    assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")


def _workers() -> list[int]:
    """The processes of guards, by what Ray calls them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if told.startswith(b"ray::_Worker.judge"):
                found.append(int(entry.name))
    return found


def test_a_place_that_only_this_process_sees_is_read_and_written(tmp_path: Path, config: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/rows/in.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows(45)))
    try:
        assert over_ray(config, "memory://rows/in.jsonl", "memory://out", "--verdicts", "memory://verdicts") == 0
        made = sorted(path for path in memory.find("/out") if "part-" in path)
        found = [json.loads(text) for path in made for text in memory.cat_file(path).splitlines()]
        assert [record["id"] for record in found] == [f"n{number}" for number in range(45)]
        memory.get("/verdicts", str(tmp_path / "verdicts"), recursive=True)
    finally:
        memory.store.clear()
    again = tmp_path / "again.jsonl"
    assert main(["batch", "--redecide", str(tmp_path / "verdicts"), str(again), "--config", str(config)]) == 0
    for record in found:
        record.pop("evidence")
    assert records(again) == found


def test_a_folder_of_mixed_files_names_what_was_not_judged(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "in"
    for number in range(60):
        inside = folder / f"{number % 5}"
        inside.mkdir(parents=True, exist_ok=True)
        kind = ("txt", "png", "html", "bad.png")[number % 4]
        made = {"txt": b"a bomb", "png": picture(), "html": b"<p>a page</p>", "bad.png": b"\x89PNG\r\n\x1a\n broken"}
        (inside / f"{number}.{kind}").write_bytes(made[kind])
    assert over_ray(config, folder, tmp_path / "out") == 3
    missed = [json.loads(text)["id"] for text in (tmp_path / "out" / "not-judged.jsonl").read_text().splitlines()]
    assert sorted(missed) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bad.png"))
    assert main(["batch", str(folder), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 3
    assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(out, "PNG")
    return out.getvalue()


@pytest.mark.exhaustive
def test_parts_may_be_parquet(tmp_path: Path, config: Path) -> None:
    source = written(tmp_path / "in.jsonl", rows(45))
    for _ in range(2):
        assert over_ray(config, source, tmp_path / "out", "--parts", "parquet") == 0
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert table.column("row").to_pylist() == list(range(1, 46))
    assert table.column("action").to_pylist().count("block") == 6
    assert table.column("categories").to_pylist()[3] == ["Violence"]


def test_an_address_where_no_ray_runs_is_named(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def init(**settings: Any) -> None:
        assert settings["address"] == "127.0.0.1:1"
        raise ConnectionError("no")

    monkeypatch.setattr(ray, "init", init)
    source = written(tmp_path / "in.jsonl", rows(2))
    assert over_ray(config, source, tmp_path / "out", "--address", "127.0.0.1:1") == 2
    assert "--address 127.0.0.1:1: no Ray answers there" in capsys.readouterr().err


def test_a_guard_s_configuration_travels_to_a_worker(config: Path) -> None:
    found = from_dict({"moderator": {"base_url": "http://localhost:1/v1", "api_key": "secret"}}, {})
    again = ray.get(ray.remote(lambda given: given).remote(found))
    assert again.moderator.api_key.get_secret_value() == "secret"
    assert again.policy.digest == found.policy.digest
