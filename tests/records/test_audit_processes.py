"""One audit file is written by one process; a path that cannot be written is told where somebody looks."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.records.conftest import in_child
from turnguard import ConfigError, Guard, Policy, Step
from turnguard.config.settings import AuditSettings
from turnguard.testing import FakeModerator, FakeVLLM

SCRIPT = """
import sys
from turnguard import Guard, Policy, Step
from turnguard.config.settings import AuditSettings
from turnguard.testing import FakeModerator
guard = Guard(Policy.from_dict({}), FakeModerator(), audit=AuditSettings(path=sys.argv[1], max_bytes=20_000))
for number in range(60):
    guard.check(Step.input(f"x {number}"))
guard.close()
print(guard._kept.audit.dropped)
"""


def guarded(path: Path | str, *, required: bool = False) -> Guard:
    audit = AuditSettings(path=str(path), required=required)
    return Guard(Policy.from_dict({}), FakeModerator(), audit=audit)


def _run(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)


def test_each_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "audit.{pid}.jsonl")], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [child.communicate(timeout=90)[0].strip() for child in children] == [b"0", b"0"]
    files = [file for file in tmp_path.glob("audit.*.jsonl*") if file.suffix != ".lock"]
    found = [line for file in files for line in file.read_text().splitlines()]
    assert len({json.loads(line)["id"] for line in found}) == 120
    assert {file.name.split(".")[1] for file in tmp_path.iterdir()} == {str(child.pid) for child in children}


def test_a_second_process_on_one_file_is_told_and_counts_what_it_loses(tmp_path: Path) -> None:
    guard = guarded(tmp_path / "audit.jsonl")
    guard.check(Step.input("mine"))
    assert guard._kept is not None
    assert guard._kept.audit is not None
    _wait_for(tmp_path / "audit.jsonl.lock")
    other = _run(tmp_path / "audit.jsonl")
    assert other.stdout.strip() == "60"
    assert "another process writes this file; with {pid} in its name each process has its own" in other.stderr
    guard.close()
    assert _run(tmp_path / "audit.jsonl").stdout.strip() == "0"  # the file is free again


def _wait_for(file: Path) -> None:
    import time

    until = time.monotonic() + 30
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.01)


def test_required_makes_a_second_process_fail_at_once(tmp_path: Path) -> None:
    guard = guarded(tmp_path / "audit.jsonl")
    guard.check(Step.input("mine"))
    _wait_for(tmp_path / "audit.jsonl.lock")
    script = SCRIPT.replace("max_bytes=20_000", "required=True")
    other = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "audit.jsonl")], capture_output=True, text=True, check=False
    )
    assert other.returncode != 0
    assert "ConfigError: audit.path" in other.stderr
    guard.close()


def test_two_guards_of_one_process_share_a_file(tmp_path: Path) -> None:
    first, second = guarded(tmp_path / "audit.jsonl"), guarded(tmp_path / "audit.jsonl", required=True)
    for guard in (first, second):
        guard.check(Step.input("x"))
        guard.close()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2


def test_a_forked_child_leaves_the_parents_lock_alone(tmp_path: Path) -> None:
    guard = guarded(tmp_path / "audit.{pid}.jsonl")
    guard.check(Step.input("parent"))

    def record() -> None:
        guard.check(Step.input("child"))
        guard.close()

    child = in_child(record)
    guard.check(Step.input("parent again"))
    guard.close()
    assert len((tmp_path / f"audit.{os.getpid()}.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / f"audit.{child}.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("path", ["/proc/nosuch/a.jsonl", "/dev/null/a.jsonl", "folder"])
def test_a_path_that_cannot_be_written_fails_where_somebody_looks(path: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with FakeVLLM() as server:
        (tmp_path / "turnguard.yaml").write_text(
            f"moderator: {{base_url: {server.base_url}}}\naudit:\n  path: {path}\n"
        )
        linted = run("policy", "lint")
        assert linted.code == 2
        assert "turnguard.yaml:3: audit.path: " in linted.out
        examined = run("doctor", "--json")
        (finding,) = [each for each in examined.data["endpoints"][0]["findings"] if each["canary"] == "audit"]
        assert finding["status"] == "failed"
        assert examined.code == 1
        with pytest.raises(ConfigError, match=r"audit.path"):
            guarded(tmp_path / path, required=True)
    assert list((tmp_path / "folder").iterdir()) == []


def test_lint_leaves_no_trace(run: Run, tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text(
        "moderator: {base_url: 'http://127.0.0.1:1/v1'}\naudit: {path: logs/a.jsonl}\n"
    )
    assert run("policy", "lint").code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["turnguard.yaml"]


def test_a_disk_that_fails_is_told_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    guard = guarded(tmp_path / "file" / "a.jsonl")
    for number in range(5):
        guard.check(Step.input(f"x {number}"))
    guard.close()
    assert guard._kept is not None
    assert guard._kept.audit is not None
    assert guard._kept.audit.dropped == 5
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1


def test_doctor_tells_of_the_database(run: Run, tmp_path: Path) -> None:
    with FakeVLLM() as server:
        for url, status in (("sqlite:///a.db", "ok"), ("postgresql://nobody@127.0.0.1:1/none", "failed")):
            (tmp_path / "turnguard.yaml").write_text(
                f"moderator: {{base_url: {server.base_url}}}\nrecords: {{url: '{url}'}}\n"
            )
            found = run("doctor", "--json").data["endpoints"][0]["findings"]
            assert [each["status"] for each in found if each["canary"] == "records"] == [status]
