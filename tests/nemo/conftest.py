"""Nothing leaves the machine, and NeMo parses its own library of flows once instead of for every app."""

import copy
import functools
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


@pytest.fixture(scope="session", autouse=True)
def steps_compared() -> Iterator[None]:
    """Every step that the engine takes in these tests is the one that its whole history gives."""
    from nemoguardrails.colang.v1_0.runtime import flows

    from tests.nemo.lab import comparable
    from turnguard.nemo.stepping import Steps, rebound

    take, from_all = Steps.__call__, rebound(flows.compute_next_steps)

    @functools.wraps(take)
    def compared(self: Steps, history: list[Any], configs: Any, rails_config: Any, processing_log: list[Any]) -> Any:
        steps = take(self, history, configs, rails_config, processing_log)
        whole = from_all(history, configs, rails_config, [])
        if comparable(steps) != comparable(whole):
            pytest.fail(f"going on gave {comparable(steps)}, the whole history {comparable(whole)}")
        return steps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "__call__", compared)
        yield


@pytest.fixture(autouse=True)
async def guards_closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """NeMo's apps cannot be closed, so that each test closes the guards in those that it loaded."""
    from turnguard.nemo import engine

    install = engine.install
    guards = []

    def noted(app: Any, host: Any) -> None:
        guards.append(host.guard)
        install(app, host)

    monkeypatch.setattr(engine, "install", noted)
    yield
    for guard in guards:
        await guard.aclose()
