"""docs/faults.md is what the cells found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.faulty import CASES, DEADLINE
from tests.faults.measuring import HELD, ROUNDS, SLACK
from tests.faults.surfaces import CELLS, SURFACES, Surface
from tests.faults.test_faults import KINDS, LENIENT

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
MEASURED = "Measured: "
"""Begins the line whose figures are those of the run that wrote the page."""
PROCESS = 3


def test_the_document_says_what_was_measured() -> None:
    expected = len(CELLS) * (len(CASES) + len(KINDS) * len(LENIENT))
    if len(HELD.cells) < expected or len(HELD.process) < PROCESS * len(CELLS):
        pytest.skip("only a part of the faults ran, or one got through")
    print(_measured())  # noqa: T201 - shown with -s
    text = document()
    if os.environ.get("TURNGUARD_WRITE_COVERAGE"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert _fixed(DOCUMENT.read_text(encoding="utf-8")) == _fixed(text), "run again with TURNGUARD_WRITE_COVERAGE=1"


def _fixed(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(MEASURED)]


def _measured() -> str:
    worst = "; ".join(f"{name} {1000 * max(0.0, over):.0f} ms" for name, over in HELD.worst.items())
    return (
        f"{MEASURED}the latest decision beyond its deadline, by surface: {worst}. {HELD.repeated} runs were repeated."
    )


def _row(name: str, found: list[set[str]]) -> str:
    return f"| {name} | " + " | ".join("/".join(sorted(each)) for each in found) + " |"


def document() -> str:
    """The faults as a page."""
    names = [surface.name for surface in SURFACES]
    head = [" | ".join(("", "fault", *names, "")).strip(), "| --- |" + " --- |" * len(names)]
    lines = [
        "# Faults",
        "",
        "Written by `tests/faults` (`TURNGUARD_WRITE_COVERAGE=1` writes it anew). Every cell is a check whose content alone",
        f"meets the fault, with a deadline of {DEADLINE[1]:g} s ({DEADLINE[2]:g} s with two replicas), at each stage that the surface has. A cell fails the",
        "test, so that no cell says so, when",
        "",
        "- any of the text passes that the policy withholds, or is withheld that it passes;",
        "- the recorded decision is not the policy's action, marked `failed`, with the failure in brackets;",
        f"- the decision comes more than {1000 * SLACK:.0f} ms after the deadline. The time that the framework's turn takes without a",
        f"  fault is taken off; a run that seems late is repeated, at most {ROUNDS} times, beside a bare timeout of the same length, whose",
        "  lateness on this machine is taken off. A guard that is late by a quarter of a second is found so by this measure (tested);",
        "- a task, thread or socket is left behind, or a connection was taken from the pool and not given back.",
        "",
        _measured(),
        "",
        "## Under `on_failure: block`",
        "",
        f"{len(CASES) * len(CELLS)} cells.",
        "",
        *head,
    ]
    for case in CASES:
        told = f"{case.name} (`{case.failure}`)" if case.failure else case.name
        lines.append(_row(told, [_results(surface, case.name, "block") for surface in SURFACES]))
    lines += [
        "",
        "`passes`: there was a verdict all the same, from the other replica or in spite of its content type.",
        "",
        "## Under the other policies",
        "",
        f"{len(KINDS) * len(LENIENT) * len(CELLS)} cells: {', '.join(KINDS)}.",
        "",
        *head,
    ]
    for action in ("block", *LENIENT):
        results = [set().union(*(_results(surface, name, action) for name in KINDS)) for surface in SURFACES]
        lines.append(_row(f"`on_failure: {action}`", results))
    lines += [
        "",
        "## Faults of the process",
        "",
        f"{PROCESS * len(CELLS)} cells: withheld while the server hangs, passes when it answers.",
        "A framework's check is cancelled before its loop is closed, as `asyncio.run` does.",
        "",
        *head,
    ]
    for fault in dict.fromkeys(fault for fault, _, _ in HELD.process):
        results = [{HELD.process[fault, surface.name, stage] for stage in surface.stages} for surface in SURFACES]
        lines.append(_row(fault, results))
    lines += [
        "",
        "More of them, through the Python API, are in `tests/faults/test_loops.py`, `test_forks.py`, `test_stubborn.py` and",
        "`test_replicas.py`: many loops, locks held at a fork, a guard closed under way, moderators that swallow their",
        "cancellation, recovery after a blip. `test_replies.py` has replies that no framework sends.",
        "",
        "## Cells that there are not",
        "",
    ]
    lines += [
        f"- {s.name}, {', '.join(_without(s, why))}: {why}."
        for s in SURFACES
        for why in dict.fromkeys(s.without.values())
    ]
    lines.append("")
    return "\n".join(lines)


def _results(surface: Surface, case: str, action: str) -> set[str]:
    return {HELD.cells[case, surface.name, stage, action] for stage in surface.stages}


def _without(surface: Surface, why: str) -> list[str]:
    return [stage for stage, reason in surface.without.items() if reason == why]
