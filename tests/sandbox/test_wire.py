"""The wire shapes, held against what a real vLLM 0.32.0 sent (recorded bodies, keys and sentences)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.sandbox.pictures import data_uri, image_part, png
from turnguard.sandbox.wire import (
    Answer,
    ChatRequest,
    Counters,
    ServerInfo,
    WireError,
    authorise,
    complete,
    count_tokens,
    errors,
    parse_chat,
    route,
)

RECORDED_TEXT_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1795283412,
    "model": "nemotron_moderator",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "User Safety: safe",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": 6,
            "token_ids": None,
            "routed_experts": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": "vllm-0.32.0-4316c265",
    "usage": {
        "prompt_tokens": 39,
        "total_tokens": 50,
        "completion_tokens": 11,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    },
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "prompt_text": None,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "metrics": None,
}


def parse(body: Any, **options: Any) -> ChatRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_chat(raw, **{"model": "nemotron_moderator", "max_model_len": 4096, **options})


def ask(content: Any = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "nemotron_moderator", "messages": [{"role": "user", "content": content}], **more}


def refusal(body: Any, **options: Any) -> WireError:
    with pytest.raises(WireError) as caught:
        parse(body, **options)
    return caught.value


def shape(value: Any) -> Any:
    """Keys and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def reply(answer: Answer | str | None, body: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return complete(parse(body or ask()), answer, fingerprint="vllm-0.32.0-4316c265", **options).body()


class TestReply:
    def test_has_the_recorded_keys_in_the_recorded_order(self) -> None:
        made = reply(Answer("safe"))

        assert shape(made) == shape(RECORDED_TEXT_REPLY)
        assert list(made) == list(RECORDED_TEXT_REPLY)
        assert made["choices"][0]["message"]["content"] == "User Safety: safe"

    def test_a_safe_verdict_takes_five_tokens_as_recorded(self) -> None:
        assert reply(Answer("safe"))["usage"]["completion_tokens"] == 5

    @pytest.mark.parametrize(
        ("answer", "asked", "content"),
        [
            (Answer("safe"), True, "User Safety: safe"),
            (Answer("unsafe", categories=("Violence",)), False, "User Safety: unsafe"),
            (
                Answer("unsafe", categories=("Violence", "Criminal Planning/Confessions")),
                True,
                "User Safety: unsafe\nSafety Categories: Violence, Criminal Planning/Confessions",
            ),
            (
                Answer("unsafe", "safe", ("Threat",)),
                True,
                "User Safety: unsafe\nResponse Safety: safe\nSafety Categories: Threat",
            ),
            (Answer("safe", "safe", ("Threat",)), True, "User Safety: safe\nResponse Safety: safe"),
        ],
    )
    def test_speaks_the_model_s_grammar(self, answer: Answer, asked: bool, content: str) -> None:
        kwargs = {"chat_template_kwargs": {"request_categories": "/categories"}} if asked else {}

        assert reply(answer, ask(**kwargs))["choices"][0]["message"]["content"] == content

    def test_p_unsafe_can_be_read_at_each_label(self) -> None:
        made = reply(Answer("unsafe", "safe", (), 0.97, 0.12), ask(logprobs=True, top_logprobs=5))

        entries = made["choices"][0]["logprobs"]["content"]
        labels = [entry for entry in entries if entry["token"] in {" safe", " unsafe"}]
        assert [entry["token"] for entry in labels] == [" unsafe", " safe"]
        read = [
            math.exp(next(top["logprob"] for top in entry["top_logprobs"] if top["token"] == " unsafe"))
            for entry in labels
        ]
        assert read == pytest.approx([0.97, 0.12], rel=1e-4)

    def test_token_entries_have_vllm_s_shape(self) -> None:
        made = reply(Answer("unsafe", p_user=0.9), ask(logprobs=True, top_logprobs=3))

        entries = made["choices"][0]["logprobs"]["content"]
        assert "".join(entry["token"] for entry in entries) == "User Safety: unsafe<end_of_turn>"
        for entry in entries:
            assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
            assert bytes(entry["bytes"]).decode() == entry["token"]
            assert len(entry["top_logprobs"]) == 3
            assert entry["top_logprobs"][0]["token"] == entry["token"]
            assert sum(math.exp(top["logprob"]) for top in entry["top_logprobs"]) <= 1.0

    def test_a_label_against_its_own_probability_is_listed_beside_the_likelier_one(self) -> None:
        made = reply(Answer("safe", p_user=0.8), ask(logprobs=True, top_logprobs=1))

        entry = made["choices"][0]["logprobs"]["content"][3]
        assert entry["token"] == " safe"
        assert [top["token"] for top in entry["top_logprobs"]] == [" safe", " unsafe"]

    def test_without_top_logprobs_the_alternatives_are_empty(self) -> None:
        made = reply(Answer("safe"), ask(logprobs=True))

        assert {len(entry["top_logprobs"]) for entry in made["choices"][0]["logprobs"]["content"]} == {0}

    def test_is_cut_at_max_tokens(self) -> None:
        choice = reply(Answer("unsafe"), ask(max_tokens=3))["choices"][0]

        assert choice["message"]["content"] == "User Safety:"
        assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)

    def test_can_have_no_content(self) -> None:
        choice = reply(None, finish_reason="length")["choices"][0]

        assert choice["message"]["content"] is None
        assert choice["finish_reason"] == "length"

    def test_takes_its_id_from_the_request(self) -> None:
        assert reply(Answer("safe"), request_id="abc")["id"] == "chatcmpl-abc"

    def test_streams_role_tokens_finish_usage_and_done(self) -> None:
        chat = parse(ask(stream=True, stream_options={"include_usage": True}))
        events = list(complete(chat, Answer("safe"), fingerprint="f").events())

        assert events[-1] == b"data: [DONE]\n\n"
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["choices"][0]["delta"]["content"] for c in chunks if c["choices"]) == "User Safety: safe"
        assert ["system_fingerprint" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 5


class TestRequest:
    def test_text_and_image_in_either_order(self) -> None:
        picture = png("x", size=(40, 40))
        text = {"type": "text", "text": "hi"}
        for content in ([image_part(picture), text], [text, image_part(picture)]):
            chat = parse(ask(content))
            assert (chat.prompt, chat.images) == ("hi", (picture,))

    def test_system_turns_are_dropped(self) -> None:
        chat = parse({"messages": [{"role": "system", "content": "secret"}, {"role": "user", "content": "hi"}]})

        assert chat.prompt == "hi"

    def test_the_last_assistant_turn_is_the_response(self) -> None:
        turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        chat = parse({"messages": [{"role": role, "content": text} for role, text in turns]})

        assert (chat.prompt, chat.response) == ("a\nb\nc", "d")

    @pytest.mark.parametrize("more", [{"nonsense": 1}, {"messages": [{"role": "banana", "content": "hi"}]}])
    def test_what_vllm_ignores_is_ignored(self, more: dict[str, Any]) -> None:
        assert parse({**ask("hi"), **more}).prompt == "hi"

    @pytest.mark.parametrize("content", ["", []])
    def test_empty_content_is_taken(self, content: Any) -> None:
        assert parse(ask(content)).prompt == ""

    def test_no_categories_is_the_default(self) -> None:
        assert not parse(ask()).categories
        assert not parse(ask(chat_template_kwargs={"request_categories": "/no_categories"})).categories
        assert parse(ask(chat_template_kwargs={"request_categories": "/categories"})).categories

    @pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "GIF"])
    def test_the_declared_type_of_an_image_does_not_matter(self, fmt: str) -> None:
        picture = png("x", size=(40, 40), fmt=fmt)

        assert parse(ask([{"type": "image_url", "image_url": {"url": data_uri(picture, "image/jpg")}}])).images == (
            picture,
        )

    def test_each_image_adds_to_the_prompt_tokens(self) -> None:
        text = parse(ask("hi")).prompt_tokens
        both = parse(ask([image_part(png("x", size=(40, 40))), {"type": "text", "text": "hi"}])).prompt_tokens

        assert both - text == 260


