"""`turnguard demo`: real steps of an agent's turn over HTTP to the sandbox, with neither GPU nor network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from turnguard.cli.demo._world import Line, Scene, Skipped


def demo(as_json: bool = typer.Option(False, "--json", help="Print every line, with its decision, as JSON.")) -> int:
    """See real steps of a turn judged, with neither GPU nor network. Exit code 0: every one ended as it must."""
    from turnguard.cli import output

    started = time.perf_counter()
    played = asyncio.run(_play(quiet=as_json))
    seconds = time.perf_counter() - started
    lines = [line for _, line in played]
    wrong = sum(not line.ok for line in lines)
    if as_json:
        shown = [{"scene": title, "ok": line.ok, **asdict(line)} for title, line in played]
        output.data({"ok": not wrong, "seconds": round(seconds, 3), "lines": shown})
    else:
        _sum_up(lines, wrong, seconds)
    return output.PASSED if not wrong else output.FAILED


def _scenes() -> Sequence[tuple[str, Scene]]:
    from turnguard.cli.demo import langchain, nemo, outage, pictures, text

    return (
        ("A turn in text", text.scene),
        ("In the person's own language", text.languages),
        ("Pictures and documents: what the model really sees", pictures.scene),
        ("A turn in NeMo Guardrails", nemo.scene),
        ("A LangChain agent", langchain.scene),
        ("The moderator stops in mid-run", outage.scene),
    )


async def _play(*, quiet: bool) -> list[tuple[str, Line | Skipped]]:
    """Every scene on one guard and one sandbox."""
    from turnguard.cli.demo._world import world

    played: list[tuple[str, Line | Skipped]] = []
    async with world() as stage:
        if not quiet:
            _introduce(stage.sandbox.base_url)
        for title, scene in _scenes():
            if not quiet:
                _title(title)
            async for line in _safely(scene(stage)):
                played.append((title, line))
                if not quiet:
                    _tell(line)
    return played


async def _safely(lines: AsyncIterator[Line | Skipped]) -> AsyncIterator[Line | Skipped]:
    """A scene that breaks is one wrong line, and the next scene is played."""
    from turnguard.cli.demo._world import Line

    try:
        async for line in lines:
            yield line
    except Exception as error:  # noqa: BLE001 - a demo that hides what broke would be no proof
        yield Line("", "this scene broke", "", type(error).__name__, 0.0, f"{type(error).__name__}: {error}"[:300])


# ---------------------------------------------------------------- for a person


def _introduce(base_url: str) -> None:
    from rich.text import Text

    from turnguard.cli import output
    from turnguard.sandbox.server import notice

    output.show(
        Text.assemble(("Turnguard", "bold"), " judges every step of an agent's turn and decides by a YAML policy."),
        Text(f"Each line below went over HTTP to {base_url}. {notice()}", "dim"),
    )


def _title(title: str) -> None:
    from rich.text import Text

    from turnguard.cli import output

    output.show(Text(f"\n{title}", "bold"))


def _tell(line: Line | Skipped) -> None:
    from rich.cells import set_cell_size
    from rich.padding import Padding
    from rich.text import Text

    from turnguard.cli import output
    from turnguard.cli.check import STYLES
    from turnguard.cli.demo._world import Skipped

    if isinstance(line, Skipped):
        output.show(Text(f"  - skipped: {line.reason}", "yellow"))
        return
    mark = ("✓", "green") if line.ok else ("✗", "bold red")
    # cells, not characters: a Japanese letter is two wide
    sent = set_cell_size(output.plain(line.sent), _SENT)
    row = Text.assemble("  ", mark, f" {line.stage:<12}", f"{sent}  ")
    row.append(f"{line.action.upper():<8}", STYLES.get(line.action, "red"))
    row.append(f"{line.seconds * 1000:>7.0f} ms", "dim")
    output.show(row)
    if line.why:
        output.show(Padding(Text(line.why, "dim"), (0, 0, 0, _INDENT)))
    if line.problem:
        output.show(Padding(Text(line.problem, "red"), (0, 0, 0, _INDENT)))


_SENT, _INDENT = 52, 16


def _sum_up(lines: Sequence[Line | Skipped], wrong: int, seconds: float) -> None:
    from rich.text import Text

    from turnguard.cli import output
    from turnguard.cli.demo._world import Line

    played = sum(isinstance(line, Line) for line in lines)
    skipped = len(lines) - played
    text = f"{played - wrong} of {played} steps ended as they must, in {seconds:.1f} s"
    text += f"; {skipped} skipped (see above)" if skipped else ""
    output.show(Text(f"\n{text}", "bold red" if wrong else "bold green"))
    output.show(
        Text(
            "Next: `turnguard init` writes a policy, `turnguard sandbox` serves this stand-in for your own agent.",
            "dim",
        )
    )
