"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from turnguard._version import __version__
from turnguard.config.service import ServiceSettings
from turnguard.config.settings import RecordsSettings
from turnguard.guard import Guard
from turnguard.service import check, errors, health, litellm, metrics, moderations, reviews, stream
from turnguard.service.access import Access
from turnguard.service.console import pages
from turnguard.service.gate import Gate
from turnguard.service.state import Service, Shared, check_policies

log = logging.getLogger("turnguard.service")

Watcher = Callable[[Service], "asyncio.Future[None]"]


def create_app(
    guard: Guard,
    settings: ServiceSettings | None = None,
    *,
    records: RecordsSettings | None = None,
    workers: int = 1,
    shared: Shared = Shared(),  # noqa: B008 - frozen
    watch: Watcher | None = None,
) -> FastAPI:
    """The application for a guard; it is closed when the application ends.

    `records` is the database that the console looks into; `workers` is how many processes share the keys' rates, and
    `shared` what else they share.
    `watch` begins what runs beside the service, such as taking over a changed policy. Raises `ConfigError` where a key
    names a policy that there is not.
    """
    settings = settings or ServiceSettings()
    check_policies(guard.policies, settings)
    service = Service(guard, settings, Access(settings, workers), workers, shared, records=records)
    metrics.set_up()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running: list[asyncio.Future[None]] = [asyncio.ensure_future(_write_metrics(shared.metrics))]
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
    app.mount("/console/static", StaticFiles(packages=[("turnguard.service.console", "static")]))
    for room in (check, moderations, litellm, stream, reviews, health, pages):
        app.include_router(room.router)
    # these take nothing but the request: the routes stand for the OpenAPI page, and the gate calls what is behind them
    bare = [route for room in (check, moderations, litellm) for route in room.router.routes]
    direct = {route.path: route.endpoint for route in bare if isinstance(route, APIRoute)}
    app.add_middleware(Gate, service=service, direct=direct)
    return app


async def _write_metrics(folder: Path | None) -> None:
    while folder is not None:
        try:
            await asyncio.to_thread(metrics.write, folder)
        except OSError as error:
            log.warning("metrics could not be written for the other workers: %s", error.strerror)
        await asyncio.sleep(metrics.SECONDS)
