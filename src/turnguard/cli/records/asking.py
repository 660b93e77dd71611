"""What the commands on records share: the database of a configuration, times, and which records are meant."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from turnguard.records.store import Store

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The YAML that names the database.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
CONFIG = Path("turnguard.yaml")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = "such as 7d, 12h, 2026-11-24 or 2026-11-24T15:00; without a zone, this machine's"


@contextmanager
def opened(config: Path) -> Iterator[Store]:
    """The database that a configuration names. Raises `ConfigError` where there is none yet."""
    from turnguard.config.files import SQLITE, load
    from turnguard.core.errors import ConfigError
    from turnguard.records.store import Store

    settings = load(config).records
    url = settings.url.get_secret_value() if settings.url is not None else ""
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE).partition("?")[0]).exists():
        raise ConfigError(f"records.url: {url.removeprefix(SQLITE)} is not there: nothing has been recorded yet")
    store = Store.open(settings)
    try:
        yield store
    finally:
        store.close()


def moment(text: str) -> int:
    """A time as it is stored, in milliseconds since 1970, UTC. Raises `UsageError`."""
    from turnguard.cli.output import UsageError

    ago = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    try:
        if ago is not None:
            then = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            then = datetime.fromisoformat(text.strip()).astimezone()
        return int(then.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time, {_TIME}") from None


def day(text: str) -> tuple[int, int]:
    """Where a day of this machine's zone begins and ends. Raises `UsageError`."""
    from turnguard.cli.output import UsageError

    try:
        first = datetime.strptime(text.strip(), "%Y-%m-%d")  # noqa: DTZ007 - of this machine's zone
        after = first + timedelta(days=1)
        return int(first.astimezone().timestamp() * 1000), int(after.astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no day, such as 2026-11-24") from None


def shown_time(milliseconds: int) -> str:
    """A time for a person, in this machine's zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _wanted(
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help=f"From then on, {_TIME}.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then.")] = None,
    on: Annotated[str | None, typer.Option("--on", metavar="DAY", help="On one day, such as 2026-11-24.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="allow, flag, rewrite, review or block.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="input, output, tool_call, ...")] = None,
    rule: Annotated[str | None, typer.Option("--rule", metavar="PATH", help="A rule that fired.")] = None,
    category: Annotated[str | None, typer.Option("--category", help="A category that fired.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="From the step's metadata.")] = None,
    thread: Annotated[str | None, typer.Option("--thread", help="From the step's metadata.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="From the step's metadata.")] = None,
    decided_by: Annotated[str | None, typer.Option("--decided-by", metavar="DIGEST", help="A policy.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only where the moderator failed.")] = False,
    reduced: Annotated[bool, typer.Option("--reduced", help="Only what was judged at a low resolution.")] = False,
    shadow_differs: Annotated[bool, typer.Option("--shadow-differs", help="Only where the shadow disagrees.")] = False,
) -> Any:  # Filter, whose module is heavy
    from turnguard.cli.output import UsageError
    from turnguard.core.action import ACTIONS
    from turnguard.core.step import STAGES
    from turnguard.core.taxonomy import canonical
    from turnguard.records.query import Filter

    for name, value, known in (("action", action, ACTIONS), ("stage", stage, STAGES)):
        if value is not None and value not in known:
            raise UsageError(f"--{name} {value!r}: one of {', '.join(known)}")
    first, after = day(on) if on is not None else (None, None)
    return Filter(
        since=first if since is None else moment(since),
        until=after if until is None else moment(until),
        action=action,
        stage=stage,
        rule=rule,
        category=canonical(category) or category if category is not None else None,
        user=user,
        thread=thread,
        tenant=tenant,
        policy=decided_by,
        failed=failed or None,
        reduced=reduced or None,
        shadow_differs=shadow_differs,
    )


def filtered(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say which records; it gets them as `wanted`, a `records.query.Filter`."""
    choices = inspect.signature(_wanted).parameters

    @functools.wraps(command)
    def run(**given: Any) -> int:
        chosen = {name: given.pop(name) for name in choices}
        return command(wanted=_wanted(**chosen), **given)

    hints = get_type_hints(_wanted, include_extras=True) | get_type_hints(command, include_extras=True)
    both = {**inspect.signature(command).parameters, **choices}
    parameters = [each.replace(annotation=hints[name]) for name, each in both.items() if name != "wanted"]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
