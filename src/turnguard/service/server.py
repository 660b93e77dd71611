"""`turnguard serve`: uvicorn around the application, in one process or several."""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from turnguard.config.document import Config
from turnguard.config.files import load
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.guard import Guard
from turnguard.service.access import is_loopback
from turnguard.service.app import create_app
from turnguard.service.reload import watching
from turnguard.service.state import Shared, check_policies, over_http

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


def application(path: Path, host: str, workers: int, shared: Shared) -> FastAPI:
    """One worker's application. `host` and `workers` are what the command line says of the configuration."""
    config = over_http(load(path))
    settings = partial(settings_of, host=host, workers=workers)
    app = create_app(
        Guard.from_config(config),
        settings(config),
        records=config.records,
        workers=workers,
        shared=shared,
        watch=watching(path, settings),
    )
    # all this stays until the end: a collection that walked it would hold up every check
    gc.collect()
    gc.freeze()
    return app


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
        metrics, once, login = folder if settings.workers > 1 else None, None, ""
        if not settings.keys:
            token, once = secrets.token_urlsafe(24), folder / "once"
            once.write_text(token, encoding="ascii")
            login = f"/login?once={token}"
        shared = Shared(metrics, once, secrets.token_hex(32))
        signal.signal(signal.SIGTERM, _stop)  # uvicorn raises it again once everything is answered
        made = partial(application, path.resolve(), settings.host, settings.workers, shared)
        server = uvicorn.Server(_configured(made, config, settings))
        bound = server.config.bind_socket()
        stack.callback(bound.close)
        place = f"http://{_shown(settings.host)}:{bound.getsockname()[1]}"
        announce(f"serving on {place}, console at {place}/console{login}")
        if settings.workers == 1:
            server.run(sockets=[bound])
        else:
            Multiprocess(server.config, sockets=[bound]).run()


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _check(config: Config, settings: ServiceSettings) -> None:
    """What would keep every worker from starting is told once, here."""
    guard = Guard.from_config(config)
    try:
        check_policies(guard.policies, settings)
    finally:
        guard.close()


def _configured(application: Callable[[], FastAPI], config: Config, settings: ServiceSettings) -> uvicorn.Config:
    longest = max(config.moderator.deadline, config.media.deadline) + GRACE
    return uvicorn.Config(
        application,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=partial(Patient, patience=settings.limits.read),  # type: ignore[arg-type]  # made like a class
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(longest),
        timeout_worker_healthcheck=HUNG,
    )


class OneWrite:
    """A transport that sends in one call what is written in one turn of the event loop.

    uvicorn writes a head and its body apart: of a worker that is killed in between, a client would get half an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send at the end of this turn."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        """Send what was written, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._written = b"".join(self._written), []
        if data and not self._transport.is_closing():
            self._transport.write(data)


class Patient(HttpToolsProtocol):
    """A connection that is closed where the head of a request does not arrive in time: uvicorn itself waits forever."""

    def __init__(self, *given: Any, patience: float = 30.0, **named: Any) -> None:
        super().__init__(*given, **named)
        self.patience = patience

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type] # as a transport
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
