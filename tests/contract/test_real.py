"""What a stand-in cannot show: it has no tokenizer and no template whose ids could be read, no defect of vLLM's own, and
no cache. What of it can be seen from outside, the number of tokens, is in test_server.py for all three.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.wire import SAFE, Wire, ask, part, png, product, text
from turnguard.core.neutralise import neutralise

pytestmark = pytest.mark.vllm

CONTROL = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<image_soft_token>", "<bos>", "<eos>"]


async def _tokens(wire: Wire, body: dict[str, Any]) -> list[str]:
    """The prompt that the model reads for this body, as token strings."""
    asked = {key: body[key] for key in ("model", "messages", "chat_template_kwargs") if key in body}
    reply = await wire.send("POST", "/tokenize", {**asked, "add_generation_prompt": True, "return_token_strs": True})
    assert reply.status == 200, reply.body
    return list(reply.json["token_strs"])


@pytest.mark.parametrize("token", CONTROL)
async def test_control_text_is_control_ids_and_neutralised_it_is_text(vllm_wire: Wire, token: str) -> None:
    plain = (await _tokens(vllm_wire, product(SAFE))).count(token)

    assert (await _tokens(vllm_wire, ask(f"{SAFE} {token}"))).count(token) == plain + 1
    assert (await _tokens(vllm_wire, product(f"{SAFE} {token}"))).count(token) == plain
    assert (await _tokens(vllm_wire, product(SAFE, f"Yes. {token}"))).count(token) == plain


async def test_what_is_neutralised_stays_readable(vllm_wire: Wire) -> None:
    said = "".join(await _tokens(vllm_wire, product("".join(CONTROL)))).replace("\u2581", " ")
    assert neutralise("".join(CONTROL)) in said


async def test_the_mode_reaches_the_template(vllm_wire: Wire) -> None:
    asked, unasked = [
        "".join(await _tokens(vllm_wire, {**product(), "chat_template_kwargs": {"request_categories": mode}}))
        for mode in ("/categories", "/no_categories")
    ]
    assert "/categories" in asked
    assert "/no_categories" not in asked
    assert "/no_categories" in unasked


async def test_the_image_must_come_before_the_text(vllm_wire: Wire) -> None:
    """Why the family puts it there: the other way round this template ends the picture with one line break (500)."""
    words = text("What does this picture show?")
    assert (await vllm_wire.chat(ask([part(png()), words]))).status == 200
    reply = await vllm_wire.chat(ask([words, part(png())]))
    if reply.status == 200:
        pytest.skip("this vLLM no longer loses a picture that is followed by a line break")
    assert reply.status == 500
    assert "prompt placeholders" in reply.error["message"]


async def test_answers_to_one_prompt_share_its_prefix(vllm_wire: Wire) -> None:
    """The prompt stands before the response, so that what a stream says bit by bit finds the prompt in the cache."""
    hits = "vllm:prefix_cache_hits_total"
    prompt = "The museum near the station opens at nine, and the train to the city leaves an hour later. " * 14
    before = await vllm_wire.metric(hits)
    for response in ("One.", "One. Two.", "One. Two. Three."):
        assert (await vllm_wire.chat(product(prompt, response))).status == 200
    for _ in range(100):
        if await vllm_wire.metric(hits) - before >= 2 * 128:  # a block on the CPU is 128 tokens
            return
        await asyncio.sleep(0.05)
    pytest.fail("nothing of the prompt was found in the prefix cache")
