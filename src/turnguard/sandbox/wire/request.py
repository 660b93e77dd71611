"""A chat-completion request as vLLM reads it: what is checked, in which order, and what each mistake is answered
with."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from turnguard.core.families import DEFAULT, FAMILIES
from turnguard.sandbox.wire import errors
from turnguard.sandbox.wire.voices import VOICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE_TOKENS = 260
"""What one image adds to a prompt (measured on vLLM)."""

_PART_TYPES = (
    "audio_embeds, audio_url, image_embeds, image_pil, image_url, input_audio, input_image, input_text, output_text, "
    "prompt_embeds, refusal, text, thinking, tool_reference, video_embeds, video_url"
)
_CONTROL = "<(?:start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|bos|eos|pad|unk|mask)>"
_TOKEN = re.compile(
    _CONTROL + r"|[A-Za-z]+|\d|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W\d_]+|[^\w\s]|_|\n"
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a chat-completion request asks to be judged, and how the reply should look.

    `prompt` is the text of every turn that is not the last assistant turn (system turns are dropped, as the template
    does); `response` is the last assistant turn's text, None when none was sent; `images` are the decoded bytes, in
    order. `thinks`, `taxonomy` and `policy` are what 3.5's template takes: a trace first, other categories, or a
    policy in place of them.
    """

    model: str
    prompt: str = field(repr=False)
    response: str | None = field(default=None, repr=False)
    images: tuple[bytes, ...] = field(default=(), repr=False)
    family: str = DEFAULT
    categories: bool = False
    thinks: bool = False
    taxonomy: str | None = None
    policy: str | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    prompt_tokens: int = 0
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


def count_tokens(text: str) -> int:
    """About as many tokens as Gemma's tokenizer makes of `text`: four to five letters a token, one for each digit, mark
    and East Asian or Thai character, three letters in other scripts, and one for a control word. An estimate: the real
    tokenizer is not here."""
    total = 0
    for match in _TOKEN.finditer(text):
        word = match[0]
        total += 1 if len(word) == 1 or word[0] == "<" else -(-len(word) // (5 if word.isascii() else 3))
    return total


def parse_chat(
    raw: bytes,
    *,
    model: str,
    max_model_len: int,
    image_limit: int = 1,
    drop_images: bool = False,
    decode_images: bool = True,
    family: str = DEFAULT,
) -> ChatRequest:
    """Read a request body, or raise the `WireError` that vLLM answers it with.

    `drop_images` ignores pictures, as SGLang does without `--enable-multimodal`. `decode_images=False` skips the pixel
    check.
    """
    body = _object(raw)
    messages, kwargs = _messages(body), _template_kwargs(body)
    asked = body.get("model")
    if isinstance(asked, str) and asked != model:
        raise errors.unknown_model(asked, model)
    if not messages:
        raise errors.error(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
    limit = _sampling(body)
    turns, urls = _turns(messages)
    if drop_images:
        urls = []
    if len(urls) > image_limit:
        raise errors.too_many_images(image_limit)
    images = tuple(_image(url, decode_images) for url in urls)
    voice, can = VOICES[family], FAMILIES[family]
    prompt, response = voice.sides(turns)
    told = {
        name: said
        for name in ("custom_policy", "custom_taxonomy")
        if can.own_categories and isinstance(said := kwargs.get(name), str)
    }
    around = voice.template_tokens + sum(map(count_tokens, told.values()))
    options = body.get("stream_options") or {}
    return ChatRequest(
        model=model,
        prompt=prompt,
        response=response,
        images=images,
        family=family,
        categories=not can.labels_only or kwargs.get("request_categories") == "/categories",
        thinks=can.reasoning and kwargs.get("enable_thinking") is True,
        taxonomy=told.get("custom_taxonomy"),
        policy=told.get("custom_policy"),
        logprobs=bool(body.get("logprobs")),
        top_logprobs=int(body.get("top_logprobs") or 0),
        max_tokens=limit,
        stream=bool(body.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        prompt_tokens=_measure(prompt, response, len(images), max_model_len, around),
        body=body,
    )


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise errors.validation_error("missing", "body", "Field required", "None")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as failure:
        position, reason = getattr(failure, "pos", 0), getattr(failure, "msg", "nested too deeply")
        raise errors.validation_error(
            "json_invalid", f"body.{position}", "JSON decode error", "<dict of 0 items>", {"error": reason}
        ) from None
    if not isinstance(body, dict):
        raise errors.validation_error(
            "model_attributes_type",
            "body",
            "Input should be a valid dictionary or object to extract fields from",
            _shown(body),
        )
    return body


def _shown(value: Any) -> str:
    """Quote a refused value as vLLM does: a list or an object by its size, anything else as it is."""
    return f"<{type(value).__name__} of {len(value)} items>" if isinstance(value, (dict, list)) else str(value)


def _messages(body: Mapping[str, Any]) -> Sequence[Any]:
    if "messages" not in body:
        raise errors.validation_error("missing", "body.messages", "Field required", _shown(body))
    messages = body["messages"]
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages
    ):
        raise errors.validation_error("list_type", "body.messages", "Input should be a valid list", _shown(messages))
    return messages


def _template_kwargs(body: Mapping[str, Any]) -> Mapping[str, Any]:
    kwargs = body.get("chat_template_kwargs")
    if kwargs is not None and not isinstance(kwargs, dict):
        loc = "body.chat_template_kwargs"
        raise errors.validation_error("dict_type", loc, "Input should be a valid dictionary", _shown(kwargs))
    return kwargs or {}


def _sampling(body: Mapping[str, Any]) -> int | None:
    """Check the sampling parameters; the most tokens of the reply."""
    most: int | None = None
    temperature = _number(body, "temperature", float, "float_parsing", "number")
    if temperature is not None and temperature < 0:
        given = float(temperature)
        message = f"temperature must be non-negative, got {given}. (parameter=temperature, value={given})"
        raise errors.error(400, message, param="temperature")
    for name in ("max_completion_tokens", "max_tokens"):
        limit = _number(body, name, int, "int_parsing", "integer")
        if limit is not None and limit < 1:
            message = f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})"
            raise errors.error(400, message, param="max_tokens")
        most = most or limit
    top = body.get("top_logprobs")
    if top is not None and not isinstance(top, int):
        message = f"`top_logprobs` must be an integer. (parameter=top_logprobs, value={top})"
        raise errors.error(400, message, param="top_logprobs")
    if top and not body.get("logprobs"):
        message = "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)"
        raise errors.error(400, message, param="top_logprobs")
    if top and not 0 <= top <= 20:
        message = f"Requested sample logprobs of {top}, which is greater than max allowed: 20 "
        message += f"(parameter=logprobs, value={top})"
        raise errors.error(400, message, param="logprobs")
    if body.get("chat_template") is not None:
        message = (
            "Chat template is passed with request, but --trust-request-chat-template is not set. "
            "Refused request with untrusted chat template."
        )
        raise errors.error(400, message)
    return most


