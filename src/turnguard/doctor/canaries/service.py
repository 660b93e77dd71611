"""Check that a Turnguard service answers: that it is one, takes the key, is of this version, and reaches its model."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from turnguard._version import __version__
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.doctor.canaries import SAFE
from turnguard.doctor.canaries.key import WRONG
from turnguard.doctor.findings import Told, failed, note, ok, skipped

SECONDS = 5.0
"""How long one answer may take; a check at a service waits for the moderator."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service should be. `expected`: it was named on purpose, so that silence is a failure."""

    url: str
    key: str = ""
    expected: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `status` None: there was none, and `cause` says why."""

    status: int | None
    body: Any = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that was learned of one service."""

    place: Place
    described: Answer
    ready: Answer
    checked: Answer
    wrong_key: Answer


def place(settings: ServiceSettings) -> Place | None:
    """Where a configured service listens; None where the file has no `service:` or the port is not known."""
    if not settings.model_fields_set or settings.port == 0:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - asked, not bound
    usable = (each.key.get_secret_value() for each in settings.keys if each.role in ("check", "admin"))
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    return Place(url, next(usable, ""), expected=False)


async def visit(at: Place) -> Served:
    """Ask what it is, whether it is ready, and for one check with the key and one with a wrong key.

    Raises `ConfigError` for a URL that is none.
    """
    if urlsplit(at.url).scheme not in ("http", "https"):
        raise ConfigError(f"--service: {at.url!r} is no URL that begins with http:// or https://")
    base = at.url.rstrip("/")
    described = await asyncio.to_thread(_ask, f"{base}/openapi.json")
    if described.status is None:
        return Served(at, *[described] * 4)
    ready, checked, wrong = await asyncio.gather(
        asyncio.to_thread(_ask, f"{base}/health/ready"),
        asyncio.to_thread(_ask, f"{base}/v1/check", at.key, {"stage": "input", "text": SAFE}),
        asyncio.to_thread(_ask, f"{base}/v1/check", WRONG, {"stage": "input", "text": SAFE}),
    )
    return Served(at, described, ready, checked, wrong)


def service(seen: Served) -> Told:
    """Say whether a Turnguard service answers there."""
    found = seen.described
    if found.status is None:
        if not seen.place.expected:
            return skipped(f"Nothing serves at {seen.place.url} yet; turnguard serve starts it.")
        told = f"Nothing answers at {seen.place.url}: {found.cause}."
        return failed(told, "Start turnguard serve, or correct the URL; in a container, localhost is the container.")
    if not _is_service(found):
        told = f"What answers at {seen.place.url} is no Turnguard service (HTTP {found.status} for /openapi.json)."
        return failed(told, "Give the service's own URL, without a path; a gateway may stand before it.")
    return ok("A Turnguard service answers.")


def version(seen: Served) -> Told | None:
    """Compare its version with this one."""
    if not _is_service(seen.described):
        return None
    theirs = str(seen.described.body["info"].get("version"))
    if theirs == __version__:
        return ok(f"It runs {theirs}, as is installed here.")
    return note(f"It runs {theirs}, and {__version__} is installed here.", "Update the older one.")


def key(seen: Served) -> Told | None:
    """Say whether the key may check, and whether a wrong one may."""
    if not _is_service(seen.described):
        return None
    status, given = seen.checked.status, bool(seen.place.key)
    if status == 401 and given:
        return failed("The service refuses the key.", "Give a key of service.keys: TURNGUARD_SERVICE_KEY.")
    if status == 401:
        told = "The service wants a key, and none was given."
        return failed(told, "Set TURNGUARD_SERVICE_KEY to a key of service.keys with the role check.")
    if status == 403:
        return failed("The key may not check.", "Use a key of the role check or admin in service.keys.")
    if status == 421:
        told = "Without keys the service answers to localhost only."
        return failed(told, "Give service.keys, or ask it as localhost.")
    if status != 200:
        return failed(f"A check is refused: {_why(seen.checked)}.", "Look at the service's log for this request.")
    if seen.wrong_key.status == 401:
        return ok("The key is accepted, and a wrong one is refused.")
    return note("The service asks for no key: every program on its machine can use it.")


def ready(seen: Served) -> Told | None:
    """Say whether the service reaches its moderator."""
    if not _is_service(seen.described):
        return None
    if seen.ready.status == 200:
        return ok("It is ready: its moderator answers.")
    failure = seen.ready.body.get("failure") if isinstance(seen.ready.body, dict) else None
    told = f"It is not ready: {failure or _why(seen.ready)}."
    return failed(told, "Start its moderator, or correct moderator.base_url in the configuration that it serves.")


def _is_service(answer: Answer) -> bool:
    info = answer.body.get("info") if answer.status == 200 and isinstance(answer.body, dict) else None
    return isinstance(info, dict) and info.get("title") == "Turnguard"


def _why(answer: Answer) -> str:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return str(message) if message else answer.cause or f"HTTP {answer.status}"


def _ask(url: str, key: str = "", body: dict[str, str] | None = None) -> Answer:
    """One request, by no proxy of the environment and after no redirect, as the moderator is asked."""
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)  # noqa: S310 - http(s) only
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(request, timeout=SECONDS) as reply:
            return Answer(reply.status, _read(reply.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _read(error.read()))
    except urllib.error.URLError as error:
        return Answer(None, cause=str(getattr(error.reason, "strerror", None) or error.reason))
    except OSError as error:
        return Answer(None, cause=error.strerror or type(error).__name__)


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
