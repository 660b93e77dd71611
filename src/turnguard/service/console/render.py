"""Templates → pages. Everything is escaped; nothing that was stored is ever script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from turnguard._version import __version__
from turnguard.core.action import ACTIONS
from turnguard.core.step import STAGES
from turnguard.service.console import charts

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("turnguard.service.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"version": __version__, "ACTIONS": ACTIONS, "STAGES": STAGES, **charts.helpers()}
    made.filters |= {
        "clock": clock,
        "stamp": stamp,
        "iso": iso,
        "ago": ago,
        "ms": milliseconds,
        "count": lambda n: f"{n:,}",
    }
    return made


def page(request: Request, name: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page."""
    given: Mapping[str, Any] = {"path": request.url.path, "session": None, "wide": False, **values}
    return HTMLResponse(_environment().get_template(f"{name}.html").render(given), status, HEADERS)


def when(time: datetime | int) -> datetime:
    """A time, or the milliseconds since 1970 that a record has."""
    return datetime.fromtimestamp(time / 1000, UTC) if isinstance(time, int) else time


def clock(time: datetime | int) -> str:
    """The time of day, UTC."""
    return f"{when(time):%H:%M:%S}"


def stamp(time: datetime | int) -> str:
    """Date and time, UTC, to the second."""
    return f"{when(time):%Y-%m-%d %H:%M:%S}"


def iso(time: datetime | int) -> str:
    """For a machine."""
    return when(time).isoformat(timespec="milliseconds")


def ago(time: datetime) -> str:
    """How far from now, in one unit."""
    passed = datetime.now(UTC) - time
    away, words = (passed, "ago") if passed >= timedelta() else (-passed, "left")
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if away.total_seconds() >= size:
            return f"{int(away.total_seconds() // size)} {unit} {words}"
    return f"{int(away.total_seconds())} s {words}"


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds."""
    return f"{seconds * 1000:,.1f}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"
