"""`turnguard demo`: every step ends as it must, over HTTP; and a step that does not is seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest

from tests.cli.conftest import Run
from turnguard.cli.demo import _world, text
from turnguard.cli.demo._world import Line, Skipped, World
from turnguard.core.step import Step

pytestmark = pytest.mark.timeout(240)


def test_every_step_ends_as_it_must(run: Run) -> None:
    ran = run("demo", "--json")
    data = ran.data
    assert [line for line in data["lines"] if not line["ok"]] == []
    assert (ran.code, ran.err, data["ok"]) == (0, "", True)
    played = [line for line in data["lines"] if "action" in line]
    assert {line["stage"] for line in played} >= {"input", "tool_call", "tool_result", "output"}
    assert {line["action"] for line in played} >= {"allow", "rewrite", "block"}
    failed = [line for line in played if line["decision"] and line["decision"]["failed"]]
    assert [line["scene"] for line in failed] == ["The moderator stops in mid-run"]
    if find_spec("rapidocr") is not None:
        sent = " ".join(line["sent"] for line in played)
        for told in ("screenshot", "transparent", "4K", "PDF"):
            assert told in sent
    for line in data["lines"]:
        assert ("reason" in line) != ("action" in line)
        assert line.get("reason", "x")


def test_it_is_told_for_a_person_with_every_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.cli.demo._scenes", lambda: (("A turn in text", text.scene), ("Nothing", _skips)))
    ran = run("demo")
    assert ran.code == 0
    for told in ("NOT the Nemotron model", "http://127.0.0.1:", "A turn in text", "BLOCK", "PII/Privacy", "skipped:"):
        assert told in " ".join(ran.out.split())  # wherever the lines break
    assert "8 of 8 steps ended as they must" in ran.out
    assert "1 skipped" in ran.out


def test_a_step_that_ends_otherwise_is_seen_and_the_exit_code_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnguard.cli.demo._scenes", lambda: (("Wrong", _wrong), ("Broken", _breaks)))
    ran = run("demo")
    assert ran.code == 3
    assert "expected allow, got block" in ran.out
    assert "expected PII/Privacy, got Violence" in ran.out
    assert "expected failed=True" in ran.out
    assert "this scene broke" in ran.out
    assert "0 of 4 steps ended as they must" in ran.out
    assert [line["ok"] for line in run("demo", "--json").data["lines"]] == [False] * 4


async def _skips(world: World) -> AsyncIterator[Line | Skipped]:
    yield Skipped("nothing to see")


async def _wrong(world: World) -> AsyncIterator[Line | Skipped]:
    unsafe = Step.input(text.UNSAFE_REQUEST)
    yield await world.judge("wrong action", unsafe, "allow")
    yield await world.judge("wrong category", unsafe, "block", category="PII/Privacy")
    yield await world.judge("no failure", unsafe, "block", failed=True)


async def _breaks(world: World) -> AsyncIterator[Line | Skipped]:
    raise RuntimeError("broken")
    yield Skipped("never")  # type: ignore[unreachable]


async def test_the_world_is_a_sandbox_behind_the_balanced_policy() -> None:
    async with _world.world() as world:
        assert world.guard.policy.stages["tool_result"].default.action == "rewrite"
        assert world.sandbox.base_url.startswith("http://127.0.0.1:")
