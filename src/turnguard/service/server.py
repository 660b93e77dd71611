"""`turnguard serve`: uvicorn around the application, in one process or several."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from turnguard.config.document import Config
from turnguard.config.files import load
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.guard import Guard
from turnguard.service import metrics
from turnguard.service.access import is_loopback
from turnguard.service.app import create_app
from turnguard.service.console.session import ONCE, SECRET
from turnguard.service.reload import watching
from turnguard.service.state import check_policies, over_http

if TYPE_CHECKING:
    import socket

FILE, HOST, WORKERS = "TURNGUARD_SERVICE_FILE", "TURNGUARD_SERVICE_HOST", "TURNGUARD_SERVICE_WORKERS"
"""What a worker is told by its parent, in its environment: the configuration, and what the command line says of it."""
HUNG = 60
"""Seconds until a worker that says nothing is replaced. On a busy machine importing takes more than uvicorn's five."""
GRACE = 5.0
"""Seconds that a stop waits beyond the longest check."""


def settings_of(
    config: Config, host: str | None = None, port: int | None = None, workers: int | None = None
) -> ServiceSettings:
    """The section `service:` as the command line changes it. Raises `ConfigError` where it may not listen."""
    given = {"host": host, "port": port, "workers": workers}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = config.service.model_copy(update=changed)
    if not settings.keys and not is_loopback(settings.host):
        raise ConfigError(
            f"service.host: without keys the service listens on loopback only, not on {settings.host}; "
            "give keys under 'service.keys'"
        )
    return settings


def application() -> FastAPI:
    """One worker's application, from the environment that `serve` sets up."""
    path = Path(os.environ[FILE])
    config = over_http(load(path))
    workers = int(os.environ[WORKERS])
    settings = partial(settings_of, host=os.environ[HOST], workers=workers)
    watch = watching(path, settings)
    return create_app(Guard.from_config(config), settings(config), records=config.records, workers=workers, watch=watch)


def serve(
    path: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way. Raises `ConfigError`, and `OSError` for a port
    that is taken.
    """
    config = over_http(load(path))
    settings = settings_of(config, host, port, workers)
    with ExitStack() as stack:
        _check(config, settings)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnguard-serve-")))
        environment = {FILE: str(path.resolve()), HOST: settings.host, WORKERS: str(settings.workers)}
        if settings.workers > 1:
            environment[metrics.SHARED] = str(folder)
        once = ""
        if not settings.keys:
            token = secrets.token_urlsafe(24)
            (folder / "once").write_text(token, encoding="ascii")
            environment |= {ONCE: str(folder / "once"), SECRET: secrets.token_hex(32)}
            once = f"/login?once={token}"
        stack.enter_context(_environment(environment))
        signal.signal(signal.SIGTERM, _stop)  # uvicorn raises it again once everything is answered
        server = uvicorn.Server(_configured(config, settings))
        bound = server.config.bind_socket()
        stack.callback(bound.close)
        place = f"http://{_shown(settings.host)}:{bound.getsockname()[1]}"
        announce(f"serving on {place}, console at {place}/console{once}")
        _run(server, bound, settings.workers)


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _check(config: Config, settings: ServiceSettings) -> None:
    """What would keep every worker from starting is told once, here."""
    guard = Guard.from_config(config)
    try:
        check_policies(guard.policies, settings)
    finally:
        guard.close()


def _configured(config: Config, settings: ServiceSettings) -> uvicorn.Config:
    longest = max(config.moderator.deadline, config.media.deadline) + GRACE
    return uvicorn.Config(
        "turnguard.service.server:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=type("Protocol", (Patient,), {"patience": settings.limits.read}) if settings.workers == 1 else Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(longest),
        timeout_worker_healthcheck=HUNG,
    )


def _run(server: uvicorn.Server, bound: socket.socket, workers: int) -> None:
    if workers == 1:
        server.run(sockets=[bound])
    else:
        Multiprocess(server.config, sockets=[bound]).run()


class Patient(HttpToolsProtocol):
    """A connection that is closed where the head of a request does not arrive in time: uvicorn itself waits forever."""

    patience = 30.0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """Begin to wait anew: a connection carries several requests."""
        self._stop_waiting()
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is here; the gate waits for the body."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting: asyncio.TimerHandle | None = self.loop.call_later(self.patience, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _environment:  # noqa: N801 - reads as a verb
    """Set variables for this process and its workers, and take them back."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)

    def __exit__(self, *_exc: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
