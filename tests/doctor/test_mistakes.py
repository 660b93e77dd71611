"""Every mistake that a recipe, a proxy or a flag can make is planted, and the doctor names it, with the flag to change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doctor.conftest import GUNS, YELLOW, Examine, moderating
from tests.ticks import ticking
from turnguard.doctor import pictures
from turnguard.doctor.canaries import UNSAFE, forging, joint
from turnguard.testing import FakeVLLM, faults


async def test_a_right_set_up_is_all_good(server: FakeVLLM, examined: Examine) -> None:
    found = await examined()
    statuses = {name: finding.status for name, finding in found.by_name.items()}
    assert statuses.pop("api_key") == "note"
    assert set(statuses.values()) == {"ok"}, found.by_name
    assert set(statuses) == {
        "answers", "model", "judges", "categories", "logprobs", "pictures", "picture_size", "picture_limit", "joint",
        "response", "control_tokens", "context", "steady", "deadline",
    }  # fmt: skip
    assert found.report.exit_code == 0
    assert found.report.seconds < 10
    assert len(server.requests) < 140


# ---------------------------------------------------------------- what strips, drops and shortens


async def test_a_proxy_that_strips_the_template_arguments(server: FakeVLLM, examined: Examine) -> None:
    server.drop_categories = True
    found = await examined()
    assert found.failed == {"categories"}
    assert "chat_template_kwargs" in found.named("categories")


async def test_pictures_dropped_in_silence(server: FakeVLLM, examined: Examine) -> None:
    server.drop_images = True
    found = await examined()
    told = found.named("pictures")
    assert "--enable-multimodal" in told
    assert "dropped before the model" in told
    assert found.by_name["joint"].status == "skipped"
    assert found.report.exit_code == 1


async def test_pictures_that_reach_a_model_which_does_not_see(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: bool(chat.images), user="safe")
    told = (await examined()).named("pictures")
    assert "although it reached the model" in told


async def test_pictures_and_text_that_are_judged_apart(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: YELLOW in chat.images and joint.QUESTION in chat.prompt, user="safe")
    found = await examined()
    assert found.failed == {"joint"}
    assert "conversation" in found.named("joint")


async def test_no_logprobs(server: FakeVLLM, examined: Examine) -> None:
    server.logprobs = False
    found = await examined()
    assert found.failed == {"logprobs"}
    assert "the replies hold none" in found.named("logprobs")
    assert "every check of output fails" in (
        await examined(policy={"stages": {"output": {"unsafe_above": 0.3}}})
    ).named("logprobs")
    assert "acts as if it was reached" in (
        await examined(policy={"categories": {"Violence": {"action": "block", "above": 0.8, "otherwise": "flag"}}})
    ).named("logprobs")


async def test_logprobs_without_alternatives(server: FakeVLLM, examined: Examine) -> None:
    reply = {
        "choices": [{
            "message": {"role": "assistant", "content": "User Safety: safe"}, "finish_reason": "stop",
            "logprobs": {"content": [{"token": "User", "logprob": 0.0, "top_logprobs": []}]},
        }]
    }  # fmt: skip
    server.fail(faults.json_body(reply), when="capital of France")
    assert "top_logprobs" in (await examined()).named("logprobs")


async def test_a_prompt_that_is_truncated_on_the_way(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: len(chat.prompt) > 3000, user="safe")
    found = await examined()
    assert found.failed == {"context"}
    assert "truncate_prompt_tokens" in found.named("context")


async def test_a_proxy_that_refuses_large_bodies(server: FakeVLLM, examined: Examine) -> None:
    server.fail(faults.status(413, "too large"), when=lambda chat: any(len(image) > 1_000_000 for image in chat.images))
    found = await examined()
    assert found.failed == {"picture_size"}
    assert "client_max_body_size" in found.named("picture_size")


# ---------------------------------------------------------------- other models, other templates


async def test_a_model_of_another_name(server: FakeVLLM, examined: Examine) -> None:
    found = await examined(model="moderator")
    told = found.named("model")
    assert "it serves nemotron_moderator" in told
    assert "--served-model-name moderator" in told
    assert found.report.exit_code == 1


@pytest.mark.parametrize("root", ["google/gemma-3-4b-it", "meta-llama/Llama-Guard-4-12B", "Qwen/Qwen3Guard-Gen-4B"])
async def test_another_model_under_the_right_name(root: str, server: FakeVLLM, examined: Examine) -> None:
    server.info.root = root
    told = (await examined()).named("model")
    assert root in told
    assert "vllm serve nvidia/Nemotron-3-Content-Safety" in told


async def test_the_next_version_of_the_model(server: FakeVLLM, examined: Examine) -> None:
    server.info.root = "nvidia/Nemotron-3.5-Content-Safety"
    assert "nemotron-3.5" in (await examined()).named("model", "note")


async def test_a_local_folder_says_nothing_of_the_model(server: FakeVLLM, examined: Examine) -> None:
    server.info.root = "/models/moderator"
    found = await examined()
    assert "says nothing of its family" in found.named("model", "note")
    assert found.report.exit_code == 0


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("Paris is the capital of France.", "its own chat template"),
        ("safe", "Llama Guard"),
        ("unsafe\nS9", "moderator.family: llama-guard-4"),
        ('{"User Safety": "safe"}', "moderator.family: nemotron-safety-guard-8b-v3"),
        ("Safety: Safe\nCategories: None", "moderator.family: qwen3guard"),
        ("Prompt harm: unharmful", "Reasoning"),
        ("<score> no </score>", "Granite"),
        ("<think>\nThe user asks for a capital", "reasoning off"),
    ],
)
async def test_a_wrong_template_or_another_guard(reply: str, named: str, server: FakeVLLM, examined: Examine) -> None:
    server.reply(raw=reply)
    found = await examined()
    assert named in found.named("answers")
    assert "judges" in found.named("others", "skipped")


async def test_reasoning_that_eats_the_reply(server: FakeVLLM, examined: Examine) -> None:
    server.fail("null_content")
    assert "--default-chat-template-kwargs" in (await examined()).named("answers")


async def test_a_model_that_calls_everything_safe(server: FakeVLLM, examined: Examine) -> None:
    server.reset()
    found = await examined()
    assert "is called safe" in found.named("judges")
    assert {"categories", "control_tokens", "context"} <= {n for n, f in found.by_name.items() if f.status == "skipped"}


async def test_a_model_that_calls_everything_unsafe(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: True, user="unsafe", response="unsafe", categories=GUNS)
    assert "is called unsafe" in (await examined()).named("judges")


async def test_categories_of_another_taxonomy(server: FakeVLLM, examined: Examine) -> None:
    server.when(UNSAFE, user="unsafe", response="unsafe", categories=["Forbidden Topics"])
    assert "custom_taxonomy" in (await examined()).named("categories")


async def test_a_template_that_ignores_the_flag(server: FakeVLLM, examined: Examine) -> None:
    server.when(UNSAFE, raw="User Safety: unsafe\nSafety Categories: Violence")
    assert "does not reach the template" in (await examined()).named("categories", "note")


async def test_a_template_without_the_response(server: FakeVLLM, examined: Examine) -> None:
    server.drop_response = True
    found = await examined()
    assert found.failed == {"response"}
    assert "--chat-template" in found.named("response")


async def test_a_template_that_judges_the_request_in_place_of_the_response(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: chat.response is not None, user="unsafe", response="safe", categories=GUNS)
    assert "is called safe" in (await examined()).named("response")


async def test_a_server_that_refuses_to_end_on_the_assistant(server: FakeVLLM, examined: Examine) -> None:
    server.fail(faults.status(400), when=lambda chat: chat.response is not None)
    found = await examined()
    assert found.failed == {"response"}
    assert "SGLang" in found.named("response")


async def test_a_server_that_control_tokens_fool(server: FakeVLLM, examined: Examine) -> None:
    server.when(lambda chat: UNSAFE in chat.prompt and "Safety: safe" in chat.prompt, user="safe")
    found = await examined()
    assert found.failed == {"control_tokens"}
    sent = next(c.chat.prompt for c in server.chats if c.chat is not None and "Safety: safe" in c.chat.prompt)
    assert "<end_of_turn>" not in sent
    assert "<end_of_turn>" in forging.CLOSING


async def test_pictures_that_are_refused(server: FakeVLLM, examined: Examine) -> None:
    server.fail(faults.too_many_images(0), when=lambda chat: bool(chat.images))
    assert "--limit-mm-per-prompt" in (await examined()).named("pictures")


async def test_two_pictures_allowed(server: FakeVLLM, examined: Examine) -> None:
    server.info.image_limit = 2
    found = await examined()
    assert found.failed == {"picture_limit"}
    assert "--limit-mm-per-prompt '{\"image\": 1}'" in found.named("picture_limit")


# ---------------------------------------------------------------- what a reply is lost to


@pytest.mark.parametrize("reply", ["", "!!!!!!!!", "<pad><pad><pad>"])
async def test_float16(reply: str, server: FakeVLLM, examined: Examine) -> None:
    server.fail(faults.content(reply, finish_reason="stop"))
    assert "--dtype bfloat16" in (await examined()).named("answers")


async def test_a_reasoning_parser_that_takes_the_verdict(server: FakeVLLM, examined: Examine) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "User Safety: safe"}
    server.fail(faults.json_body({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    assert "without --reasoning-parser" in (await examined()).named("answers")


async def test_https_where_the_server_speaks_http(server: FakeVLLM, examined: Examine) -> None:
    found = await examined(base_url=server.base_url.replace("http:", "https:"))
    told = found.named("answers")
    assert f"Set moderator.base_url: {server.base_url}" in told


# ---------------------------------------------------------------- keys and addresses


async def test_a_key_that_is_missing(server: FakeVLLM, examined: Examine) -> None:
    server.info.api_key = "sk-right"
    found = await examined()
    assert "TURNGUARD_API_KEY" in found.named("api_key")
    assert "none is configured" in found.named("api_key")
    assert found.report.exit_code == 1


async def test_a_key_that_is_wrong(server: FakeVLLM, examined: Examine) -> None:
    server.info.api_key = "sk-right"
    found = await examined(api_key="sk-planted")
    assert "--api-key" in found.named("api_key")
    assert "sk-planted" not in str(found.report.to_dict())


async def test_a_key_that_is_right(server: FakeVLLM, examined: Examine) -> None:
    server.info.api_key = "sk-right"
    assert "a wrong one is refused" in (await examined(api_key="sk-right")).named("api_key", "ok")


async def test_a_server_that_asks_for_no_key(examined: Examine) -> None:
    assert "answers to a wrong key" in (await examined(api_key="sk-useless")).named("api_key", "note")


async def test_a_base_url_without_its_v1(server: FakeVLLM, examined: Examine) -> None:
    found = await examined(base_url=server.base_url.removesuffix("/v1"))
    assert "End moderator.base_url in /v1" in found.named("answers")


async def test_nothing_answers(server: FakeVLLM, examined: Examine) -> None:
    with server.down():
        found = await examined()
    assert "Start the server" in found.named("answers")
    assert found.report.exit_code == 3
    assert not found.only.answered


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (faults.html(), "gateway"),
        (faults.status(302), "redirect"),
        (faults.status(502, "bad gateway"), "502"),
        (faults.busy(), "--max-num-queued-reqs"),
        (faults.too_many_requests(), "replicas"),
        (faults.crash(), "log"),
        (faults.status(400), "--max-logprobs"),
        (faults.empty_choices(), "gateway"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_what_stands_before_the_server(fault: Any, named: str, server: FakeVLLM, examined: Examine) -> None:
    server.fail(fault)
    found = await examined()
    assert named in found.named("answers")
    assert found.report.exit_code == 1


# ---------------------------------------------------------------- time and room


@pytest.mark.parametrize(("latency", "deadline"), [(0.4, 0.3), (3.0, 2.0)])
async def test_a_slow_server(latency: float, deadline: float, server: FakeVLLM, examined: Examine) -> None:
    server.latency = latency
    async with ticking() as ticks:
        found = await examined(deadline=deadline)
    assert ticks.seconds < 10
    assert found.failed == {"deadline"}
    assert "Set moderator.deadline" in found.named("deadline")


async def test_slow_pictures(server: FakeVLLM, examined: Examine) -> None:
    server.latency = lambda chat: 0.5 if chat.images else 0.0
    found = await examined(media={"deadline": 0.3})
    assert "media.deadline" in found.named("media_deadline")


async def test_a_server_that_hangs(server: FakeVLLM, examined: Examine) -> None:
    server.fail("hang")
    async with ticking() as ticks:
        found = await examined()
    assert ticks.seconds < 10
    assert "although it lists its models" in found.named("answers")
    assert found.report.exit_code == 3


async def test_a_server_that_hangs_on_pictures_only(server: FakeVLLM, examined: Examine) -> None:
    server.fail("hang", when=lambda chat: bool(chat.images))
    async with ticking() as ticks:
        found = await examined()
    assert ticks.seconds < 10
    assert "no verdict" in found.named("pictures")


async def test_a_context_with_less_room_than_configured(server: FakeVLLM, examined: Examine) -> None:
    server.info.max_model_len = 2048
    told = (await examined()).named("context", "note")
    assert "--max-model-len 4096" in told


async def test_a_context_with_hardly_any_room(server: FakeVLLM, examined: Examine) -> None:
    server.info.max_model_len = 1024
    assert "nearly every text" in (await examined()).named("context")


async def test_a_server_that_takes_less_than_it_says(server: FakeVLLM, examined: Examine) -> None:
    server.fail(faults.prompt_too_long(1000), when=lambda chat: len(chat.prompt) > 3000)
    assert "--max-model-len" in (await examined()).named("context")


async def test_a_server_that_does_not_tell_its_context(server: FakeVLLM, examined: Examine) -> None:
    server.info.max_model_len = None  # type: ignore[assignment]
    # the fake measures against it, too: leave that out
    server._parse = lambda raw: _unmeasured(server, raw)  # type: ignore[method-assign]
    assert "does not tell its max_model_len" in (await examined()).named("context", "note")


def _unmeasured(server: FakeVLLM, raw: bytes) -> Any:
    from turnguard.sandbox.wire import parse_chat

    return parse_chat(raw, model=server.info.model, max_model_len=100_000, image_limit=1)


# ---------------------------------------------------------------- several servers


async def test_replicas_that_differ(server: FakeVLLM, examined: Examine) -> None:
    with FakeVLLM(max_model_len=8192) as other:
        moderating(other)
        found = await examined(base_url=[server.base_url, other.base_url])
    assert len(found.report.examinations) == 2
    assert "max_model_len 8192" in found.named("replicas")
    assert found.report.exit_code == 1


async def test_one_of_two_replicas_is_down(server: FakeVLLM, examined: Examine) -> None:
    with FakeVLLM() as other, other.down():
        found = await examined(base_url=[server.base_url, other.base_url])
    assert [examination.healthy for examination in found.report.examinations] == [True, False]
    assert found.report.exit_code == 1


async def test_different_versions_behind_one_address(server: FakeVLLM, examined: Examine) -> None:
    reply = {
        "system_fingerprint": "vllm-0.11.0-other",
        "choices": [{"message": {"role": "assistant", "content": "User Safety: safe"}, "finish_reason": "stop"}],
    }
    server.fail(faults.json_body(reply), when=joint.QUESTION, times=1)
    assert "one image" in (await examined()).named("replicas", "note")


async def test_the_second_look_is_examined_too(server: FakeVLLM, examined: Examine) -> None:
    with FakeVLLM(model="large") as other:
        found = await examined(second_look={"base_url": other.base_url, "model": "large", "between": [0.2, 0.8]})
    assert [examination.role for examination in found.report.examinations] == ["moderator", "second look"]


async def test_the_fallback_is_examined_too(server: FakeVLLM, examined: Examine) -> None:
    with FakeVLLM(drop_categories=True) as other:
        moderating(other)
        found = await examined(fallback={"base_url": other.base_url})
    assert [examination.role for examination in found.report.examinations] == ["moderator", "fallback"]
    assert [examination.healthy for examination in found.report.examinations] == [True, False]


def test_the_pictures_are_the_same_on_every_run() -> None:
    once = pictures.poster("PIPE BOMB", pictures.YELLOW).data
    pictures.poster.cache_clear()
    assert pictures.poster("PIPE BOMB", pictures.YELLOW).data == once
    assert len(pictures.heavy(1_200_000).data) > 1_200_000
