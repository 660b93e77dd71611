"""Every error has one form: `{"error": {"message", "type"}}`. No message holds content or a credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from turnguard.core.errors import ConfigError, ReviewError, StoreError

TYPES = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected",
    422: "invalid_request",
    429: "rate_limited",
    503: "unavailable",
}
"""The `type` that goes with a status; any other one is `internal`."""


class Refusal(Exception):
    """A request that is not answered: its status, and a sentence that says why and what to do instead."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in the one form."""
    body = {"error": {"message": message, "type": TYPES.get(status, "internal")}}
    return JSONResponse(body, status, dict(headers or {}))


def told(mistakes: list[Any]) -> str:
    """What pydantic complains about, as one sentence without the values themselves."""
    first = mistakes[0]
    where = ".".join(str(each) for each in first["loc"] if each != "body") or "the body"
    message = "there is no such field" if first["type"] == "extra_forbidden" else str(first["msg"])
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{where}: {message.removeprefix('Value error, ')}{more}"


KNOWN = (Refusal, HTTPException, RequestValidationError, ConfigError, ReviewError, StoreError)
"""Failures that are the client's mistake, or that say themselves what went wrong."""


def status_of(failure: Exception) -> tuple[int, str]:
    """The status and the sentence that a failure is answered with."""
    match failure:
        case Refusal():
            return failure.status, failure.message
        case HTTPException():
            return failure.status_code, str(failure.detail)
        case RequestValidationError():
            return 422, told(list(failure.errors()))
        case ConfigError():
            return 422, str(failure)
        case ReviewError():
            return 409, str(failure)
        case StoreError():
            return 503, str(failure)
    return 500, "the service failed; its log names the kind of error"


def response(failure: Exception) -> JSONResponse:
    """What a request that ended in `failure` is answered."""
    headers = failure.headers if isinstance(failure, (Refusal, HTTPException)) else None
    return error(*status_of(failure), headers)


def install(app: FastAPI) -> None:
    """Give every error that a route can end in the one form."""

    async def told_in_the_one_form(_request: Request, failure: Exception) -> Response:
        return response(failure)

    for kind in KNOWN:
        app.add_exception_handler(kind, told_in_the_one_form)
