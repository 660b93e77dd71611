"""Each example runs as its README line says: its own script and YAML, against the sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from turnguard.sandbox import OcrUnavailable, Reader, Sandbox
from turnguard.text.messages import builtin

EXAMPLES = Path(__file__).parents[2] / "config_examples" / "langchain"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    """The sandbox on loopback."""
    with Sandbox(announce=lambda _line: None) as running:
        yield running.base_url


@pytest.fixture(autouse=True)
def _point_at_it(sandbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNGUARD_BASE_URL", sandbox)


def load(name: str) -> ModuleType:
    """The example's script as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_driven_here() -> None:
    found = {path.parent.name for path in EXAMPLES.glob("*/main.py")}
    assert found == {"browser", "review", "chain", "graph", "terminal"}
    assert all((EXAMPLES / name / "turnguard.yaml").exists() for name in found)


def test_the_browser_sees_one_page_and_not_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rapidocr", reason="the sandbox reads pictures with the extra sandbox")
    try:
        Reader()
    except OcrUnavailable as error:
        pytest.skip(str(error))
    asyncio.run(load("browser").main())
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == " tool: [{'type': 'text', 'text': 'Screenshot of weather'}, {'type': 'image'}]"
    assert "image" not in lines[4]
    assert lines[-1].endswith("withheld from me.")


@pytest.mark.parametrize(
    ("answer", "sent"),
    [("approve", "078-05-1120"), ("reject", "sent: []"), ("I will call you.", "sent: ['I will call you.']")],
)
def test_the_mail_waits_for_a_person(capsys: pytest.CaptureFixture[str], answer: str, sent: str) -> None:
    load("review").main(lambda _question: answer)
    out = capsys.readouterr().out
    assert "review (PII/Privacy)" in out
    assert sent in out
    assert out.rstrip().endswith("That is done.")


def test_the_chain_refuses_the_second_question(capsys: pytest.CaptureFixture[str]) -> None:
    load("chain").main()
    answers = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert answers == ["It is a city with a river.", "I can't help with that.", "It is a city with a river."]


def test_the_graph_ends_at_its_first_guard(capsys: pytest.CaptureFixture[str]) -> None:
    load("graph").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "   ai: It is Paris."
    assert lines[2] == "human: [Removed for safety reasons]"
    assert len(lines) == 4


def test_the_terminal_shows_only_what_was_judged(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(load("terminal").main())
    out = capsys.readouterr().out
    assert "seat of government for a long time." in out
    assert "Of course." in out
    assert "kill" not in out
    assert any(refusal in out for refusal in builtin("en").values())
