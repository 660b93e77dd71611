"""Helpers for the bulk commands: a configuration that asks a fake server, and the commands in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from turnguard.cli import main
from turnguard.testing import FakeVLLM

DATA = Path(__file__).parents[3] / "shared" / "data"

Cli = Callable[..., int]


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, fake: FakeVLLM) -> Path:
    path = tmp_path / "turnguard.yaml"
    path.write_text(
        f"moderator: {{base_url: '{fake.base_url}', deadline: 20s}}\n"
        "policy:\n  default: block\n  categories: {Profanity: flag}\n"
    )
    return path


@pytest.fixture
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the shared benchmark data are not beside the project")
    return DATA


@pytest.fixture
def cli(config: Path) -> Cli:
    def run(command: str, *arguments: object) -> int:
        return main([command, *map(str, arguments), "--config", str(config)])

    return run


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
