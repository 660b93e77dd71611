"""`turnguard reviews`: what waits for a person in the database, and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from turnguard.core.review import Review, Status
    from turnguard.records import Reviews
    from turnguard.records.held import Held

T = TypeVar("T")

CONFIG = typer.Option(Path("turnguard.yaml"), "--config", "-c", metavar="FILE", help="The YAML that names records.url.")
ID = typer.Argument(metavar="ID", show_default=False, help="The review, or how its name begins.")
BY = typer.Option(
    ..., "--by", metavar="NAME", envvar="TURNGUARD_REVIEWER", show_default=False, help="Who you are; it is recorded."
)
NOTE = typer.Option("", "--note", metavar="TEXT", show_default=False, help="Why; it is recorded.")
JSON = typer.Option(False, "--json", help="Print JSON.")

STATUSES = ("waiting", "approved", "rejected", "expired", "all")
SHORT = 12
"""Characters of a review's name that a table shows."""
MOST = 100_000

reviews = typer.Typer(help="See what waits for a person, and answer it.", no_args_is_help=True)


@reviews.command("list")
def list_(
    status: str = typer.Option("waiting", "--status", metavar="STATUS", help=f"One of: {', '.join(STATUSES)}."),
    tenant: str | None = typer.Option(None, "--tenant", metavar="NAME", show_default=False, help="Of this one alone."),
    limit: int = typer.Option(50, "--limit", min=1, metavar="N", help="The newest so many."),
    config: Path = CONFIG,
    as_json: bool = JSON,
) -> int:
    """List what waits, without content."""
    from turnguard.cli import output

    if status not in STATUSES:
        raise output.UsageError(f"--status is one of {', '.join(STATUSES)}, not {status!r}")
    wanted: Any = None if status == "all" else status
    found = _run(config, lambda store: store.find(wanted, tenant=tenant, limit=limit))
    if as_json:
        output.data([review.to_dict() for review in found])
    elif found:
        output.show(_table(found))
    else:
        output.line("nothing waits" if status == "waiting" else f"no review is {status}")
    return output.PASSED


@reviews.command()
def show(identity: str = ID, by: str = BY, config: Path = CONFIG, as_json: bool = JSON) -> int:
    """Show one review with its content. That you looked is recorded."""
    from turnguard.cli import output

    async def look(store: Reviews) -> tuple[Review, Held]:
        return await store.show(await _named(store, identity), by=by)

    review, held = _run(config, look)
    if as_json:
        import json

        output.data({**review.to_dict(), "prompt": held.prompt, "parts": json.loads(held.dump())["parts"]})
    else:
        output.show(_shown(review, held))
    return output.PASSED


@reviews.command()
def approve(identity: str = ID, by: str = BY, note: str = NOTE, config: Path = CONFIG, as_json: bool = JSON) -> int:
    """Let the content pass, as it was judged. Exit: 0; 2 where it was answered already or has expired."""
    return _answer(identity, lambda store, name: store.approve(name, by=by, note=note), config, as_json)


@reviews.command()
def reject(identity: str = ID, by: str = BY, note: str = NOTE, config: Path = CONFIG, as_json: bool = JSON) -> int:
    """Withhold the content for good. Exit: 0; 2 where it was answered already or has expired."""
    return _answer(identity, lambda store, name: store.reject(name, by=by, note=note), config, as_json)


@reviews.command()
def export(
    out: Path = typer.Argument(..., metavar="OUT", show_default=False, help="FILE.jsonl or FILE.parquet."),
    by: str = BY,
    config: Path = CONFIG,
) -> int:
    """Write what was answered as labelled rows for `eval` and `calibrate`: approved is safe, rejected unsafe."""
    from turnguard.cli import output
    from turnguard.evaluation.reviewed import labelled, write

    if out.suffix not in (".jsonl", ".parquet"):
        raise output.UsageError("the rows go into a file that ends in .jsonl or .parquet")
    rows, left_out = _run(config, lambda store: labelled(store, by=by, limit=MOST))
    write(rows, out)
    output.line(f"{len(rows)} labelled row{'s' * (len(rows) != 1)} in {out}, with content")
    if left_out:
        output.note(f"{left_out} answered steps hold what no row can, such as sound, and were left out")
    return output.PASSED


