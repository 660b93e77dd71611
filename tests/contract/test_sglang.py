"""What SGLang does that vLLM does not, and what a guard then does: `config_examples/serving/sglang.sh` says it to users.

Played by the fake, since no SGLang runs on a CPU-only machine: it refuses a conversation that ends on the assistant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.wire import REFUSAL, SAFE
from turnguard import Guard, Step
from turnguard.sandbox.wire import errors
from turnguard.testing import FakeVLLM, faults

PROMPT_SIDE = (Step.input(SAFE), Step.retrieval([SAFE], prompt=SAFE), Step.tool_result("search", SAFE, prompt=SAFE))
RESPONSE_SIDE = (Step.output(REFUSAL, prompt=SAFE), Step.tool_call("search", {"q": SAFE}, prompt=SAFE))


@pytest.fixture
def sglang() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        refusal = errors.error(400, "the conversation must end on a user message")
        fake.fail(faults.error(refusal), when=lambda chat: chat.response is not None)
        yield fake


def settings(server: FakeVLLM, **moderator: Any) -> dict[str, Any]:
    return {"moderator": {"base_url": server.base_url, **moderator}, "policy": {}}


async def test_answers_and_tool_calls_are_withheld_as_failures_and_the_rest_is_judged(sglang: FakeVLLM) -> None:
    async with Guard.from_dict(settings(sglang)) as guard:
        assert [(await guard.acheck(step)).action for step in PROMPT_SIDE] == ["allow"] * 3
        for step in RESPONSE_SIDE:
            decision = await guard.acheck(step)
            assert (decision.action, decision.failed, decision.verdict.failure) == ("block", True, "rejected")
            assert decision.content == ()
    assert len(sglang.chats) == 1 + len(RESPONSE_SIDE), "one prompt once, and what is refused is not asked again"


async def test_a_vllm_as_fallback_judges_them(sglang: FakeVLLM) -> None:
    with FakeVLLM() as vllm:
        async with Guard.from_dict(settings(sglang, fallback={"base_url": vllm.base_url})) as guard:
            for step in (*PROMPT_SIDE, *RESPONSE_SIDE):
                decision = await guard.acheck(step)
                assert (decision.action, decision.failed) == ("allow", False)
        assert len(vllm.chats) == len(RESPONSE_SIDE)
