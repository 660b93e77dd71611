"""Both clients, one suite: every answer that a server can give becomes a verdict or a named failure, never an allow."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.conftest import MakeGuard
from tests.ticks import ticking

from turnguard import Step
from turnguard.testing import FakeVLLM, Fault, faults

SECRET = "sk-planted-key"
CONTENT = "planted-content-7f3a"


async def test_a_verdict_arrives_with_its_probability_model_and_latency(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.when("bomb", user="unsafe", categories=["Guns and Illegal Weapons"], p=0.97)
    decision = await make_guard().acheck(Step.input("how to make a bomb"))
    verdict = decision.verdict
    assert (decision.action, verdict.user, verdict.response) == ("block", "unsafe", None)
    assert verdict.categories == ("Guns and Illegal Weapons",)
    assert verdict.p_unsafe == pytest.approx(0.97, abs=0.01)
    assert verdict.model == "nemotron_moderator"
    assert verdict.latency is not None
    assert 0 < verdict.latency < decision.latency


async def test_the_request_is_the_documented_one(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    await make_guard(api_key=SECRET).acheck(Step.output("an answer", prompt="a question"))
    request = fake.chats[0]
    assert request.body["chat_template_kwargs"] == {"request_categories": "/categories"}
    assert [message["role"] for message in request.body["messages"]] == ["user", "assistant"]
    assert request.body["temperature"] == 0
    assert "extra_body" not in request.body
    assert request.headers["authorization"] == f"Bearer {SECRET}"


async def test_labels_only(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.reply(user="unsafe", categories=["Violence"])
    decision = await make_guard(categories="never").acheck(Step.input("x"))
    assert fake.chats[0].body["chat_template_kwargs"] == {"request_categories": "/no_categories"}
    assert (decision.action, decision.categories) == ("block", ())
    assert decision.reasons[0].rule == "policy.default"


FAILURES: list[tuple[Fault, str]] = [
    (faults.unauthorized(), "rejected"),
    (faults.unknown_model(), "rejected"),
    (faults.not_found(), "rejected"),
    (faults.bad_image(), "rejected"),
    (faults.too_many_images(), "rejected"),
    (faults.status(400), "rejected"),
    (faults.status(403), "rejected"),
    (faults.status(422, {"detail": [{"msg": CONTENT}]}), "rejected"),
    (faults.status(307), "rejected"),
    (faults.status(500), "unavailable"),
    (faults.status(501), "unavailable"),
    (faults.status(502, "<html>bad gateway</html>"), "unavailable"),
    (faults.busy(), "unavailable"),
    (faults.too_many_requests(), "unavailable"),
    (faults.crash(), "unavailable"),
    (faults.reset(), "unavailable"),
    (faults.reset_during_reply(), "unavailable"),
    (faults.html(), "unparseable"),
    (faults.truncated_json(), "unparseable"),
    (faults.empty_choices(), "unparseable"),
    (faults.null_content(), "unparseable"),
    (faults.content("I think it is safe"), "unparseable"),
    (faults.finish_reason("abort"), "unparseable"),
    (faults.finish_reason("length"), "unparseable"),
    (faults.json_body([1, 2]), "unparseable"),
    (faults.json_body({"error": "Unauthorized"}), "unparseable"),
    (faults.json_body("x" * 3_000_000), "unparseable"),
    (faults.hang(), "timeout"),
    (faults.slow_headers(5.0), "timeout"),
    (faults.slow_body(1.0), "timeout"),
]


@pytest.mark.parametrize(("fault", "failure"), FAILURES, ids=lambda value: getattr(value, "name", value))
async def test_every_fault_is_a_named_failure_within_the_deadline(
    make_guard: MakeGuard, fake: FakeVLLM, fault: Fault, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="turnguard")
    guard = make_guard(deadline=0.6, api_key=SECRET)
    fake.fail(fault)
    async with ticking() as ticks:
        decision = await guard.acheck(Step.input(CONTENT))
    assert ticks.seconds < 0.6 + 0.5  # the machine may be busy; hangs are what this finds
    assert (decision.action, decision.failed) == ("block", True)
    assert decision.verdict.failure == failure
    assert decision.verdict.cause
    assert decision.content == ()
    for said in (repr(decision), str(decision.to_dict()), decision.summary(), caplog.text, str(decision.verdict.cause)):
        assert SECRET not in said
        assert CONTENT not in said


async def test_a_failure_is_not_remembered(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    guard = make_guard()
    fake.fail(faults.content("garbage"), times=1)
    assert (await guard.acheck(Step.input("x"))).failed
    assert (await guard.acheck(Step.input("x"))).action == "allow"


@pytest.mark.parametrize(
    "fault",
    [faults.reset(), faults.crash(), faults.busy(), faults.busy(0.05), faults.too_many_requests(0.05)],
    ids=lambda fault: fault.name,
)
async def test_what_can_succeed_again_is_asked_again(make_guard: MakeGuard, fake: FakeVLLM, fault: Fault) -> None:
    fake.fail(fault, times=1)
    decision = await make_guard().acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("allow", False)
    assert len(fake.chats) == 2


async def test_a_server_error_is_asked_again_once_only(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.fail(faults.status(500))
    assert (await make_guard().acheck(Step.input("x"))).failed
    assert len(fake.chats) == 2


@pytest.mark.parametrize(
    "fault",
    [faults.unauthorized(), faults.unknown_model(), faults.content("x"), faults.status(501)],
    ids=lambda fault: fault.name,
)
async def test_what_cannot_succeed_is_not_asked_again(make_guard: MakeGuard, fake: FakeVLLM, fault: Fault) -> None:
    fake.fail(fault)
    assert (await make_guard().acheck(Step.input("x"))).failed
    assert len(fake.chats) == 1


async def test_a_wait_that_the_deadline_does_not_allow_is_not_begun(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.fail(faults.busy(60.0))
    async with ticking() as ticks:
        decision = await make_guard(deadline=5.0).acheck(Step.input("x"))
        assert decision.verdict.failure == "unavailable"
    assert ticks.seconds < 2.0


async def test_no_server(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    with fake.down():
        decision = await make_guard().acheck(Step.input("x"))
    assert (decision.action, decision.verdict.failure) == ("block", "unavailable")


async def test_an_idle_connection_that_the_server_closed_costs_no_check(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    import asyncio

    fake.keep_alive = 0.05
    guard = make_guard()
    for number in range(5):
        assert (await guard.acheck(Step.input(f"text {number}"))).action == "allow"
        await asyncio.sleep(0.08)


@pytest.mark.parametrize(("cause", "fault"), [
    ("the API key was refused", faults.unauthorized()),
    ("does not serve the model 'nemotron_moderator'", faults.unknown_model()),
    ("is this the base_url of a vLLM server?", faults.html()),
])  # fmt: skip
async def test_causes_are_in_plain_words(make_guard: MakeGuard, fake: FakeVLLM, cause: str, fault: Fault) -> None:
    fake.fail(fault)
    decision = await make_guard().acheck(Step.input("x"))
    assert cause in (decision.verdict.cause or "")
    assert cause in decision.summary()


@pytest.mark.parametrize("fault", [faults.prompt_too_long(), faults.status(413)], ids=lambda fault: fault.name)
async def test_content_that_does_not_fit_is_no_failure(make_guard: MakeGuard, fake: FakeVLLM, fault: Fault) -> None:
    fake.fail(fault)
    guard = make_guard({"on_failure": "allow"})
    decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.failed, decision.verdict.failure) == ("block", False, None)
    assert decision.reasons[0].cause == "longer than the model's context"
    assert decision.reasons[0].cause in decision.summary()
    fake.heal()
    assert (await guard.acheck(Step.input("x"))).action == "allow"


async def test_no_logprobs_is_no_failure_unless_a_rule_needs_them(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.logprobs = False
    plain = await make_guard().acheck(Step.input("x"))
    assert (plain.action, plain.verdict.p_unsafe) == ("allow", None)
    strict = await make_guard({"stages": {"input": {"unsafe_above": 0.2}}}).acheck(Step.input("y"))
    assert (strict.action, strict.failed, strict.reasons[0].cause) == ("block", True, "no_logprobs")


async def test_a_missing_response_label_is_unparseable(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    fake.drop_response = True
    decision = await make_guard().acheck(Step.output("x", prompt="y"))
    assert decision.verdict.failure == "unparseable"


async def test_the_models_endpoint_is_not_needed(make_guard: MakeGuard, fake: FakeVLLM, monkeypatch: Any) -> None:
    fake.info = fake.info.__class__("another-name", *list(_fields(fake.info))[1:])
    decision = await make_guard(model="another-name").acheck(Step.input("x"))
    assert decision.action == "allow"


def _fields(info: Any) -> list[Any]:
    import dataclasses

    return [getattr(info, field.name) for field in dataclasses.fields(info)]


async def test_a_picture_of_some_megabytes_is_sent_whole(make_guard: MakeGuard, fake: FakeVLLM) -> None:
    import io
    import os

    from PIL import Image

    noise = Image.frombytes("RGB", (890, 890), os.urandom(890 * 890 * 3))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    decision = await make_guard(deadline=30).acheck(Step.input("look", images=[buffer.getvalue()]))
    assert (decision.action, decision.failed) == ("allow", False)
    assert max(len(str(request.body)) for request in fake.chats) > 2**20
