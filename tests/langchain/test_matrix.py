"""No cell of the coverage matrix leaks, and the measure itself finds a leak where nothing guards."""

from __future__ import annotations

import pytest

from tests.langchain import matrix, page
from tests.langchain.matrix import ACTIONS, CASES, DURABILITIES, Case, Run
from tests.langchain.page import kept

pytestmark = [
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
    pytest.mark.filterwarnings("ignore:The `.*` function is in beta"),
]

FEW = ("astream messages", "stream_events v3")


@pytest.mark.pairwise(by=lambda case, action: (case.stage, action), once=lambda case, **_: case.name)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_cell_of_the_strictest_entry_points_leaks(case: Case, action: str) -> None:
    page.clean(list(matrix.cells(case, action, FEW)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_measure_finds_what_leaks_without_a_guard(case: Case) -> None:
    cell = await Run(case, "invoke", "block", saver=True, guarded=False).cell()
    assert cell.leaks["state"]
    assert cell.leaks["checkpoints"]
    shown = await Run(case, "astream messages", "block", saver=True, guarded=False).cell()
    assert shown.leaks["stream"]


@pytest.mark.pairwise(by=lambda case, durability: (case.stage, durability), once=lambda case, **_: case.name)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_checkpoint_holds_more_than_the_input_before_our_hook(case: Case, durability: str) -> None:
    before = [-1, 0] if case.stage == "input" and durability != "exit" else []
    assert kept(case, durability) == before


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_run_called_off_before_the_verdict_keeps_the_input_as_langgraph_does(durability: str) -> None:
    assert kept(CASES[0], durability, cancelled=True) == ([0] if durability == "exit" else [-1, 0])


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_no_cell_of_any_entry_point_leaks_and_the_generated_page_is_current() -> None:
    text = page.document()
    assert page.DOCUMENT.read_text(encoding="utf-8") == text, "run `make docs-tables`"
