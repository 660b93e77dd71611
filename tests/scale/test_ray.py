"""Rows over a real local Ray: the same records as the local engine's, whatever dies on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.scale.test_places import odd, picture
from tests.scale.test_verdicts import records
from turnguard.cli import main
from turnguard.config.document import from_dict
from turnguard.evaluation import batch_ray
from turnguard.testing import FakeVLLM

SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 40, "RAY_USAGE_STATS_ENABLED": "0"}
SETTINGS["RAY_raylet_start_wait_time_s"] = "120"  # a loaded machine takes longer than the 30 of its own
os.environ.update(SETTINGS)  # Ray reads them as it is imported

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


START = [
    sys.executable,
    "-m",
    "ray.scripts.scripts",
    "start",
    "--block",
    "--num-cpus=1",
    "--object-store-memory=80000000",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with a core each."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address = f"127.0.0.1:{port}"
    nodes = [_node("--head", f"--port={port}", "--include-dashboard=false", ports=21_000)]
    try:
        _until(lambda: _answers(port))
        nodes.append(_node(f"--address={address}", ports=21_100))
        yield address
    finally:
        for node in reversed(nodes):
            node.terminate()
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)


def _node(*options: str, ports: int) -> subprocess.Popen[bytes]:
    bounds = [f"--min-worker-port={ports}", f"--max-worker-port={ports + 99}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*START, *options, *bounds], stdout=quiet, stderr=quiet, start_new_session=True)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def _connected(cluster: str) -> Iterator[None]:
    ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")
    _until(lambda: ray.cluster_resources().get("CPU") == 2)
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
    found = rows(198)
    source = tmp_path / f"in.{kind}"
    if kind == "jsonl":  # one row of a hundred cannot be read
        lines = [json.dumps(row) for row in found]
        source.write_text("\n".join([*lines[:50], "{broken", *lines[50:120], "", '{"text": 7}', *lines[120:], ""]))
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
    half = (out / "part-000001.jsonl").read_bytes()
    (out / "part-000001.jsonl").write_bytes(half[: len(half) // 2])  # cut within a line
    (out / "part-000003.jsonl").write_bytes(b"".join((out / "part-000003.jsonl").read_bytes().splitlines(True)[:7]))
    asked = len(fake.chats)
    assert over_ray(config, source, out) == 0
    assert len(fake.chats) - asked <= 3 * 20 + 10
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


@pytest.mark.parametrize(
    ("count", "deaths"), [(300, 1), pytest.param(10_000, 5, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1200)])]
)
def test_a_worker_killed_midway_loses_and_doubles_nothing(
    count: int, deaths: int, tmp_path: Path, config: Path, fake: FakeVLLM
) -> None:
    source = written(tmp_path / "in.jsonl", rows(count))
    fake.latency = 0.03 if count < 1000 else 0.01
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < deaths and not over.wait(0.05):
            workers = [pid for pid in _workers() if pid not in killed]
            if workers and len(fake.chats) > count * (1 + len(killed)) / (2 + deaths):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        assert over_ray(config, source, tmp_path / "out", "--concurrency", 8) == 0
    finally:
        over.set()
        assassin.join()
    assert len(killed) == deaths
    fake.latency = 0.0
    assert main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 0
    assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")


def _workers(name: bytes = b"ray::_Worker.judge") -> list[int]:
    """The processes of guards, by what Ray calls them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if told.startswith(name):
                found.append(int(entry.name))
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_machine_that_dies_midway_loses_and_doubles_nothing(
    end: signal.Signals, tmp_path: Path, config: Path, fake: FakeVLLM, cluster: str
) -> None:
    source = written(tmp_path / "in.jsonl", rows(300))
    fake.latency = 1.0  # the third machine's workers come last
    _until(lambda: ray.cluster_resources().get("CPU") == 2)  # Ray may still count the machine of the test before
    machine = _node(f"--address={cluster}", ports=21_200)
    over = threading.Event()
    ended: list[list[int]] = []

    def kill() -> None:
        while not ended and not over.wait(0.05):
            below = _below(machine.pid)
            if len(fake.chats) > 20 and (workers := [pid for pid in _workers() if pid in below]):
                ended.append(workers)
                for pid in below:
                    os.kill(pid, end)
                fake.latency = 0.05

    killer = threading.Thread(target=kill)
    try:
        _until(lambda: ray.cluster_resources().get("CPU") == 3)
        killer.start()  # six workers need all three machines
        code = over_ray(config, source, tmp_path / "out", "--concurrency", 12, "--workers", 6)
    finally:
        over.set()
        killer.join()
        for pid in _below(machine.pid):
            os.kill(pid, signal.SIGKILL)
        machine.wait()
    assert code == 0
    assert ended
    fake.latency = 0.0
    assert main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 0
    assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")


