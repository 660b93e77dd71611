"""Clients that were not written for Turnguard: OpenAI's own, and what LiteLLM sends."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import openai
import pytest
from PIL import Image

from tests.service.conftest import CHECK, KEYS, served, settings
from turnguard import Guard
from turnguard.core.taxonomy import CATEGORIES
from turnguard.service.moderations import OPENAI
from turnguard.testing import FakeVLLM

GuardOf = Callable[..., Guard]


def _picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), "red").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_the_openai_client_gets_categories_and_scores(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("kill", user="unsafe", categories=["Violence", "Threat"], p=0.97)
    with served(guard_of(), settings()) as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEYS[CHECK], max_retries=0)
        both = client.moderations.create(input=["I will kill you", "Nice weather"])
        parts = client.moderations.create(
            model="omni-moderation-latest",
            input=[  # type: ignore[arg-type]
                {"type": "text", "text": "I will kill you"},
                {"type": "image_url", "image_url": {"url": _picture()}},
            ],
        )
        client.close()
    bad, good = both.results
    assert bad.flagged
    assert bad.categories.violence
    assert bad.categories.harassment_threatening
    assert not bad.categories.sexual
    assert bad.category_scores.violence == pytest.approx(0.97, abs=0.01)
    assert bad.category_scores.sexual == 0.0
    assert bad.category_applied_input_types.violence == ["text"]
    assert bad.model_extra is not None
    assert bad.model_extra["turnguard"]["action"] == "block"
    assert bad.categories.model_extra is not None
    assert bad.categories.model_extra["Threat"] is True
    assert not good.flagged
    assert not any(good.categories.model_dump().values())
    assert len(parts.results) == 1
    assert parts.results[0].flagged
    assert parts.results[0].category_applied_input_types.violence == ["text", "image"]


def test_every_category_of_ours_that_openai_has_is_mapped() -> None:
    mapped = {ours for names in OPENAI.values() for ours in names}
    assert mapped <= set(CATEGORIES)
    assert set(OPENAI) == {
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    }


def test_a_failed_moderator_is_flagged(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.reply(raw="no verdict at all")
    with served(guard_of()) as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        result = client.moderations.create(input="Hello").results[0]
        client.close()
    assert result.flagged
    assert result.model_extra is not None
    assert result.model_extra["turnguard"]["failed"] is True


@pytest.mark.parametrize("wrong", [[], [""], "", [1, 2], [{"type": "audio"}]])
def test_an_input_with_nothing_to_judge_is_refused(guard_of: GuardOf, wrong: Any) -> None:
    with served(guard_of()) as service, service.client() as client:
        assert client.post("/v1/moderations", json={"input": wrong}).status_code == 422


def _litellm(**fields: Any) -> dict[str, Any]:
    """A body as LiteLLM 1.108 sends it."""
    return {
        "input_type": "request",
        "litellm_call_id": "call-1",
        "litellm_trace_id": "trace-1",
        "texts": [],
        "images": None,
        "tools": None,
        "tool_calls": None,
        "structured_messages": None,
        "request_data": {"user_api_key_team_id": "team", "user_api_key_end_user_id": "someone"},
        "request_headers": {"host": "gateway"},
        "litellm_version": "1.108.7",
        "additional_provider_specific_params": {},
        "model": "gpt-4o",
        **fields,
    }


LITELLM = "/beta/litellm_basic_guardrail_api"


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"texts": ["Nice weather"]}, "NONE"),
        ({"texts": ["Nice weather", "I will kill you"]}, "BLOCKED"),
        ({"texts": []}, "NONE"),
        ({"texts": ["sure"], "structured_messages": [{"role": "user", "name": "kill", "content": "sure"}]}, "BLOCKED"),
        ({"texts": ["Nice"], "images": [_picture()]}, "NONE"),
        ({"texts": ["kill"], "images": [_picture().partition(",")[2]]}, "BLOCKED"),
        ({"input_type": "response", "texts": ["I will kill you"]}, "BLOCKED"),
        ({"input_type": "response", "texts": ["Hello"]}, "NONE"),
        (
            {
                "input_type": "response",
                "texts": [],
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "sh", "arguments": '{"c":"kill"}'}}
                ],
            },
            "BLOCKED",
        ),
    ],
)
def test_what_litellm_sends_is_judged_whole(
    guard_of: GuardOf, vllm: FakeVLLM, fields: dict[str, Any], action: str
) -> None:
    vllm.when("kill", user="unsafe", response="unsafe", categories=["Violence"], p=0.97, p_response=0.97)
    with served(guard_of()) as service, service.client() as client:
        answer = client.post(LITELLM, json=_litellm(**fields))
    assert answer.status_code == 200
    assert answer.json()["action"] == action, answer.text
    if action == "BLOCKED":
        assert answer.json()["blocked_reason"]


def test_a_response_is_judged_with_the_request_that_it_answers(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("kill", user="unsafe", response="safe", categories=["Violence"], p=0.97, p_response=0.01)
    asked = [{"role": "user", "content": "How do I kill?"}]
    body = _litellm(input_type="response", texts=["I can't help with that."], structured_messages=asked)
    with served(guard_of()) as service, service.client() as client:
        answer = client.post(LITELLM, json=body)
    assert answer.json()["action"] == "NONE"  # a safe refusal of an unsafe request
    assert any(each.chat and each.chat.response for each in vllm.chats)


@pytest.mark.parametrize("structured", [True, False])
def test_a_rewrite_comes_back_in_the_texts(guard_of: GuardOf, vllm: FakeVLLM, structured: bool) -> None:
    vllm.when("4111", user="unsafe", categories=["PII/Privacy"], p=0.97)
    text = "My card is 4111-1111-1111-1111 and I like bread"
    messages = [{"role": "user", "content": "Hello"}, {"role": "user", "content": text}] if structured else None
    body = _litellm(texts=["Hello", text], structured_messages=messages)
    policy = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}
    with served(guard_of(policy)) as service, service.client() as client:
        answer = client.post(LITELLM, json=body).json()
    assert answer["action"] == "GUARDRAIL_INTERVENED"
    assert answer["texts"][0] == "Hello"
    assert "4111" not in answer["texts"][1]
    assert answer["texts"][1]


def test_a_rewrite_that_texts_cannot_carry_is_a_block(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("4111", response="unsafe", user="unsafe", categories=["PII/Privacy"], p=0.97, p_response=0.97)
    calls = [{"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": '{"card": "4111 bread"}'}}]
    policy = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}
    with served(guard_of(policy)) as service, service.client() as client:
        answer = client.post(LITELLM, json=_litellm(input_type="response", texts=["Paying"], tool_calls=calls)).json()
    assert answer["action"] == "BLOCKED"
