"""Every refusal: status, body, and what the product makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.wire import MODEL, SAFE, Wire, ask, of_url, part, png, text
from turnguard.core.errors import ModeratorError, Rejected, Unavailable
from turnguard.moderators.replies import failure

WORDS = text("What does this picture show?")
LONG = (
    "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=4097)"
)

Case = tuple[Any, int, str, "str | None", str]
CASES: dict[str, Case] = {
    "unknown model": (
        ask(model="gpt-4"), 404, "NotFoundError", "model",
        f"The model `gpt-4` does not exist. Valid aliases: {MODEL}.",
    ),
    "too long": (ask("steal " * 6000), 400, "BadRequestError", "input_tokens", LONG),
    "two pictures": (
        ask([part(png()), part(png()), WORDS]), 400, "BadRequestError", "image",
        "At most 1 image(s) may be provided in one prompt. (parameter=image)",
    ),
    "no base64": (ask([of_url("data:image/png;base64,%%%"), WORDS]), 400, "BadRequestError", None, "Non-base64 digit found"),
    "another encoding": (
        ask([of_url("data:image/png,abc"), WORDS]), 501, "NotImplementedError", None,
        "Only base64 data URLs are supported for now.",
    ),
    "no picture": (
        ask([part(b"no picture"), WORDS]), 400, "BadRequestError", None,
        "Failed to load image: cannot identify image file <_io.BytesIO object>",
    ),
    "a file": (
        ask([of_url("file:///etc/hostname"), WORDS]), 500, "InternalServerError", None,
        "Cannot load local files without `--allowed-local-media-path`.",
    ),
    "a bare name": (
        ask([of_url("screenshot.png"), WORDS]), 400, "BadRequestError", None,
        "The URL must be either a HTTP, data or file URL.",
    ),
    "audio": (
        ask([{"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AAAA"}}, WORDS]), 400, "BadRequestError",
        "audio", "At most 0 audio(s) may be provided in one prompt. (parameter=audio)",
    ),
    "an empty list": (
        {"model": MODEL, "messages": []}, 400, "BadRequestError", None,
        "Cannot apply chat template to an empty conversation. Provide at least one message.",
    ),
    "no messages": (
        {"model": MODEL}, 400, "Bad Request", "body.messages",
        ("1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
        "'input': '<dict of 1 items>'}"),
    ),
    "messages of another type": (
        {"model": MODEL, "messages": "hi"}, 400, "Bad Request", "body.messages",
        ("1 validation error:\n  {'type': 'list_type', 'loc': 'body.messages', 'msg': 'Input should be a valid list', "
        "'input': 'hi'}"),
    ),
    "template kwargs of another type": (
        ask(chat_template_kwargs="x"), 400, "Bad Request", "body.chat_template_kwargs",
        ("1 validation error:\n  {'type': 'dict_type', 'loc': 'body.chat_template_kwargs', "
        "'msg': 'Input should be a valid dictionary', 'input': 'x'}"),
    ),
    "a template of the client's": (
        ask(chat_template="x"), 400, "BadRequestError", None,
        ("Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with "
        "untrusted chat template."),
    ),
    "broken JSON": (
        b"{", 400, "Bad Request", "body.1",
        ("1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.1', 'msg': 'JSON decode error', "
        "'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting property name enclosed in double quotes'}}"),
    ),
    "a list": (
        b"[]", 400, "Bad Request", "body",
        ("1 validation error:\n  {'type': 'model_attributes_type', 'loc': 'body', "
        "'msg': 'Input should be a valid dictionary or object to extract fields from', 'input': '<list of 0 items>'}"),
    ),
    "nothing": (
        b"", 400, "Bad Request", "body",
        "1 validation error:\n  {'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}",
    ),
    "too many logprobs": (
        ask(logprobs=True, top_logprobs=21), 400, "BadRequestError", "logprobs",
        "Requested sample logprobs of 21, which is greater than max allowed: 20 (parameter=logprobs, value=21)",
    ),
    "top_logprobs alone": (
        ask(top_logprobs=5), 400, "BadRequestError", "top_logprobs",
        "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)",
    ),
    "max_tokens of zero": (
        ask(max_tokens=0), 400, "BadRequestError", "max_tokens",
        "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    ),
    "a negative temperature": (
        ask(temperature=-1), 400, "BadRequestError", "temperature",
        "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_word_for_word(wire: Wire, case: Case) -> None:
    body, status, kind, param, message = case
    reply = await wire.chat(body)

    assert reply.json == {"error": {"message": message, "type": kind, "param": param, "code": status}}
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    told = failure(reply.status, reply.body, reply.headers.get("retry-after"), MODEL)
    assert isinstance(told, Unavailable if status >= 500 else Rejected)


async def test_a_truncated_picture(wire: Wire, truncated: dict[str, Any]) -> None:
    reply = await wire.chat(ask([truncated, WORDS]))
    assert (reply.status, reply.error["type"]) == (400, "BadRequestError")
    assert reply.error["message"] == "Failed to load image: image file is truncated"


async def test_far_too_long_is_refused_before_it_is_read(wire: Wire) -> None:
    """The bound is the tokenizer's longest token times the context, and so each model's own."""
    reply = await wire.chat(ask("x" * 200_000))
    assert (reply.status, reply.error["param"]) == (400, "input_text")
    assert reply.error["message"].startswith("This model's maximum context length is 4096 tokens. However, your prompt")


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (ask("steal " * 6000), "longer than the server's context"),
        (ask([part(png()), part(png()), WORDS]), "more images than the server takes"),
        (ask([part(b"no picture"), WORDS]), "the server could not read the image"),
        (ask(model="gpt-4"), "does not serve the model"),
    ],
)
async def test_the_product_says_it_in_its_own_words(wire: Wire, body: Any, cause: str) -> None:
    reply = await wire.chat(body)
    told: ModeratorError = failure(reply.status, reply.body, None, MODEL)
    assert cause in str(told)


@pytest.mark.parametrize(
    "more",
    [
        {"nonsense": 1},
        {"temperature": True},
        {"max_tokens": "5"},
        {"max_tokens": None},
        {"top_p": 0.95},
        {"max_tokens": 4090},
    ],
)
async def test_what_is_taken_without_a_word(wire: Wire, more: dict[str, Any]) -> None:
    assert (await wire.chat(ask(SAFE, **more))).said.startswith("User")


async def test_the_model_may_be_left_out(wire: Wire) -> None:
    body = ask()
    del body["model"]
    assert (await wire.chat(body)).said == "User Safety: safe"


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("POST", "/v1/chat/completion", 404, "Not Found"),
        ("POST", "/v1/v1/chat/completions", 404, "Not Found"),
        ("GET", "/v1/chat/completions", 405, "Method Not Allowed"),
        ("POST", "/v1/models", 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
    ],
)
async def test_paths(wire: Wire, method: str, path: str, status: int, detail: str) -> None:
    reply = await wire.send(method, path)
    assert (reply.status, reply.json) == (status, {"detail": detail})


async def test_a_path_that_is_not_there_is_told_apart_from_a_model(wire: Wire) -> None:
    reply = await wire.send("POST", "/v1/chat/completion", ask())
    assert "no such path" in str(failure(reply.status, reply.body, None, MODEL))
