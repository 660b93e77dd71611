"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from turnguard._version import __version__
from turnguard.config.service import ServiceSettings
from turnguard.config.settings import RecordsSettings
from turnguard.guard import Guard
from turnguard.service import check, errors, health, litellm, metrics, moderations, reviews, stream
from turnguard.service.console import pages
from turnguard.service.gate import Gate
from turnguard.service.state import Service

log = logging.getLogger("turnguard.service")

Watcher = Callable[[Service], "asyncio.Future[None]"]


def create_app(
    guard: Guard,
    settings: ServiceSettings | None = None,
    *,
    records: RecordsSettings | None = None,
    workers: int = 1,
    watch: Watcher | None = None,
) -> FastAPI:
    """The application for a guard; it is closed when the application ends.

    `records` is the database that the console looks into; `workers` is how many processes share the keys' rates.
    `watch` begins what runs beside the service, such as taking over a changed policy. Raises `ConfigError` where a key
    names a policy that there is not.
    """
    service = Service.of(guard, settings or ServiceSettings(), workers, records)
    metrics.set_up()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running: list[asyncio.Future[None]] = [asyncio.ensure_future(_write_metrics())]
        if watch is not None:
            running.append(watch(service))
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await guard.aclose()
            service.close()

    # the pages that FastAPI makes of /openapi.json load scripts from elsewhere
    app = FastAPI(
        title="Turnguard",
        version=__version__,
        summary="Judges every step of an agent's turn with a content-safety model.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # the guard has instruments of its own; what is left is that the trace of whoever asks goes on
        telemetry={"metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.service = service
    errors.install(app)
    for room in (check, stream, moderations, litellm, reviews, health, pages):
        app.include_router(room.router)
    app.mount("/console/static", StaticFiles(packages=[("turnguard.service.console", "static")]))
    app.add_middleware(Gate, service=service)
    return app


async def _write_metrics() -> None:
    while True:
        await asyncio.sleep(metrics.SECONDS)
        try:
            await asyncio.to_thread(metrics.write)
        except OSError as error:
            log.warning("metrics could not be written for the other workers: %s", error.strerror)
