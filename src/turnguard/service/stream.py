"""`/v1/check/stream`: lines of JSON in, server-sent events out, both at once. Only judged text comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from turnguard.service.body import Body, parse, validated
from turnguard.service.errors import TYPES, Refusal
from turnguard.service.gate import cancel_when_gone
from turnguard.service.state import caller_of, service_of

router = APIRouter(prefix="/v1", tags=["check"])

LONGEST_LINE = 1_000_000


class Line(Body):
    """A line of the body. `prompt` may stand in the first one alone."""

    text: str = ""
    prompt: str | None = None


@router.post(
    "/check/stream",
    summary="Judge a stream",
    openapi_extra={"requestBody": {"content": {"application/x-ndjson": {"schema": Line.model_json_schema()}}}},
)
async def check_stream(
    request: Request,
    prompt: Annotated[str | None, Query(max_length=100_000)] = None,
    language: Annotated[str | None, Query(max_length=64)] = None,
    policy: Annotated[str | None, Query(max_length=200)] = None,
) -> StreamingResponse:
    """Events `{"text": ...}`, the last one `{"decision": ...}`; after a mistake in a later line `{"error": ...}`."""
    service, caller = service_of(request), caller_of(request)
    lines = _lines(request)
    try:
        first = await asyncio.wait_for(anext(lines, Line()), service.settings.limits.read)
    except TimeoutError:
        raise Refusal(408, "no line arrived") from None
    except ClientDisconnect:
        raise Refusal(400, "the client left") from None

    watchers: list[asyncio.Future[None]] = []

    async def texts(gone: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[str]:
        if first.text:
            yield first.text
        async for line in lines:
            if line.prompt is not None:
                raise Refusal(422, "prompt: only the first line may hold it")
            if line.text:
                yield line.text
        # whoever reads the body hears that the client has left; from here on somebody else must listen
        watchers.append(asyncio.ensure_future(gone()))

    asked = first.prompt if first.prompt is not None else prompt
    chosen = service.guard.chosen(caller.policy or policy)
    metadata = caller.metadata(None)

    async def events() -> AsyncIterator[bytes]:
        task = asyncio.current_task()
        source = texts(lambda: cancel_when_gone(request.scope, request.receive, task))
        stream = service.guard.astream(source, prompt=asked, language=language, policy=chosen, metadata=metadata)
        try:
            async with asyncio.timeout(service.settings.limits.stream):
                async for chunk in stream:
                    yield _event({"text": chunk})
        except Refusal as refusal:
            yield _event({"error": {"message": refusal.message, "type": TYPES[refusal.status]}})
        except TimeoutError:
            yield _event({"error": {"message": "the stream took too long", "type": TYPES[408]}})
        except ClientDisconnect:
            return
        else:
            yield _event({"decision": stream.decision.to_dict() if stream.decision is not None else None})
        finally:
            for watcher in watchers:
                watcher.cancel()

    return _Duplex(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


class _Duplex(StreamingResponse):
    """A response that leaves the request's body to its own generator: Starlette's reads it to hear of a disconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


async def _lines(request: Request) -> AsyncIterator[Line]:
    rest = b""
    async for chunk in request.stream():
        rest += chunk
        *whole, rest = rest.split(b"\n")
        for line in whole:
            if line.strip():
                yield validated(Line, parse(line))
        if len(rest) > LONGEST_LINE:
            raise Refusal(413, f"a line has at most {LONGEST_LINE:,} bytes")
    if rest.strip():
        yield validated(Line, parse(rest))


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
