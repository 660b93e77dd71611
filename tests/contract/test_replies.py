"""The shape of a reply: whole, with logprobs, cut short, and as a stream."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.asked import verdict
from tests.contract.wire import SAFE, UNSAFE, UNSAFE_ANSWER, Reply, Wire, ask, product
from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange

BODY = {
    "id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage", "prompt_logprobs",
    "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics",
}  # fmt: skip
CHOICE = {"index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts"}
MESSAGE = {"role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"}
USAGE = {"prompt_tokens", "total_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"}


async def test_a_whole_reply(wire: Wire) -> None:
    reply = await wire.chat(product())

    body, choice = reply.json, reply.choice
    assert reply.headers["content-type"] == "application/json"
    assert (body.keys(), choice.keys()) == (BODY, CHOICE)
    assert (choice["message"].keys(), body["usage"].keys()) == (MESSAGE, USAGE)
    assert body["object"] == "chat.completion"
    assert body["model"] == "nemotron_moderator"
    assert isinstance(body["system_fingerprint"], str)
    assert (choice["finish_reason"], type(choice["stop_reason"])) == ("stop", int)
    assert body["usage"]["completion_tokens"] == 5
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 5


async def test_the_request_id_is_taken_over(wire: Wire) -> None:
    reply = await wire.chat(product(), **{"X-Request-Id": "abc-123"})
    assert reply.json["id"] == "chatcmpl-abc-123"


async def test_the_same_request_has_the_same_answer(wire: Wire) -> None:
    first, second = [(await wire.chat(product(UNSAFE))).said for _ in range(2)]
    assert first == second


class TestLogprobs:
    async def test_one_entry_for_each_token(self, wire: Wire) -> None:
        choice = (await wire.chat(product(SAFE, UNSAFE_ANSWER))).choice

        entries = choice["logprobs"]["content"]
        assert "".join(entry["token"] for entry in entries) == choice["message"]["content"] + "<end_of_turn>"
        for entry in entries:
            assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
            assert bytes(entry["bytes"]).decode() == entry["token"]
            assert len(entry["top_logprobs"]) == 5
            assert entry["top_logprobs"][0] == {key: entry[key] for key in ("token", "logprob", "bytes")}
            logprobs = [top["logprob"] for top in entry["top_logprobs"]]
            assert logprobs == sorted(logprobs, reverse=True)
            assert sum(map(math.exp, logprobs)) <= 1.0 + 1e-6

    async def test_a_label_is_one_token_and_both_are_listed(self, wire: Wire) -> None:
        entries = (await wire.chat(product(SAFE, UNSAFE_ANSWER))).choice["logprobs"]["content"]

        labels = [entry for entry in entries if entry["token"] in {" safe", " unsafe"}]
        assert [label["token"] for label in labels] == [" safe", " unsafe"]
        for label in labels:
            assert {" safe", " unsafe"} <= {top["token"] for top in label["top_logprobs"]}

    async def test_none_unless_asked_for(self, wire: Wire) -> None:
        assert (await wire.chat(ask())).choice["logprobs"] is None
        without = (await wire.chat(ask(logprobs=True))).choice["logprobs"]["content"]
        assert {len(entry["top_logprobs"]) for entry in without} == {0}


class TestCut:
    @pytest.mark.parametrize(("most", "said"), [(1, "User"), (3, "User Safety:"), (4, "User Safety: unsafe")])
    async def test_at_max_tokens(self, wire: Wire, most: int, said: str) -> None:
        """Four tokens hold the whole label and are no verdict all the same: what else was to come is not known."""
        reply = await wire.chat(product(UNSAFE, max_tokens=most))

        assert (reply.said, reply.choice["finish_reason"]) == (said, "length")
        assert reply.choice["stop_reason"] is None
        assert reply.json["usage"]["completion_tokens"] == most
        with pytest.raises(Unparseable, match="finish_reason length"):
            verdict(reply.json, Exchange(UNSAFE))

    async def test_by_the_newer_name_too(self, wire: Wire) -> None:
        body = ask(UNSAFE, max_completion_tokens=2)
        assert (await wire.chat(body)).said == "User Safety"


def _events(reply: Reply) -> list[Any]:
    """The JSON of each event; the last must be the end mark."""
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, end, nothing = reply.body.decode().split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


class TestStream:
    async def test_role_content_finish(self, wire: Wire) -> None:
        chunks = _events(await wire.chat(product(UNSAFE, stream=True)))

        head = {"id", "object", "created", "model", "choices"}
        assert chunks[0].keys() == head | {"prompt_token_ids", "prompt_text"}
        assert {frozenset(chunk) for chunk in chunks[1:-1]} == {frozenset(head)}
        assert chunks[-1].keys() == head | {"system_fingerprint"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        first, *others = [chunk["choices"][0] for chunk in chunks]
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert first.keys() == {"index", "delta", "logprobs", "finish_reason"}
        assert [choice["finish_reason"] for choice in others] == [None] * (len(others) - 1) + ["stop"]
        assert {frozenset(choice) for choice in others[:-1]} == {frozenset(first) | {"token_ids"}}
        assert others[-1].keys() == {*first, "token_ids", "stop_reason"}

    async def test_says_what_the_whole_reply_says(self, wire: Wire) -> None:
        """How many tokens stand in one chunk is the server's own affair: under load it joins them."""
        whole = (await wire.chat(product(UNSAFE))).choice
        choices = [chunk["choices"][0] for chunk in _events(await wire.chat(product(UNSAFE, stream=True)))]

        assert "".join(choice["delta"].get("content") or "" for choice in choices) == whole["message"]["content"]
        entries = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        assert [entry["token"] for entry in entries] == [entry["token"] for entry in whole["logprobs"]["content"]]

    async def test_the_usage_comes_last_when_asked_for(self, wire: Wire) -> None:
        chunks = _events(await wire.chat(ask(stream=True, stream_options={"include_usage": True})))

        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"].keys() == {"prompt_tokens", "total_tokens", "completion_tokens"}
        assert chunks[-1]["usage"]["completion_tokens"] == 5
        assert ["system_fingerprint" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    async def test_cut_at_max_tokens(self, wire: Wire) -> None:
        last = _events(await wire.chat(ask(UNSAFE, stream=True, max_tokens=2)))[-1]["choices"][0]
        assert (last["finish_reason"], last["stop_reason"]) == ("length", None)

    async def test_an_early_error_is_no_stream(self, wire: Wire) -> None:
        reply = await wire.chat(ask("steal " * 6000, stream=True))
        assert (reply.status, reply.headers["content-type"]) == (400, "application/json")
