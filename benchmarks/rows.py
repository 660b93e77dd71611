"""The lines of the table that `make bench` ends with: each measurement adds its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

FILE = "TURNGUARD_BENCH_ROWS"
"""The environment variable by which `python -m benchmarks` collects the lines of its parts."""


def add(what: str, measured: str, reach: str, *, met: bool) -> None:
    """Print a line of the table, and hand it to whoever collects them."""
    print(f"{'  ' if met else '! '}{what:72} {measured:28} {reach}")
    if os.environ.get(FILE):
        with Path(os.environ[FILE]).open("a") as lines:
            lines.write(json.dumps([what, measured, reach, met]) + "\n")


def table(file: Path) -> Iterator[str]:
    """The collected lines as a Markdown table; what was not reached is said so."""
    yield "| what | measured | reach |"
    yield "| --- | --- | --- |"
    for line in file.read_text().splitlines():
        what, measured, reach, met = json.loads(line)
        yield f"| {what} | {measured}{'' if met else ' **(not reached)**'} | {reach} |"
