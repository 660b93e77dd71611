"""`moderator.checkpoint`: what may stand there, and what is said where it cannot work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from turnguard import ConfigError, Guard
from turnguard.config.document import parse
from turnguard.moderators.local.checkpoint import locate


def mistake(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        Guard.from_dict(data)
    return str(error.value)


def test_a_checkpoint_or_a_server_not_both() -> None:
    both = {"base_url": "http://localhost:8000/v1", "checkpoint": "./model"}
    assert "either behind a base_url or a checkpoint" in mistake({"moderator": both})


def test_a_checkpoint_stands_against_the_environment_s_server() -> None:
    config = parse("moderator: {checkpoint: ./model}\npolicy: {}\n", {"TURNGUARD_BASE_URL": "http://elsewhere/v1"})
    assert config.moderator.checkpoint == "./model"
    assert config.moderator.base_urls == ()


def test_a_fallback_may_be_a_checkpoint() -> None:
    config = parse("moderator: {base_url: 'http://a/v1', fallback: {checkpoint: ./model}}\npolicy: {}\n", {})
    assert config.moderator.fallback is not None
    assert config.moderator.fallback.may_allow


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "model", "a/b/c", "~/nowhere", "../up/down"])
def test_a_directory_that_is_not_there_is_never_looked_for_elsewhere(name: str) -> None:
    assert "there is no directory" in mistake({"moderator": {"checkpoint": name}})


def test_a_directory_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # it may not even be imported
    assert locate("owner/name") == (tmp_path / "owner" / "name").resolve()


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_extra_one_sentence_names_it(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None if missing == "torch" else sys)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert f"needs {missing}, which is not installed; pip install 'turnguard[local]'" in mistake(
        {"moderator": {"checkpoint": str(tmp_path)}}
    )


def test_a_hub_id_without_the_hub_s_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'turnguard[local]'" in mistake({"moderator": {"checkpoint": "owner/name"}})


def test_importing_the_package_imports_no_torch() -> None:
    import subprocess

    check = (
        "import sys, turnguard, turnguard.moderators.local as _; print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