# ---------------------------------------------------------------- the database


def _run(config: Path, work: Callable[[Reviews], Awaitable[T]]) -> T:
    """Do something with the reviews that a configuration names."""
    from turnguard.cli import output
    from turnguard.config.files import load
    from turnguard.core.errors import ReviewError
    from turnguard.records import open_reviews

    settings = load(config)
    if settings.records.url is None:
        raise output.UsageError(f"{config} names no database: reviews can be answered here where records.url is given")
    store = open_reviews(settings.records, settings.reviews)

    async def done() -> T:
        return await work(store)

    try:
        return asyncio.run(done())
    except ReviewError as error:
        raise output.UsageError(str(error)) from None
    finally:
        store.close()


async def _named(store: Reviews, beginning: str) -> str:
    """The whole name of a review."""
    from turnguard.core.errors import ReviewError

    if await store.get(beginning) is not None:
        return beginning
    found = [review.id for review in await store.find(None, limit=MOST) if review.id.startswith(beginning)]
    if len(found) > 1:
        raise ReviewError(f"{len(found)} reviews begin with {beginning!r}: give more of the name")
    if not found:
        raise ReviewError(f"there is no review {beginning!r}; 'turnguard reviews list' names what waits")
    return found[0]


def _answer(identity: str, answer: Callable[[Reviews, str], Awaitable[Review]], config: Path, as_json: bool) -> int:
    from turnguard.cli import output

    async def given(store: Reviews) -> Review:
        return await answer(store, await _named(store, identity))

    review = _run(config, given)
    if as_json:
        output.data(review.to_dict())
    else:
        output.line(f"{review.status} {review.id[:SHORT]} ({review.stage}) by {output.plain(review.by or '')}")
    return output.PASSED


# ---------------------------------------------------------------- for a person

_STYLES: dict[Status, str] = {"waiting": "magenta", "approved": "green", "rejected": "red", "expired": "dim"}


def _table(found: list[Review]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli.output import plain

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("review", "since (UTC)", "stage", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for review in found:
        status = Text(review.status, _STYLES[review.status])
        why = plain(", ".join(review.categories or review.rules))
        table.add_row(review.id[:SHORT], f"{review.created:%d %b %H:%M}", review.stage, status, why)
    return table


def _shown(review: Review, held: Held) -> RenderableType:
    from rich.box import ROUNDED
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli.output import plain

    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    facts = [
        ("why", ", ".join(review.categories)),
        ("rule", ", ".join(review.rules)),
        ("since", f"{review.created:%d %b %Y %H:%M} UTC, until {review.expires:%d %b %Y %H:%M}"),
        ("decision", review.decision),
        *held.metadata.items(),
        ("answered", f"{review.answered:%d %b %Y %H:%M} UTC by {review.by or 'nobody'}" if review.answered else ""),
        ("note", review.note or ""),
        ("prompt", held.prompt or ""),
        *((part.kind, _said(part)) for part in held.parts),
    ]
    for name, value in facts:
        if value:
            rows.add_row(Text(plain(name)), Text(plain(value)))
    style = _STYLES[review.status]
    title = Text.assemble((f" {review.status.upper()} ", f"bold {style} reverse"), f" {held.stage} {review.id[:SHORT]}")
    return Panel(rows, box=ROUNDED, title=title, title_align="left", border_style=style, expand=False)


def _said(part: Any) -> str:
    """A part in words; of a picture or a document its type and size."""
    import json

    if hasattr(part, "text"):
        return str(part.text)
    if hasattr(part, "arguments"):
        arguments = (
            part.arguments if isinstance(part.arguments, str) else json.dumps(part.arguments, ensure_ascii=False)
        )
        return f"{part.name}({arguments})"
    if hasattr(part, "definition"):
        return json.dumps(dict(part.definition), ensure_ascii=False)
    if hasattr(part, "cause"):
        return f"not judged: {part.cause}"
    size = f"{len(part.source):,} bytes" if isinstance(part.source, bytes) else "an address"
    return f"{part.media_type or 'of no known type'}, {size} (--json or the console shows it)"
