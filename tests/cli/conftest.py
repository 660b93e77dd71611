"""The command in this process, with its streams and its exit code; a fake server; a configuration that names it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from turnguard.cli import main
from turnguard.testing import FakeVLLM


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `turnguard ARGUMENTS` in an empty folder; `stdin` is what is piped in. A traceback fails the test at once."""
    monkeypatch.chdir(tmp_path)
    for name in ("TURNGUARD_BASE_URL", "TURNGUARD_API_KEY", "TURNGUARD_TRACEBACK", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run_it(*arguments: str | Path, stdin: str | bytes = b"") -> Ran:
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(code, captured.out, captured.err)

    return run_it


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with FakeVLLM() as server:
        yield server


@pytest.fixture
def config(fake: FakeVLLM, tmp_path: Path) -> Path:
    """A `turnguard.yaml` in the working folder that names the fake server."""
    file = tmp_path / "turnguard.yaml"
    file.write_text(
        f"moderator: {{base_url: '{fake.base_url}', deadline: 5s}}\n"
        "policy:\n"
        "  categories:\n"
        "    Profanity: flag\n"
        "    Needs Caution: review\n"
        "    PII/Privacy: {action: rewrite, with: replace}\n",
        encoding="utf-8",
    )
    return file