def _below(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                parents.setdefault(int(parent), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_a_folder_of_another_place(tmp_path: Path, config: Path) -> None:
    memory = fsspec.filesystem("memory")
    for number in range(20):
        path = tmp_path / "in" / f"{number % 3}" / f"{number:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a bomb" if number % 7 == 3 else "text")
        memory.pipe_file(f"/in/{path.relative_to(tmp_path / 'in').as_posix()}", path.read_bytes())
    try:
        assert main(["batch", str(tmp_path / "in"), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 0
        assert over_ray(config, (tmp_path / "in").as_uri(), (tmp_path / "out").as_uri()) == 0
        assert parts(tmp_path / "out") == records(tmp_path / "local.jsonl")
        # workers do not see this process's memory: every file is named, and none passes
        assert over_ray(config, "memory://in", tmp_path / "unseen") == 3
    finally:
        memory.store.clear()
    missed = (tmp_path / "unseen" / "not-judged.jsonl").read_text().splitlines()
    assert len(missed) == 20
    assert all("cannot be fetched (FileNotFoundError)" in text for text in missed)
    assert {record["action"] for record in parts(tmp_path / "unseen")} == {None}


@pytest.mark.exhaustive
def test_parquet_of_odd_types_gives_the_records_of_the_local_engine(tmp_path: Path, config: Path) -> None:
    source = odd(tmp_path / "in.parquet")
    assert over_ray(config, source, tmp_path / "out", "--parts", "parquet") == 3
    assert main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 3
    (part,) = (tmp_path / "out").glob("part-*.parquet")
    made = [json.loads(text) for text in pq.read_table(part).column("record").to_pylist()]
    assert made == records(tmp_path / "local.jsonl")


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_parts_may_be_parquet(tmp_path: Path, config: Path) -> None:
    source = written(tmp_path / "in.jsonl", rows(45))
    for _ in range(2):
        assert over_ray(config, source, tmp_path / "out", "--parts", "parquet") == 0
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert table.column("row").to_pylist() == list(range(1, 46))
    assert table.column("action").to_pylist().count("block") == 6
    assert table.column("categories").to_pylist()[3] == ["Violence"]


@pytest.mark.parametrize("name", ["127.0.0.1:%d", "ray://localhost:%d"])
def test_an_address_where_no_ray_runs_is_named(
    name: str, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = name % listener.getsockname()[1]
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    source = written(tmp_path / "in.jsonl", rows(2))
    assert over_ray(config, source, tmp_path / "out", "--address", address) == 2
    assert f"--address {address}: no Ray answers there (ConnectionRefusedError)" in capsys.readouterr().err


def test_workers_run_on_every_node_of_the_cluster_at_an_address(tmp_path: Path, config: Path, cluster: str) -> None:
    source = written(tmp_path / "in.jsonl", rows(200))
    out = tmp_path / "out"
    given = ["batch", source, out, "--engine", "ray", "--address", cluster, "--config", config, "--concurrency", 4]
    run = subprocess.Popen([sys.executable, "-m", "turnguard", *map(str, given)], stderr=subprocess.PIPE)
    raylets: set[str] = set()
    while run.poll() is None:
        for pid in _workers(b"ray::_Worker"):
            with contextlib.suppress(OSError):
                raylets.add(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        time.sleep(0.05)
    assert run.communicate()[1] is not None
    assert run.returncode == 0
    assert len(raylets) == 2  # the parents of workers: one for each node
    assert main(["batch", str(source), str(tmp_path / "local.jsonl"), "--config", str(config)]) == 0
    assert parts(out) == records(tmp_path / "local.jsonl")


@pytest.mark.exhaustive
def test_workers_that_die_as_they_start_end_the_run(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("moderator: {base_url: 'https://127.0.0.1:1/v1', tls: {ca: missing.pem}}\n")
    source = written(tmp_path / "in.jsonl", rows(20))
    assert over_ray(config, source, tmp_path / "out") == 3
    assert "workers die as they start (6 in a row)" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_guard_s_configuration_travels_to_a_worker(config: Path) -> None:
    found = from_dict({"moderator": {"base_url": "http://localhost:1/v1", "api_key": "secret"}}, {})
    again = ray.get(ray.put(found))
    assert again.moderator.api_key.get_secret_value() == "secret"
    assert again.policy.digest == found.policy.digest
