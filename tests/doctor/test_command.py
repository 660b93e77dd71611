"""`turnguard doctor` as a command: exit codes for scripts, JSON for CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doctor.conftest import moderating
from turnguard.cli import main
from turnguard.testing import FakeVLLM


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FakeVLLM) -> Path:
    """An empty folder with a `turnguard.yaml` that names the fake server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "turnguard.yaml").write_text(f"moderator: {{base_url: '{server.base_url}'}}\n", encoding="utf-8")
    return tmp_path


def test_all_good(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "control_tokens" in told
    assert "FAILED" not in told


def test_something_failed(here: Path, server: FakeVLLM, capsys: pytest.CaptureFixture[str]) -> None:
    server.drop_categories = True
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "FAILED" in told
    assert "change" in told
    assert "chat_template_kwargs" in told


def test_json_for_ci(here: Path, server: FakeVLLM, capsys: pytest.CaptureFixture[str]) -> None:
    server.info.image_limit = 4
    assert main(["doctor", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["healthy"] is False
    assert data["exit_code"] == 1
    (endpoint,) = data["endpoints"]
    assert endpoint["base_url"] == server.base_url
    (failed,) = [finding for finding in endpoint["findings"] if finding["status"] == "failed"]
    assert failed["canary"] == "picture_limit"
    assert "--limit-mm-per-prompt" in failed["change"]


def test_nothing_answers(here: Path, server: FakeVLLM, capsys: pytest.CaptureFixture[str]) -> None:
    with server.down():
        assert main(["doctor"]) == 3
    assert "Nothing answers" in capsys.readouterr().out


def test_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 2
    assert "turnguard init" in capsys.readouterr().err
    (tmp_path / "none.yaml").write_text("policy: {}\n", encoding="utf-8")
    assert main(["doctor", "-c", "none.yaml"]) == 2
    assert "TURNGUARD_BASE_URL" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("polcy: {}\n", encoding="utf-8")
    assert main(["doctor", "-c", "bad.yaml", "--json"]) == 2
    assert "policy" in json.loads(capsys.readouterr().out)["error"]


def test_no_key_is_ever_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeVLLM(api_key="sk-planted-key") as fake:
        moderating(fake)
        file = tmp_path / "turnguard.yaml"
        for key in ("sk-planted-key", "sk-other-planted-key"):
            file.write_text(f"moderator: {{base_url: '{fake.base_url}', api_key: {key}}}\n", encoding="utf-8")
            main(["doctor", "-c", str(file)])
            main(["doctor", "-c", str(file), "--json"])
    captured = capsys.readouterr()
    assert "planted" not in captured.out + captured.err