def _number(body: Mapping[str, Any], name: str, kind: type, error: str, noun: str) -> Any:
    """A number as pydantic reads one: text that spells a number and a boolean count too."""
    value = body.get(name)
    if value is None:
        return None
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        sentence = f"Input should be a valid {noun}, unable to parse string as a{'n' * (kind is int)} {noun}"
        raise errors.validation_error(error, f"body.{name}", sentence, _shown(value)) from None
    if isinstance(value, float) and number != value:
        sentence = "Input should be a valid integer, got a number with a fractional part"
        raise errors.validation_error("int_from_float", f"body.{name}", sentence, str(value))
    return number


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str]], list[str]]:
    """(role, text) of each turn, and the image URLs in order. System turns are dropped, pictures in them included."""
    turns: list[tuple[str, str]] = []
    urls: list[str] = []
    for number, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role == "system":
            continue
        if isinstance(content, str):
            turns.append((role, content))
        elif isinstance(content, list):
            turns.append((role, "\n".join(text for part in content if (text := _part(part, urls)))))
        elif content is None and role == "assistant":
            turns.append((role, ""))
        else:
            loc = f"body.messages.{number}.content"
            raise errors.validation_error("string_type", loc, "Input should be a valid string", str(content))
    return turns, urls


def _part(part: Any, urls: list[str]) -> str:
    """The part's text; an image's URL goes into `urls`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None:
        raise errors.error(400, "Missing 'type' field in multimodal part. (parameter=type)", param="type")
    if kind in {"text", "input_text", "output_text", "refusal"}:
        return str(part.get("text") or part.get("refusal") or "")
    if kind in {"image_url", "input_image"}:
        url = part.get("image_url")
        urls.append(str(url.get("url", "") if isinstance(url, dict) else url or ""))
        return ""
    if kind in {"audio_url", "input_audio", "video_url"}:
        name = "video" if "video" in kind else "audio"
        raise errors.error(400, f"At most 0 {name}(s) may be provided in one prompt. (parameter={name})", param=name)
    message = (
        f"Unsupported chat content part type: {kind!r}. Supported types: {_PART_TYPES}. (parameter=type, value={kind})"
    )
    raise errors.error(400, message, param="type")


def _image(url: str, decode: bool) -> bytes:
    scheme, _, rest = url.partition(":")
    if not url:
        raise errors.error(400, "multi_modal_data['image'][0] is empty but multi_modal_uuids['image'][0] is missing.")
    if scheme == "file":
        raise errors.error(500, "Cannot load local files without `--allowed-local-media-path`.")
    if scheme in {"http", "https"}:
        # A real vLLM would fetch it. This server touches nothing outside, and answers as for a fetch that failed.
        message = f"Failed to fetch media from URL: this stand-in fetches nothing (parameter=image_url, value={url})"
        raise errors.error(422, message, param="image_url")
    if scheme != "data":
        raise errors.error(400, "The URL must be either a HTTP, data or file URL.")
    head, _, payload = rest.partition(",")
    if not head.endswith(";base64"):
        raise errors.error(501, "Only base64 data URLs are supported for now.")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise errors.error(400, "Non-base64 digit found") from None
    if decode:
        check_image(data)
    return data


def check_image(data: bytes) -> None:
    """Load the picture as the server would, or raise its error: not an image, cut short, or too many pixels."""
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as picture:
            pixels = picture.width * picture.height
            if pixels > errors.MAX_IMAGE_PIXELS:
                raise errors.image_too_large(pixels)
            picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the warning, where warnings are errors
        raise errors.image_too_large(errors.MAX_IMAGE_PIXELS + 1) from None
    except OSError as failure:
        raise errors.unreadable_image(truncated="truncated" in str(failure)) from None
    except (ValueError, SyntaxError, EOFError):
        raise errors.unreadable_image() from None


def _measure(prompt: str, response: str | None, images: int, limit: int, around: int) -> int:
    characters = len(prompt) + len(response or "")
    if characters > limit * errors.CHARACTERS_PER_TOKEN_BOUND:
        raise errors.text_too_long(limit, characters)
    tokens = around + count_tokens(prompt) + count_tokens(response or "") + images * IMAGE_TOKENS
    if tokens > limit:
        raise errors.prompt_too_long(limit)
    return tokens
