"""No cell of the coverage matrix leaks, and the measure itself finds a leak where nothing guards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.langchain import matrix
from tests.langchain.matrix import ACTIONS, CASES, DURABILITIES, ENTRIES, PLACES, Case, Cell, Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
    pytest.mark.filterwarnings("ignore:The `.*` function is in beta"),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage" / "langchain.md"
_done: dict[tuple[str, str], list[tuple[str, bool, Cell]]] = {}


FEW = ("astream messages", "stream_events v3")


def clean(rows: list[tuple[str, bool, Cell]]) -> list[tuple[str, bool, Cell]]:
    """The rows, once it is sure that none leaks and that each showed something."""
    assert [(entry, saver, cell.leaks) for entry, saver, cell in rows if any(cell.leaks.values())] == []
    assert all(cell.shown for _, _, cell in rows)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_cell_leaks(case: Case, action: str) -> None:
    _done[case.name, action] = clean(list(matrix.cells(case, action)))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_cell_of_the_strictest_entry_points_leaks(case: Case, action: str) -> None:
    clean(list(matrix.cells(case, action, FEW)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_measure_finds_what_leaks_without_a_guard(case: Case) -> None:
    cell = await Run(case, "invoke", "block", saver=True, guarded=False).cell()
    assert cell.leaks["state"]
    assert cell.leaks["checkpoints"]
    shown = await Run(case, "astream messages", "block", saver=True, guarded=False).cell()
    assert shown.leaks["stream"]


def kept(case: Case, durability: str, *, cancelled: bool = False) -> list[int]:
    """The steps of the checkpoints that hold unsafe content after a run."""
    run = Run(case, "ainvoke", "block", saver=True, delay=0.05 if cancelled else 0.0)
    return asyncio.run(run.kept(durability, cancelled=cancelled))


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_checkpoint_holds_more_than_the_input_before_our_hook(case: Case, durability: str) -> None:
    before = [-1, 0] if case.stage == "input" and durability != "exit" else []
    assert kept(case, durability) == before


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_run_called_off_before_the_verdict_keeps_the_input_as_langgraph_does(durability: str) -> None:
    assert kept(CASES[0], durability, cancelled=True) == ([0] if durability == "exit" else [-1, 0])


@pytest.mark.slow
def test_the_document_says_what_was_measured() -> None:
    if len(_done) < len(CASES) * len(ACTIONS):
        pytest.skip("only a part of the matrix ran")
    text = document()
    if os.environ.get("TURNGUARD_WRITE_COVERAGE"):
        DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run again with TURNGUARD_WRITE_COVERAGE=1"


def _steps(found: set[tuple[int, ...]]) -> str:
    (steps,) = found
    return ", ".join(map(str, steps)) or "none"


def document() -> str:
    """The matrix as a page."""
    runs = sum(len(rows) for rows in _done.values())
    lines = [
        "# Coverage: LangChain",
        "",
        "Written by `tests/langchain/test_matrix.py` (`TURNGUARD_WRITE_COVERAGE=1` writes it anew); every cell is measured by",
        f"running an agent ({runs} runs: each row through {len(ENTRIES)} entry points, with and without a checkpointer) and searching",
        "for the unsafe text and the picture's bytes in the final state, the checkpoint store, everything streamed, every prompt that",
        "the model was sent, and everything shown to callbacks. Where a person is asked (`review`), the run is resumed with a rejection.",
        "Streams are read together with `values`, so the first chunk of that mode shows in each of them.",
        "",
        f"Entry points: {', '.join(f'`{entry}`' for entry in ENTRIES)}.",
        "",
        "`clean`: found nowhere. `host`: found only where LangGraph or LangChain show it themselves, see below. A leak anywhere else",
        "fails the test, so no cell says so.",
        "",
        f"| stage: content | action | {' | '.join(PLACES)} | host's own, through |",
        f"| --- | --- |{' --- |' * len(PLACES)} --- |",
    ]
    for (name, action), rows in _done.items():
        words = []
        for place in PLACES:
            assert not any(cell.leaks[place] for _, _, cell in rows)
            words.append("host" if any(cell.host[place] for _, _, cell in rows) else "clean")
        through = sorted({entry for entry, _, cell in rows if cell.host["stream"]}, key=ENTRIES.index)
        lines.append(f"| {name} | {action} | {' | '.join(words)} | {', '.join(through) or '–'} |")
    lines += [
        "",
        "## Checkpoints",
        "",
        'The runs above have `durability="exit"`. These are the steps of the checkpoints that hold unsafe content under each',
        "setting, where the moderator blocks (LangGraph counts from -1, the bare input; our hook's own checkpoint is 1):",
        "",
        f"| stage | {' | '.join(DURABILITIES)} |",
        f"| --- |{' --- |' * len(DURABILITIES)}",
    ]
    for stage in dict.fromkeys(case.stage for case in CASES):
        found = [{tuple(kept(case, way)) for case in CASES if case.stage == stage} for way in DURABILITIES]
        lines.append(f"| {stage} | {' | '.join(map(_steps, found))} |")
    called_off = [_steps({tuple(kept(CASES[0], way, cancelled=True))}) for way in DURABILITIES]
    lines.append(f"| input, the run cancelled before the verdict | {' | '.join(called_off)} |")
    lines += [
        "",
        "## What is the host's own",
        "",
        "- **LangGraph echoes the caller's own input** before any hook runs: in the first `values` chunk, in the `tasks`, `debug`",
        "  and `checkpoints` events of the first node, in the inputs of events and of `on_chain_start`, and in the first checkpoint",
        '  unless the run has `durability="exit"` and is not cancelled before the verdict. Where that matters, judge before you',
        "  call the agent: `decision = await guard.acheck(Step.input(text))`.",
        '- **LangChain shows raw tool output** to `on_tool_end` callbacks, to `on_tool_end` events of `version="v2"` and to the',
        '  `tools` events of `version="v3"`, `emit_output_delta` among them. Wrap the tool itself where a listener must not see it.',
        "  A callback that is no stream hears what runs inside a tool too; give its models to `guard_model` where it must not.",
        "- **What another middleware's own node does** (`before_agent`, `before_model`, `after_model`, `after_agent`) is shown and",
        "  stored as it ends, before any hook of ours runs: the words of a model that it calls, and what it writes into the state.",
        "  Give such a model to `guard_model`, and it is judged before; our hooks judge it before our model reads it in any case.",
        "- **The arguments of a call under review stand in the interrupt**, because the person must see them, and so in the",
        "  checkpoint that holds the interrupt and in the stream that carries it. Held results and outputs never do.",
        "",
    ]
    return "\n".join(lines)