def envelope(status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (
                ask(model="gpt-4"),
                envelope(
                    404,
                    "The model `gpt-4` does not exist. Valid aliases: nemotron_moderator.",
                    "NotFoundError",
                    "model",
                ),
            ),
            (
                {"model": "nemotron_moderator"},
                envelope(
                    400,
                    "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
                    "'input': '<dict of 1 items>'}",
                    "Bad Request",
                    "body.messages",
                ),
            ),
            (
                {"messages": []},
                envelope(400, "Cannot apply chat template to an empty conversation. Provide at least one message."),
            ),
            (
                ask("steal " * 6000),
                envelope(
                    400,
                    "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 "
                    "input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
                    "of the input prompt. (parameter=input_tokens, value=4097)",
                    param="input_tokens",
                ),
            ),
            (
                ask("x" * 1_200_105),
                envelope(
                    400,
                    "This model's maximum context length is 4096 tokens. However, your prompt contains 1200105 "
                    "characters (more than 151552 characters, which is the upper bound for 4096 input tokens). Please "
                    "reduce the length of the input prompt. (parameter=input_text, value=1200105)",
                    param="input_text",
                ),
            ),
            (
                ask([image_part(b"no picture")]),
                envelope(400, "Failed to load image: cannot identify image file <_io.BytesIO object>"),
            ),
            (
                ask([image_part(png("x" * 60)[:-600])]),
                envelope(400, "Failed to load image: image file is truncated"),
            ),
            (
                ask([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}]),
                envelope(400, "Non-base64 digit found"),
            ),
            (
                ask([{"type": "image_url", "image_url": {"url": "data:image/png,abc"}}]),
                envelope(501, "Only base64 data URLs are supported for now.", "NotImplementedError"),
            ),
            (
                ask([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
                envelope(500, "Cannot load local files without `--allowed-local-media-path`.", "InternalServerError"),
            ),
            (
                ask([{"type": "image_url", "image_url": {"url": "screenshot.png"}}]),
                envelope(400, "The URL must be either a HTTP, data or file URL."),
            ),
            (
                ask([image_part(png("x", size=(40, 40)))] * 2),
                envelope(
                    400,
                    "At most 1 image(s) may be provided in one prompt. (parameter=image)",
                    param="image",
                ),
            ),
            (
                ask(logprobs=True, top_logprobs=21),
                envelope(
                    400,
                    "Requested sample logprobs of 21, which is greater than max allowed: 20 "
                    "(parameter=logprobs, value=21)",
                    param="logprobs",
                ),
            ),
            (
                ask(top_logprobs=5),
                envelope(
                    400,
                    "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)",
                    param="top_logprobs",
                ),
            ),
            (
                ask(max_tokens=0),
                envelope(
                    400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", param="max_tokens"
                ),
            ),
            (
                ask(temperature=-1),
                envelope(
                    400,
                    "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
                    param="temperature",
                ),
            ),
            (
                ask(chat_template="x"),
                envelope(
                    400,
                    "Chat template is passed with request, but --trust-request-chat-template is not set. Refused "
                    "request with untrusted chat template.",
                ),
            ),
        ],
        ids=lambda value: value["error"]["message"][:40] if isinstance(value, dict) and "error" in value else "",
    )
    def test_word_for_word(self, body: Any, expected: Any) -> None:
        failure = refusal(body)

        assert failure.body == expected
        assert failure.status == expected["error"]["code"]

    @pytest.mark.parametrize(
        ("more", "kind"),
        [
            ({"temperature": "hot"}, "float_parsing"),
            ({"max_tokens": "x"}, "int_parsing"),
            ({"max_tokens": 2.5}, "int_from_float"),
            ({"chat_template_kwargs": "x"}, "dict_type"),
        ],
    )
    def test_values_of_another_type(self, more: dict[str, Any], kind: str) -> None:
        failure = refusal(ask(**more))

        assert failure.status == 400
        assert failure.body["error"]["type"] == "Bad Request"
        assert failure.body["error"]["param"] == f"body.{next(iter(more))}"
        assert f"'type': '{kind}'" in failure.body["error"]["message"]

    @pytest.mark.parametrize(("given", "limit"), [("5", 5), (True, 1), (2.0, 2), (None, None)])
    def test_numbers_are_read_as_pydantic_reads_them(self, given: Any, limit: int | None) -> None:
        assert parse(ask(max_tokens=given)).max_tokens == limit

    def test_top_logprobs_as_text(self) -> None:
        expected = "`top_logprobs` must be an integer. (parameter=top_logprobs, value=5)"

        assert refusal(ask(logprobs=True, top_logprobs="5")).body == envelope(400, expected, param="top_logprobs")

    @pytest.mark.parametrize(
        "messages",
        [
            "x",
            ["x"],
            [{"content": "x"}],
            [{"role": "user", "content": 5}],
            [{"role": "user"}],
            [{"role": "user", "content": ["x"]}],
        ],
    )
    def test_messages_that_are_none(self, messages: Any) -> None:
        assert refusal({"messages": messages}).status == 400

    def test_no_json(self) -> None:
        failure = refusal(b"{broken")

        assert failure.status == 400
        assert failure.body["error"]["type"] == "Bad Request"
        assert "JSON decode error" in failure.body["error"]["message"]

    def test_a_bomb_of_an_image_is_a_500(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errors, "MAX_IMAGE_PIXELS", 100)
        failure = refusal(ask([image_part(png("x", size=(40, 40)))]))

        assert failure.status == 500
        assert failure.closes
        assert "decompression bomb" in failure.body["error"]["message"]

    def test_a_url_is_never_fetched(self) -> None:
        failure = refusal(ask([{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]))

        assert failure.status == 422
        assert failure.body["error"]["message"].startswith("Failed to fetch media from URL")

    @pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "right"}])
    def test_without_the_key_the_error_is_a_string(self, header: dict[str, str]) -> None:
        info = ServerInfo(api_key="right")

        with pytest.raises(WireError) as caught:
            authorise(info, "/v1/models", header)
        assert (caught.value.status, caught.value.body) == (401, {"error": "Unauthorized"})

    def test_the_key_opens_and_health_needs_none(self) -> None:
        info = ServerInfo(api_key="right")

        authorise(info, "/v1/models", {"authorization": "Bearer right"})
        authorise(info, "/health", {})

    def test_unknown_paths_and_methods(self) -> None:
        with pytest.raises(WireError) as missing:
            route(ServerInfo(), Counters(), "GET", "/v1/moderations")
        with pytest.raises(WireError) as method:
            route(ServerInfo(), Counters(), "POST", "/v1/models")

        assert (missing.value.status, missing.value.body) == (404, {"detail": "Not Found"})
        assert (method.value.status, method.value.body, method.value.headers) == (
            405,
            {"detail": "Method Not Allowed"},
            {"allow": "GET"},
        )


def test_models_say_their_length_and_root() -> None:
    kind, body = route(ServerInfo(max_model_len=8192, root="somewhere"), Counters(), "GET", "/v1/models")

    card = json.loads(body)["data"][0]
    assert kind == "application/json"
    assert (card["id"], card["root"], card["max_model_len"]) == ("nemotron_moderator", "somewhere", 8192)


def test_metrics_are_prometheus_lines() -> None:
    counters = Counters(running=2)
    counters.finish("stop")
    _, body = route(ServerInfo(), counters, "GET", "/metrics")

    lines = body.decode().splitlines()
    assert 'vllm:num_requests_running{model_name="nemotron_moderator"} 2.0' in lines
    assert 'vllm:num_requests_waiting{model_name="nemotron_moderator"} 0.0' in lines
    assert 'vllm:request_success_total{finished_reason="stop",model_name="nemotron_moderator"} 1.0' in lines


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("the quick brown fox jumps over the lazy dog", 9, 12), ("12345", 5, 5), ("如何制造炸弹", 4, 6), ("", 0, 0)],
)
def test_tokens_are_counted_about_right(text: str, low: int, high: int) -> None:
    assert low <= count_tokens(text) <= high
