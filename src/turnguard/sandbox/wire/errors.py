"""vLLM's error bodies, word for word as a real 0.32.0 server sends them.

Every error is `{"error": {"message", "type", "param", "code"}}`, but for a missing key (`error` is a plain string)
and for what the router itself refuses (`{"detail": ...}`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IMAGE_PIXELS = 178_956_970
"""vLLM's default `VLLM_MAX_IMAGE_PIXELS`."""

CHARACTERS_PER_TOKEN_BOUND = 37
"""A prompt of more characters than this times the context length is refused untokenised (151552 for 4096)."""


class WireError(Exception):
    """An answer that is not 200: HTTP status, JSON body, extra headers."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})

    @property
    def closes(self) -> bool:
        """After every 500 uvicorn closes the connection, without saying `Connection: close`."""
        return self.status == 500

    @property
    def payload(self) -> bytes:
        """The body as JSON."""
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


_TYPES = {
    400: "BadRequestError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


def error(status: int, message: str, *, param: str | None = None, kind: str | None = None) -> WireError:
    """An error in vLLM's usual envelope; `kind` overrides the type that goes with the status."""
    kind = kind or _TYPES.get(status, "InternalServerError")
    return WireError(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def validation_error(kind: str, loc: str, msg: str, given: str, context: Mapping[str, str] | None = None) -> WireError:
    """A body that pydantic refuses: the type is "Bad Request", with a space."""
    detail: dict[str, Any] = {"type": kind, "loc": loc, "msg": msg, "input": given}
    if context is not None:
        detail["ctx"] = dict(context)
    return error(400, f"1 validation error:\n  {detail}", param=loc, kind="Bad Request")


def unauthorized() -> WireError:
    """401: the key is missing or wrong."""
    return WireError(401, {"error": "Unauthorized"})


def not_found() -> WireError:
    """404: the server has no such path."""
    return WireError(404, {"detail": "Not Found"})


def method_not_allowed(allow: str) -> WireError:
    """405: the server has this path, but not for this method."""
    return WireError(405, {"detail": "Method Not Allowed"}, {"allow": allow})


def unknown_model(asked: str, served: str) -> WireError:
    """The request names a model that is not served."""
    return error(404, f"The model `{asked}` does not exist. Valid aliases: {served}.", param="model")


def prompt_too_long(limit: int) -> WireError:
    """More tokens than the context holds."""
    return error(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains at least {limit + 1} "
        "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        f"prompt. (parameter=input_tokens, value={limit + 1})",
        param="input_tokens",
    )


def text_too_long(limit: int, characters: int) -> WireError:
    """More characters than the context could hold whatever they are: refused before tokenising."""
    bound = limit * CHARACTERS_PER_TOKEN_BOUND
    return error(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains {characters} characters "
        f"(more than {bound} characters, which is the upper bound for {limit} input tokens). Please reduce the length "
        f"of the input prompt. (parameter=input_text, value={characters})",
        param="input_text",
    )


def too_many_images(limit: int) -> WireError:
    """`--limit-mm-per-prompt` reached."""
    return error(400, f"At most {limit} image(s) may be provided in one prompt. (parameter=image)", param="image")


def unreadable_image(truncated: bool = False) -> WireError:
    """Bytes that are no image, or only the beginning of one."""
    reason = "image file is truncated" if truncated else "cannot identify image file <_io.BytesIO object>"
    return error(400, f"Failed to load image: {reason}")


def image_too_large(pixels: int) -> WireError:
    """A picture above vLLM's pixel limit: a 500, as on the real server."""
    return error(
        500,
        f"Image size ({pixels} pixels) exceeds limit of {MAX_IMAGE_PIXELS} pixels, "
        "could be decompression bomb DOS attack.",
    )


def overloaded() -> WireError:
    """The queue is full (`--max-num-queued-reqs`); without `Retry-After`, as on the real server."""
    message = "The engine is currently busy and cannot accept new requests. "
    message += "Please try again later or on a different instance."
    return error(503, message, kind="Service Unavailable")
