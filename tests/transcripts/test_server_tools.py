"""What a provider's own tools give back passes unchanged where it is harmless, and leaves with its call where it is not."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from anthropic.types.beta import BetaMessage

from turnguard import Guard, Policy, Verdict
from turnguard.core.exchange import Exchange
from turnguard.testing import FakeModerator

SEALED = "c2VhbGVkIGJ5IHRoZSBwcm92aWRlcg" * 8

RESULTS: dict[str, dict[str, Any]] = {
    "bash_code_execution": {
        "type": "bash_code_execution_tool_result",
        "content": {
            "type": "bash_code_execution_result",
            "stdout": "SAID",
            "stderr": "",
            "return_code": 0,
            "content": [],
        },
    },
    "text_editor_code_execution": {
        "type": "text_editor_code_execution_tool_result",
        "content": {
            "type": "text_editor_code_execution_view_result",
            "file_type": "text",
            "content": "SAID",
            "num_lines": 1,
            "start_line": 1,
            "total_lines": 1,
        },
    },
    "tool_search_tool_regex": {
        "type": "tool_search_tool_result",
        "content": {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "SAID"}],
        },
    },
    "web_search": {
        "type": "web_search_tool_result",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://example.com/a",
                "title": "SAID",
                "encrypted_content": SEALED,
                "page_age": None,
            }
        ],
    },
}


def transcript(name: str, said: str) -> list[dict[str, Any]]:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return said if value == "SAID" else value

    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": {"query": "the weather"}}
    result = {**put(RESULTS[name]), "tool_use_id": "srvtoolu_1"}
    return [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": [call, result, {"type": "text", "text": "It is sunny."}]},
    ]


def unsafe_where_said() -> FakeModerator:
    def judged(exchange: Exchange) -> Verdict:
        found = "UNSAFE" in exchange.prompt or "UNSAFE" in (exchange.response or "")
        label: Literal["safe", "unsafe"] = "unsafe" if found else "safe"
        response = None if exchange.response is None else label
        return Verdict(user=label, response=response, categories=("Violence",) if found else ())

    return FakeModerator(script=judged)


@pytest.mark.parametrize("name", RESULTS)
async def test_a_harmless_result_passes_as_it_is(name: str) -> None:
    messages = transcript(name, "sunny")
    given, decisions = await Guard(Policy.from_dict({}), unsafe_where_said()).aguard_messages(messages)
    assert given == messages
    assert all(decision.action in ("allow", "flag") for decision in decisions)


@pytest.mark.parametrize("name", RESULTS)
async def test_an_unsafe_result_leaves_nothing_behind_and_no_orphan(name: str) -> None:
    messages = transcript(name, "UNSAFE")
    given, _ = await Guard(Policy.from_dict({}), unsafe_where_said()).aguard_messages(messages)
    assert "UNSAFE" not in repr(given)
    blocks = given[1]["content"] if isinstance(given[1]["content"], list) else []
    calls = {block["id"] for block in blocks if block["type"] == "server_tool_use"}
    assert calls == {block["tool_use_id"] for block in blocks if "tool_use_id" in block}
    whole = {"id": "msg_1", "type": "message", "model": "m", "stop_reason": "end_turn", "stop_sequence": None}
    BetaMessage.model_validate(
        {**whole, "role": "assistant", "content": blocks, "usage": {"input_tokens": 1, "output_tokens": 1}}
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "redacted_thinking", "data": SEALED},
        {"type": "compaction", "content": None, "encrypted_content": SEALED},
    ],
    ids=lambda block: block["type"],
)
async def test_sealed_blocks_of_the_provider_stay(block: dict[str, Any]) -> None:
    answer = {"role": "assistant", "content": [block, {"type": "text", "text": "It is sunny."}]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather?"}, answer]
    given, decisions = await Guard(Policy.from_dict({}), unsafe_where_said()).aguard_messages(messages)
    assert given == messages
    assert "encrypted" in {entry.kind for decision in decisions for entry in decision.coverage.not_judged}
