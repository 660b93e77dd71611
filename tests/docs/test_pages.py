"""Every code block of the pages runs, and every terminal output in them is what the command prints today."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turnguard.sandbox.ocr import available

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


script: Any = importlib.import_module("scripts.docs_output")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    for module in ("nemoguardrails", "langchain"):
        pytest.importorskip(module, reason="the pages use every wing")
    if not available():
        pytest.skip("the pages show a sandbox that reads pictures")
    with script.servers() as urls:
        yield urls


@pytest.fixture
def base_url(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with script.surroundings(*servers) as url:
        yield url


# What NeMo and LangChain warn of when they are imported or configured is theirs.
@pytest.mark.filterwarnings("default", "ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", script.PAGES)
def test_a_page_runs_from_top_to_bottom(name: str, base_url: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    session = script.Session(name, base_url)
    ran = 0
    for block in script.blocks(text):
        if block.not_run is not None:
            continue
        told = session.run(block)
        if told is not None:
            assert script.same(block.body, told), f"{name}:{block.line} prints otherwise now:\n{told}"
        ran += 1
    assert ran, f"{name} runs nothing"
    for found in [
        value for value in session.names.values() if inspect.isclass(value) and value.__name__ == "TestMyAgent"
    ]:
        for contract in [name for name, _ in inspect.getmembers(found, callable) if name.startswith("test_")]:
            getattr(found(), contract)()


@pytest.mark.parametrize("name", script.PAGES)
def test_a_block_that_does_not_run_says_why(name: str) -> None:
    for block in script.blocks((DOCS / name).read_text(encoding="utf-8")):
        if block.not_run is None:
            assert block.language in ("python", "yaml", "console"), f"{name}:{block.line} needs a reason"
        else:
            assert len(block.not_run) > 10, f"{name}:{block.line}: {block.not_run!r} is no reason"


def test_commands_in_the_pages_exist() -> None:
    from turnguard.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    for name in script.PAGES:
        for command in re.findall(r"(?:`|\$ )turnguard ([a-z]+)", (DOCS / name).read_text(encoding="utf-8")):
            assert command in known, f"{name} names turnguard {command}"


def test_no_page_invents_an_address() -> None:
    """Example hosts are localhost, reserved names, or the project's and the model's own."""
    allowed = ("localhost", "github.com/turnguard/", "huggingface.co/nvidia/", "moderator-", "gateway", "127.0.0.1")
    for name in (*script.PAGES, "reference.md"):
        for address in re.findall(r"https?://([^\s)\"'`]+)", (DOCS / name).read_text(encoding="utf-8")):
            host = address.rpartition("@")[2]
            reserved = re.split("[:/]", host)[0].endswith(".example")  # RFC 2606
            assert reserved or host.startswith(allowed), f"{name}: {address}"


@pytest.mark.parametrize(
    ("shown", "told", "equal"),
    [
        ("A verdict in 31 ms.", "A verdict in 2.4 s.", True),
        ("╭── x ──╮", "╭───── x ─╮", True),
        ("ok  categories", "failed  categories", False),
        ("1", "0", False),
    ],
)
def test_outputs_are_compared_without_their_times(shown: str, told: str, equal: bool) -> None:
    assert script.same(shown, told) is equal


def test_an_unmarked_block_of_another_language_is_refused(base_url: str) -> None:
    (block,) = script.blocks("```bash\nrm -rf nothing\n```\n")
    with pytest.raises(AssertionError, match="needs a reason"):
        script.Session("x.md", base_url).run(block)
