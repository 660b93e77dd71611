"""Nothing leaves the machine, and NeMo parses its own library of flows once instead of for every app."""

import copy
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

os.environ["NEMO_GUARDRAILS_NO_USAGE_STATS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def library_parsed_once() -> Iterator[None]:
    """Parsing the library is nine tenths of loading an app, and hundreds are loaded here."""
    from nemoguardrails.rails.llm import llmrails

    parse = llmrails.parse_colang_file
    parsed: dict[tuple[str, str], Any] = {}

    def parse_once(filename: str, content: str, version: str = "1.0", **more: Any) -> Any:
        key = (filename, content)
        if key not in parsed:
            parsed[key] = parse(filename, content=content, version=version, **more)
        return copy.deepcopy(parsed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llmrails, "parse_colang_file", parse_once)
        yield


@pytest.fixture(autouse=True)
async def guards_closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """NeMo's apps cannot be closed, so that each test closes the guards in those that it loaded."""
    from turnguard.nemo import drop_in

    install = drop_in.install
    guards = []

    def noted(app: Any, host: Any) -> None:
        guards.append(host.guard)
        install(app, host)

    monkeypatch.setattr(drop_in, "install", noted)
    yield
    for guard in guards:
        await guard.aclose()


@pytest.fixture(scope="session")
def main_model() -> Iterator[Any]:
    """A main model over HTTP, for engines that take no other."""
    from tests.nemo.guarded_lab import main_server

    with main_server() as server:
        yield server


@pytest.fixture
async def lab(main_model: Any) -> AsyncIterator[Any]:
    """Makes `GuardedLab`s, and closes them."""
    from tests.nemo.guarded_lab import GuardedLab

    made: list[GuardedLab] = []

    def make(kind: str, *replies: Any, **settings: Any) -> GuardedLab:
        made.append(GuardedLab(kind, main_model, *replies, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()
