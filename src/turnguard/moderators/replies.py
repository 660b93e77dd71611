"""Map HTTP replies to Turnguard's errors, in one place so that both clients behave alike.

A server's error message may quote the request, so it is never passed on. Known messages are recognised and replaced by
our own wording.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from turnguard.core.errors import ModeratorError, Rejected, Retry, Unavailable, Unparseable
from turnguard.moderators.http.framing import MAX_REPLY

ID_HEADER = "X-Request-Id"
"""vLLM makes a reply's `id` of it: `chatcmpl-` and its value."""
_OURS = f"turnguard-{os.urandom(6).hex()}-"

_KNOWN = (
    (
        re.compile(r"maximum context length|max_model_len|longer than the maximum", re.IGNORECASE),
        "longer than the server's context",
    ),
    (re.compile(r"At most \d+ image", re.IGNORECASE), "more images than the server takes"),
    (re.compile(r"does not exist", re.IGNORECASE), "the server does not serve this model"),
    (re.compile(r"image", re.IGNORECASE), "the server could not read the image"),
)


_RETRIED: Mapping[int, tuple[str, Retry]] = {
    429: ("too many requests", "wait"),
    501: ("not implemented", "never"),
    503: ("the engine is busy", "wait"),
}


def parse(status: int, body: bytes, retry_after: str | None, model: str) -> Mapping[str, Any]:
    """The reply's JSON object, or the `ModeratorError` that this answer stands for."""
    if status == 200:
        if len(body) > MAX_REPLY:
            raise Unparseable("the reply is larger than any verdict")
        try:
            reply = from_json(body, cache_strings="keys")
        except ValueError:
            kind = "HTML" if body.lstrip()[:1] == b"<" else "not JSON"
            raise Unparseable(f"the reply is {kind}; is this the base_url of a vLLM server?") from None
        if not isinstance(reply, Mapping):
            raise Unparseable("the reply is not a JSON object")
        return reply
    raise failure(status, body, retry_after, model)


def new_id() -> str:
    """A name for one request: random, with a beginning that all names of this process share."""
    return _OURS + os.urandom(8).hex()


def refuse_others(name: str, body: bytes) -> None:
    """Raise `Unavailable` for a reply that is not the one to the request of this name.

    A server or a proxy that is one reply behind on a connection would have each content judged by the verdict on
    another. A reply that bears the name of another request of ours is not read; one that bears none is believed, for
    not every server names its replies so.
    """
    if name.encode() not in body and _OURS.encode() in body:
        raise Unavailable("the reply belongs to another request", retry="now")


def failure(status: int, body: bytes, retry_after: str | None, model: str) -> ModeratorError:
    """What an HTTP status other than 200 stands for."""
    if status == 429 or status >= 500:
        cause, retry = _RETRIED.get(status, ("server error", "once"))
        return Unavailable(f"HTTP {status}: {cause}", retry=retry, retry_after=_seconds(retry_after))
    if status in (401, 403):
        return Rejected(f"HTTP {status}: the API key was refused")
    message = _message(body[:MAX_REPLY])
    if status == 404:
        if _KNOWN[2][0].search(message):
            return Rejected(f"HTTP 404: the server does not serve the model {model!r}")
        return Rejected("HTTP 404: no such path; does the base_url end in /v1?")
    if 300 <= status < 400:
        return Rejected(f"HTTP {status}: a redirect, which is not followed with content in hand")
    said = next((ours for pattern, ours in _KNOWN if pattern.search(message)), "the request was refused")
    return Rejected(f"HTTP {status}: {said}", too_long=status == 413 or (status == 400 and said == _KNOWN[0][1]))


def _message(body: bytes) -> str:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = data.get("error", data.get("detail", "")) if isinstance(data, Mapping) else ""
    if isinstance(error, Mapping):
        error = error.get("message", "")
    return error if isinstance(error, str) else ""


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds. The date form is not used by vLLM and is read as absent."""
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else None
    except ValueError:
        return None
