"""docs/coverage/langchain.md: what the matrix of runs finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.langchain import matrix
from tests.langchain.matrix import ACTIONS, CASES, DURABILITIES, ENTRIES, PLACES, Case, Cell, Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage" / "langchain.md"


BEYOND = """
## Beyond one agent

The cells above are runs of one agent. These stand beside them, each held by tests of its own in `tests/langchain/`:

| what | tests |
| --- | --- |
| Requests to `ChatOpenAI` and `ChatAnthropic` are the same to the byte: caching, structured output, streams, tools, deep agents | `test_wire.py` |
| MCP tools of a real server: text, images, resources, links, structured content, errors, definitions | `test_mcp.py` |
| Deep agents: input in any form, subagents, summaries, memory, files | `test_deep_agents.py` |
| Supervisor and swarm graphs, and states whose messages have no ids | `test_graphs.py` |
| A policy for each run, and refusals of structured answers | `test_policies.py` |
| Reviews in one process and across processes, beside LangChain's own | `test_review.py`, `test_stored_review.py`, `test_agents.py` |
| What tools stream, push and tell while they run | `test_inside_tools.py`, `test_telling.py`, `test_tools_heard.py` |
| Message classes of one's own, classes that cannot be extended, moved private names | `test_private_names.py` |
"""
"""What other tests hold."""


def clean(rows: list[tuple[str, bool, Cell]]) -> list[tuple[str, bool, Cell]]:
    """Return the rows after asserting that none leaks and that each showed something."""
    assert [(entry, saver, cell.leaks) for entry, saver, cell in rows if any(cell.leaks.values())] == []
    assert all(cell.shown for _, _, cell in rows)
    return rows


def kept(case: Case, durability: str, *, cancelled: bool = False) -> list[int]:
    """The steps of the checkpoints that hold unsafe content after a run."""
    run = Run(case, "ainvoke", "block", saver=True, delay=0.05 if cancelled else 0.0)
    return asyncio.run(run.kept(durability, cancelled=cancelled))


def _steps(found: set[tuple[int, ...]]) -> str:
    (steps,) = found
    return ", ".join(map(str, steps)) or "none"


def _through(found: Iterable[str]) -> str:
    """The entry points, or those that are not among them where that says it in fewer words."""
    named = [entry for entry in ENTRIES if entry in set(found)]
    others = [entry for entry in ENTRIES if entry not in named]
    if not named:
        return "–"
    if len(named) <= len(others):
        return ", ".join(named)
    return f"all but {', '.join(others)}" if others else "all"


def table(cells: Iterable[tuple[str, str, Sequence[str], Iterable[str]]]) -> list[str]:
    """A row for each content and the actions that come to the same: what is seen where, and through which entry
    points.
    """
    actions: dict[tuple[str, ...], list[str]] = {}
    for name, action, words, through in cells:
        actions.setdefault((name, *words, _through(through)), []).append(action)
    return [
        f"| stage: content | action | {' | '.join(PLACES)} | host's own, through |",
        f"| --- | --- |{' --- |' * len(PLACES)} --- |",
        *(f"| {row[0]} | {', '.join(several)} | {' | '.join(row[1:])} |" for row, several in actions.items()),
    ]


def document() -> str:
    """The matrix as a page."""
    found = {(case.name, action): clean(list(matrix.cells(case, action))) for case in CASES for action in ACTIONS}
    runs = sum(len(rows) for rows in found.values())
    lines = [
        "# Coverage: LangChain",
        "",
        "`make docs-tables` writes this page, and `make test-all` says whether it is current. Every cell is measured by",
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
    ]
    cells = []
    for (name, action), rows in found.items():
        words = []
        for place in PLACES:
            assert not any(cell.leaks[place] for _, _, cell in rows)
            words.append("host" if any(cell.host[place] for _, _, cell in rows) else "clean")
        cells.append((name, action, words, {entry for entry, _, cell in rows if cell.host["stream"]}))
    lines += [
        *table(cells),
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
        steps = [{tuple(kept(case, way)) for case in CASES if case.stage == stage} for way in DURABILITIES]
        lines.append(f"| {stage} | {' | '.join(map(_steps, steps))} |")
    called_off = [_steps({tuple(kept(CASES[0], way, cancelled=True))}) for way in DURABILITIES]
    lines.append(f"| input, the run cancelled before the verdict | {' | '.join(called_off)} |")
    lines += [
        *BEYOND.rstrip().split("\n"),
        "",
        "## What is the host's own",
        "",
        "- **LangGraph echoes the caller's own input** before any hook runs: in the first `values` chunk, in the `tasks`, `debug`",
        "  and `checkpoints` events of the first node, in the inputs of events and of `on_chain_start`, and in the first checkpoint",
        '  unless the run has `durability="exit"` and is not cancelled before the verdict. Where that matters, judge before you',
        "  call the agent: `decision = await guard.acheck(Step.input(text))`.",
        "- **A handler of your own hears what runs inside a tool**, its models too, but for streams; give such a model to",
        "  `guard_model`. What MCP servers report as progress goes to the callback that you gave the adapter, unjudged.",
        "- **What another middleware's own node does** (`before_agent`, `before_model`, `after_model`, `after_agent`) is shown and",
        "  stored as it ends, before any hook of ours runs: the words of a model that it calls, and what it writes into the state.",
        "  Give such a model to `guard_model`, and it is judged before; our hooks judge it before our model reads it in any case.",
        "- **The arguments of a call under review stand in the interrupt**, because the person must see them, and so in the",
        "  checkpoint that holds the interrupt and in the stream that carries it. Held results and outputs never do.",
        "",
    ]
    return "\n".join(lines)
