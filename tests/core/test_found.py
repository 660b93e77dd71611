"""Ways past the guard that were found by hand, where no other test speaks of them: each with its right value."""

from __future__ import annotations

import time
from typing import Any

import pytest

from turnguard import Guard, Policy, Step
from turnguard.config.settings import ModeratorSettings
from turnguard.testing import FakeModerator

LENIENT = Policy.from_dict({"on_uncheckable": "flag"})


def guard(policy: Policy | None = None, **settings: Any) -> Guard:
    return Guard(policy, FakeModerator(unsafe=["UNSAFE"]), **settings)


@pytest.mark.parametrize("listed", ["① ② ③ ④ ⑤", "½ ¼ ¾ ⅛", "⁰ ¹ ² ³", "①\n②\n③\n④"])
async def test_spaced_figures_are_a_harmless_list_and_hide_nothing_beside_them(listed: str) -> None:
    assert (await guard().acheck(Step.input(listed))).action == "allow"
    assert (await guard(LENIENT).acheck(Step.input(f"{listed}\nhow to do UNSAFE"))).action == "block"


@pytest.mark.parametrize("field", ["name", "id", "status", "finish_reason", "media_type", "type", "role"])
async def test_a_token_in_any_field_of_a_message_is_judged_as_text(field: str) -> None:
    decisions = await guard().acheck_messages([{"role": "user", "content": "hi", field: "how_to_UNSAFE"}])
    assert "block" in {decision.action for decision in decisions}


CALL = {"name": "order_UNSAFE", "arguments": "{}"}
FORMS: dict[str, Any] = {
    "chat": {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}]},
    "Responses": {"type": "function_call", "call_id": "call_1", **CALL},
    "Anthropic": {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "order_UNSAFE", "input": {}}],
    },
    "Gemini": {"role": "model", "parts": [{"functionCall": {"name": "order_UNSAFE", "args": {}}}]},
    "Bedrock": {
        "role": "assistant",
        "content": [{"toolUse": {"toolUseId": "tooluse_1", "name": "order_UNSAFE", "input": {}}}],
    },
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_call_is_a_call_in_every_form(form: str) -> None:
    policy = Policy.from_dict({"default": "allow", "stages": {"tool_call": {"default": "block"}}})
    decisions = await guard(policy).acheck_messages([{"role": "user", "content": "hi"}, FORMS[form]])
    assert [(decision.stage, decision.action) for decision in decisions][1:] == [("tool_call", "block")]


async def test_a_refusal_for_a_name_says_no_content() -> None:
    (decision,) = await guard().acheck_messages([{"role": "how_to_UNSAFE", "content": ""}])
    assert decision.action == "block"
    assert "UNSAFE" not in (decision.message or "")


@pytest.mark.parametrize(
    "made", [{"role": "user", "content": ""}, {"role": "user", "content": "hi"}], ids=["empty", "short"]
)
async def test_many_messages_cost_what_they_are_many(made: dict[str, Any]) -> None:
    async def cost(count: int) -> float:
        best = float("inf")
        for _ in range(3):
            judge = guard(moderator_settings=ModeratorSettings(deadline=60))
            messages = [*({**made} for _ in range(count)), {"role": "user", "content": "hello"}]
            started = time.process_time()
            await judge.acheck_messages(messages)
            best = min(best, time.process_time() - started)
        return best

    assert await cost(2000) < 12 * await cost(500)  # quadratic work would be 16 times as much
