"""Faults between a client and a vLLM server, one function for each: `fake.fail(faults.reset(), times=2)`.

Three families: what happens to the connection, what an error reply says (bodies as a real server sends them), and
what is wrong with a reply of status 200.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from turnguard.sandbox.wire import WireError
from turnguard.sandbox.wire import errors as wire_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal[
    "refused",
    "reset",
    "reset_during_reply",
    "slow_headers",
    "slow_body",
    "hang",
    "reply",
    "truncated",
    "chat",
    "empty_choices",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour. Make it with a function of this module; `name` is that function's."""

    name: str
    kind: Kind
    seconds: float = 0.0
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None
    replaces_content: bool = False
    finish_reason: str | None = None
    closes: bool = False


def refused(seconds: float = 0.25) -> Fault:
    """Drop this connection and close the listener for `seconds`: whoever connects meanwhile is refused."""
    return Fault("refused", "refused", seconds=seconds)


def reset() -> Fault:
    """RST before a byte of the reply."""
    return Fault("reset", "reset")


def reset_during_reply() -> Fault:
    """Headers and half of the body, then RST."""
    return Fault("reset_during_reply", "reset_during_reply")


def slow_headers(seconds: float = 1.0) -> Fault:
    """The head of the reply comes a byte at a time: `seconds` between bytes."""
    return Fault("slow_headers", "slow_headers", seconds=seconds)


def slow_body(seconds: float = 1.0) -> Fault:
    """Headers at once, then the body a byte at a time: `seconds` between bytes."""
    return Fault("slow_body", "slow_body", seconds=seconds)


def hang() -> Fault:
    """The request is read and never answered."""
    return Fault("hang", "hang")


def error(failure: WireError, *, name: str = "error", headers: Mapping[str, str] | None = None) -> Fault:
    """Any error of the wire format. A 500 closes the connection without saying so, as uvicorn does."""
    return Fault(
        name,
        "reply",
        status=failure.status,
        body=failure.payload,
        headers={"content-type": "application/json", **failure.headers, **(headers or {})},
        closes=failure.closes,
    )


def status(code: int, body: Any = None, *, retry_after: float | str | None = None, closes: bool | None = None) -> Fault:
    """Any status with any JSON body (default: vLLM's error envelope); `Retry-After` is in seconds, or a date."""
    failure = wire_errors.error(code, "planted by the test") if body is None else WireError(code, body)
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    made = error(failure, name=f"status_{code}", headers=headers)
    return made if closes is None else _closing(made, closes)


def _closing(fault: Fault, closes: bool) -> Fault:
    from dataclasses import replace

    return replace(fault, closes=closes)


def busy(retry_after: float | None = None) -> Fault:
    """503 of a full queue; a real vLLM sends no `Retry-After`."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return error(wire_errors.overloaded(), name="busy", headers=headers)


def too_many_requests(retry_after: float | None = None) -> Fault:
    """429, as gateways send it."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return error(wire_errors.error(429, "Rate limit exceeded."), name="too_many_requests", headers=headers)


def crash() -> Fault:
    """500, after which the connection is closed without `Connection: close` (uvicorn, after every 500)."""
    return error(
        wire_errors.error(500, "EngineCore encountered an issue. See stack trace for the root cause."), name="crash"
    )


def unauthorized() -> Fault:
    """401 whose `error` is a string."""
    return error(wire_errors.unauthorized(), name="unauthorized")


def unknown_model(asked: str = "gpt-4", served: str = "nemotron_moderator") -> Fault:
    """404 that names the aliases served."""
    return error(wire_errors.unknown_model(asked, served), name="unknown_model")


def not_found() -> Fault:
    """A 404 from the router, as for a wrong base URL."""
    return error(wire_errors.not_found(), name="not_found")


def prompt_too_long(limit: int = 4096) -> Fault:
    """400: more tokens than the context holds."""
    return error(wire_errors.prompt_too_long(limit), name="prompt_too_long")


def bad_image() -> Fault:
    """400: not an image."""
    return error(wire_errors.unreadable_image(), name="bad_image")


def too_many_images(limit: int = 1) -> Fault:
    """400: more images than the server takes."""
    return error(wire_errors.too_many_images(limit), name="too_many_images")


def image_too_large() -> Fault:
    """500: above the pixel limit."""
    return error(wire_errors.image_too_large(400_000_000), name="image_too_large")


def html(code: int = 200) -> Fault:
    """A proxy's HTML page instead of JSON."""
    page = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>"
    return Fault("html", "reply", status=code, body=page, headers={"content-type": "text/html; charset=utf-8"})


def json_body(body: Any, *, code: int = 200) -> Fault:
    """Any JSON instead of a completion."""
    return Fault(
        "json_body", "reply", status=code, body=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )


def truncated_json() -> Fault:
    """A complete HTTP reply whose JSON stops halfway."""
    return Fault("truncated_json", "truncated")


def wrong_content_type(content_type: str = "text/plain") -> Fault:
    """A correct reply with a wrong `Content-Type`."""
    return Fault("wrong_content_type", "chat", headers={"content-type": content_type})


def empty_choices() -> Fault:
    """`choices: []`."""
    return Fault("empty_choices", "empty_choices")


def null_content() -> Fault:
    """`content: null`, as when a reasoning trace ate the whole budget."""
    return Fault("null_content", "chat", replaces_content=True, finish_reason="length")


def content(text: str | None, *, finish_reason: str | None = None) -> Fault:
    """Any text instead of the verdict."""
    return Fault("content", "chat", content=text, replaces_content=True, finish_reason=finish_reason)


def finish_reason(reason: str) -> Fault:
    """The right verdict with another finish reason: "abort" (a server going down), "length", anything."""
    return Fault(f"finish_reason_{reason}", "chat", finish_reason=reason)


NAMED: dict[str, Callable[[], Fault]] = {
    make.__name__: make
    for make in (
        refused,
        reset,
        reset_during_reply,
        slow_headers,
        slow_body,
        hang,
        busy,
        too_many_requests,
        crash,
        unauthorized,
        unknown_model,
        not_found,
        prompt_too_long,
        bad_image,
        too_many_images,
        image_too_large,
        html,
        truncated_json,
        wrong_content_type,
        empty_choices,
        null_content,
    )
}
"""The faults that need no argument, by name: `fake.fail("reset")` takes these too."""
