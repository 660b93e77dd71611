"""`/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

import asyncio
import os
import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline, Moderator
from turnguard.service import metrics
from turnguard.service.state import service_of

router = APIRouter(tags=["operation"])

PROBE_SECONDS = 2.0
KEPT_SECONDS = 2.0
"""How long an answer stands: whoever asks, the moderator is probed no more often."""


@router.get("/health/live", summary="The process answers")
async def live() -> JSONResponse:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready", summary="The moderator answers")
async def ready(request: Request) -> JSONResponse:
    """200 where the moderator gives a verdict, 503 with the kind of failure where it does not."""
    service = service_of(request)
    if time.monotonic() >= service.probed + KEPT_SECONDS:
        service.failure, service.probed = await _failure(service.guard.moderator), time.monotonic()
    if service.failure is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "unready", "failure": service.failure}, 503)


async def _failure(moderator: Moderator) -> str | None:
    # a text of its own each time: what is remembered says nothing about now
    exchange = Exchange(prompt=f"Are you there? {os.urandom(4).hex()}")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return (await moderator.judge(exchange, Deadline.after(PROBE_SECONDS))).failure
    except ModeratorError as error:
        return error.failure
    except TimeoutError:
        return "timeout"


@router.get("/metrics", summary="Prometheus", response_class=Response)
async def prometheus(request: Request) -> Response:
    """The same instruments that OpenTelemetry reads, of all workers; `worker` tells them apart."""
    told = await asyncio.to_thread(metrics.exposition, service_of(request).shared.metrics)
    return Response(told, media_type=metrics.CONTENT_TYPE)
