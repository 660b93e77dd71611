"""docs/doctor.md: every canary, from the table that the doctor itself runs by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnguard.doctor import examining, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "doctor.md"


def document() -> str:
    """The canaries as a page."""
    return "\n".join([
        "# Doctor",
        "",
        "`make docs-tables` writes this page from the table of canaries in `turnguard.doctor.table`.",
        "[Operate](operate.md#doctor) shows a run. `python -m pytest tests/doctor/test_planted.py -m exhaustive -s` plants each",
        "fault a hundred times and prints how often doctor missed it.",
        "",
        "`turnguard doctor` examines every endpoint that the configuration names, side by side, in under ten seconds. It also",
        "examines the audit file, the database, the shared memory and the service, where the configuration names them.",
        "`turnguard doctor --service URL` examines a [service](service.md) from anywhere, with the key in",
        "`TURNGUARD_SERVICE_KEY`; it needs no configuration.",
        "",
        "Exit codes: 0 all good, 1 something failed, 2 usage or configuration, 3 nothing answers. `--json` for CI. The sandbox",
        "counts as a failure unless `--accept-sandbox` is given. Doctor cannot tell how good the model's verdicts are; that is",
        "[`turnguard eval`](evaluation.md).",
        "",
        "## First contact",
        "",
        "A flaky server gets three chances. Without a verdict, nothing else is tried.",
        "",
        *_rows(table.CONTACT),
        "## Canaries",
        "",
        f"Each is sent in up to {examining.ROUNDS} rounds, as far as the time goes, and the worst round counts.",
        "",
        *_rows(table.ROUNDS),
        "## Repeated checks",
        "",
        *_rows(table.REPEATED),
        "## Beside the moderator",
        "",
        *_rows(table.SET_UP),
        "## Service",
        "",
        *_rows(table.SERVICE),
    ])  # fmt: skip


def _rows(canaries: Sequence[table.Canary[Any]]) -> list[str]:
    cells = [f"| `{row.name}` | {row.sends} | {row.expects} | {row.change} |" for row in canaries]
    return ["| canary | sends | expects | otherwise look at |", "| --- | --- | --- | --- |", *cells, ""]
