"""The page of families says what the families declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnguard.core.families import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.mark.parametrize("can", FAMILIES.values(), ids=lambda can: can.name)
def test_the_table_is_what_is_declared(can: Family) -> None:
    yes = {True: "yes", False: "no"}
    rates = "request and answer" if can.labels == "both" else "the last message"
    cells = [
        f"`{can.name}`", f"`{can.hub}`", yes[can.images], rates, str(len(can.categories)), yes[can.own_categories],
        yes[can.reasoning], can.probability,
    ]  # fmt: skip
    assert f"| {' | '.join(cells)} |" in PAGE.read_text(encoding="utf-8")
