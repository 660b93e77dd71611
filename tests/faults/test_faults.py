"""Every fault through every surface at every stage: nothing passes, in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults.faulty import CASES, DEADLINE, MARK, Case, World, worlds
from tests.faults.surfaces import SURFACES, Surface, step
from turnguard import Guard, Step
from turnguard.testing import FakeVLLM, faults

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning"),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
SLACK = 0.1
"""Seconds beyond the deadline that the guard may take."""
NOISE = 1.4
"""Seconds more for a busy machine and for the frameworks' own work around the check."""
_held: dict[tuple[str, str, str], str] = {}
_numbers = count()
_worst: dict[str, float] = {}

CELLS = [(surface, stage) for surface in SURFACES for stage in surface.stages]
FEW = (
    "refused",
    "hang",
    "HTTP 500, connection closed unsaid",
    "200, prose",
    "one of two replicas dead",
    "a full queue",
)
"""What the agents' surfaces are always run with; the other faults are of the same kinds and marked slow there."""


def _all() -> Iterator[ParameterSet]:
    for surface, stage in CELLS:
        for case in CASES:
            slow = [pytest.mark.slow] if surface.checks > 1 and case.name not in FEW else []
            yield pytest.param(surface, stage, case, marks=slow, id=f"{surface.name}-{stage}-{case.name}")


@pytest.fixture(scope="module")
def world() -> Iterator[dict[int, World]]:
    with worlds() as made:
        yield made


@pytest.mark.parametrize(("surface", "stage"), CELLS, ids=lambda value: getattr(value, "name", value))
async def test_without_a_fault_the_content_passes(world: dict[int, World], surface: Surface, stage: str) -> None:
    """The measure itself: without a fault it finds what passes."""
    world[1].refresh()
    assert MARK in await surface.run(world[1].guard, stage, _text())


@pytest.mark.parametrize(("surface", "stage", "case"), list(_all()))
async def test_no_fault_is_an_allow(world: dict[int, World], surface: Surface, stage: str, case: Case) -> None:
    here = world[case.replicas]
    here.refresh()
    await here.guard.acheck(Step.input(f"warm {next(_numbers)}"))
    tasks, threads = asyncio.all_tasks(), _threads()
    with case.plant(here):
        started = time.monotonic()
        passed = await surface.run(here.guard, stage, _text())
        took = time.monotonic() - started
    _worst[surface.name] = max(_worst.get(surface.name, 0.0), took - here.guard.settings.deadline)
    if case.failure is None:
        assert MARK in passed
    else:
        assert MARK not in passed
    assert took < here.guard.settings.deadline * surface.checks + SLACK + NOISE
    assert _threads() <= threads
    await _none_left(tasks)
    _held[case.name, surface.name, stage] = case.failure or "passes"


def _threads() -> Counter[str]:
    """Threads by name, without those of the loop's own pool, which live as long as the loop, and the process's bridge."""
    names = (thread.name for thread in threading.enumerate())
    return Counter(name for name in names if not name.startswith(("asyncio_", "Thread-", "turnguard-sync")))


async def _none_left(before: set[asyncio.Task[object]]) -> None:
    for _ in range(50):
        left = asyncio.all_tasks() - before
        if not left:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(left)} tasks are left behind: {left}")


def _text() -> str:
    return f"a {MARK} text, the {next(_numbers)}th of its kind"


@pytest.mark.parametrize("case", [case for case in CASES if case.failure], ids=lambda case: case.name)
async def test_the_decision_says_what_failed(world: dict[int, World], case: Case) -> None:
    here = world[case.replicas]
    here.refresh()
    with case.plant(here):
        decision = await here.guard.acheck(Step.input(_text()))
    assert (decision.action, decision.failed, decision.verdict.failure) == ("block", True, case.failure)
    assert decision.verdict.cause
    assert decision.reasons[0].rule == "policy.on_failure"


@pytest.mark.parametrize("action", ["block", "review", "flag", "allow"])
@pytest.mark.parametrize("stage", ["input", "retrieval", "tool_call", "tool_result", "output"])
async def test_the_policy_of_the_stage_decides(stage: str, action: str) -> None:
    with FakeVLLM() as fake:
        fake.fail(faults.content("prose"))
        policy = {"on_failure": "block" if action != "block" else "allow", "stages": {stage: {"on_failure": action}}}
        async with Guard.from_dict({"moderator": {"base_url": fake.base_url}, "policy": policy}) as guard:
            decision = await guard.acheck(step(stage, "x"))
    assert (decision.action, decision.failed) == (action, True)
    assert decision.reasons[0].rule == f"policy.stages.{stage}.on_failure"


def test_the_document_says_what_was_measured() -> None:
    if len(_held) < len(CASES) * len(CELLS):
        pytest.skip("only a part of the faults ran, or one got through")
    print({name: f"{1000 * over:.0f} ms" for name, over in _worst.items()})  # noqa: T201 - shown with -s
    text = document()
    if os.environ.get("TURNGUARD_WRITE_COVERAGE"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run again with TURNGUARD_WRITE_COVERAGE=1"


def document() -> str:
    """The faults as a page."""
    surfaces = [surface.name for surface in SURFACES]
    lines = [
        "# Faults",
        "",
        "Written by `tests/faults/test_faults.py` (`TURNGUARD_WRITE_COVERAGE=1` writes it anew). Every cell was run under",
        f"`on_failure: block` with a deadline of {DEADLINE[1]:g} s ({DEADLINE[2]:g} s with two replicas), at the stages that the surface has, each with a text of its own",
        "that meets the fault. A cell fails the test when any of the text passes, when the check takes longer than its",
        f"deadline plus {1000 * SLACK:.0f} ms (and {NOISE:g} s for the noise of a busy machine and the framework's own work), or when a task or a",
        "thread is left behind; so no cell says so.",
        "",
        f"{len(_held)} cells. The stages: " + "; ".join(f"{s.name}: {', '.join(s.stages)}" for s in SURFACES) + ".",
        "",
        "| fault | " + " | ".join(surfaces) + " |",
        "| --- |" + " --- |" * len(surfaces),
    ]
    for case in CASES:
        row = []
        for surface in SURFACES:
            results = {_held[case.name, surface.name, stage] for stage in surface.stages}
            row.append("passes" if results == {"passes"} else "withheld")
        told = f"{case.name} (`{case.failure}`)" if case.failure else case.name
        lines.append(f"| {told} | " + " | ".join(row) + " |")
    lines += [
        "",
        "`passes`: the other replica answered in time. The name in brackets is `verdict.failure`; the decision is marked",
        "`failed`, and its reason names `policy.on_failure`.",
        "",
        "Faults of the process rather than the server are tests of their own in `tests/faults/test_loops.py` and",
        "`tests/faults/test_replicas.py`: event loops closed under a guard, many loops and threads, forks in the middle of",
        "a burst, no file descriptor left, a guard closed under way, the wall clock jumping, recovery after a blip.",
        "",
    ]
    return "\n".join(lines)
