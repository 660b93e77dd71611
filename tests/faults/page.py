"""docs/faults.md: the cells that the tests here assert."""

from __future__ import annotations

from pathlib import Path

from tests.faults.faulty import CASES, DEADLINE, KINDS, LENIENT, expected
from tests.faults.measuring import SLACK
from tests.faults.surfaces import CELLS, SURFACES
from tests.faults.test_process import PROCESS

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"


def document() -> str:
    """The faults as a page."""
    (kinds,) = {tuple(expected(case, action) for action in ("block", *LENIENT)) for case in CASES if case.name in KINDS}
    blocked = [
        f"| {case.name} | {f'`{case.failure}`' if case.failure else ''} | {expected(case, 'block')} |" for case in CASES
    ]
    lines = [
        "# Faults",
        "",
        "`make docs-tables` writes this page. `make test-all` runs every cell of it; `make test` runs a selection that holds",
        "every fault, and every pair of surface, stage, failure and policy. A cell is a check whose content alone meets the",
        f"fault, with a deadline of {DEADLINE[1]:g} s ({DEADLINE[2]:g} s with two replicas). A cell's test fails when",
        "",
        "- any of the text passes that the policy withholds, or is withheld that it passes;",
        "- the recorded decision is not the policy's action, marked `failed`, with the failure named below;",
        f"- the decision comes more than {SLACK:g} s of the event loop's time after the deadline (a test shows that this measure",
        "  finds a guard that is 2 s late);",
        "- a task, thread or socket is left behind, or a connection was taken from the pool and not given back.",
        "",
        "Every row below holds for each of these surfaces at each stage:",
        "",
        *(f"- {surface.name}: {', '.join(f'`{stage}`' for stage in surface.stages)}" for surface in SURFACES),
        "",
        "Stages that a surface lacks:",
        "",
        *(
            f"- {surface.name}, {', '.join(f'`{stage}`' for stage, told in surface.without.items() if told == why)}: {why}."
            for surface in SURFACES
            for why in dict.fromkeys(surface.without.values())
        ),
        "",
        "## Under `on_failure: block`",
        "",
        f"{len(CASES) * len(CELLS)} cells. `passes`: there was a verdict all the same, from the other replica or in spite of its",
        "content type.",
        "",
        "| fault | failure | content |",
        "| --- | --- | --- |",
        *blocked,
        "",
        "## Under the other policies",
        "",
        f"{len(KINDS) * len(LENIENT) * len(CELLS)} cells: {', '.join(KINDS)}.",
        "",
        "| policy | content |",
        "| --- | --- |",
        *(f"| `on_failure: {action}` | {result} |" for action, result in zip(("block", *LENIENT), kinds, strict=True)),
        "",
        "## Faults of the process",
        "",
        f"{len(PROCESS) * len(CELLS)} cells: content is withheld while the server hangs and passes when it answers again.",
        "A framework's check is cancelled before its loop is closed, as `asyncio.run` does.",
        "",
        *(f"- {fault}" for fault in PROCESS),
        "",
        "`tests/faults/test_loops.py`, `test_forks.py`, `test_stubborn.py` and `test_replicas.py` hold more of them, through the",
        "Python API: many loops, locks held at a fork, a guard closed during a check, moderators that swallow their",
        "cancellation, recovery after a short outage. `test_replies.py` has replies that no framework sends.",
        "",
    ]
    return "\n".join(lines)
