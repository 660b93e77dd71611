"""The guard's door: what is no step or no transcript is refused with a sentence, and nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from turnguard import Guard, Policy, Step
from turnguard.core.errors import Rejected
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.replies import failure
from turnguard.testing import FakeModerator


def guard(policy: dict[str, Any] | None = None, **moderator: Any) -> Guard:
    return Guard(Policy.from_dict(policy or {}), FakeModerator(**moderator))


# ---------------------------------------------------------------- what is no step


@pytest.mark.parametrize("step", ["hello", None, {"role": "user", "content": "hi"}, b"hi"])
async def test_what_is_no_step_is_a_type_error_that_names_the_constructor(step: Any) -> None:
    async with guard() as guarded:
        for check in (guarded.acheck, guarded.acheck_parts):
            with pytest.raises(TypeError, match=r"a guard checks a Step, not \w+: use Step\.input"):
                await check(step)
        with pytest.raises(TypeError, match=r"use Step\.input"):
            await guarded.abeside(step, lambda: asyncio.sleep(0))
        with pytest.raises(TypeError, match=r"use Step\.input"):
            await asyncio.to_thread(guarded.check, step)


@pytest.mark.parametrize("messages", ["hi", b"hi", {"role": "user", "content": "hi"}])
async def test_what_is_no_list_of_messages_is_a_type_error(messages: Any) -> None:
    async with guard() as guarded:
        for check in (guarded.acheck_messages, guarded.aguard_messages):
            with pytest.raises(TypeError, match="a transcript is a list of messages, not"):
                await check(messages)


# ---------------------------------------------------------------- languages and metadata


@pytest.mark.parametrize("language", ["de", "pt-BR", "zh_Hant", "zh-Hant-TW", "fil"])
def test_a_language_is_a_tag(language: str) -> None:
    assert Step.input("hi", language=language).language == language


@pytest.mark.parametrize("language", ["", "german!", "de ", "d", "x" * 100, "de-", "a\nb"])
def test_a_language_that_is_no_tag_is_a_value_error(language: str) -> None:
    with pytest.raises(ValueError, match="language must be a language tag such as 'de'"):
        Step.input("hi", language=language)


@pytest.mark.parametrize("language", [123, b"de", ["de"], True])
def test_a_language_that_is_no_text_is_a_type_error(language: Any) -> None:
    with pytest.raises(TypeError, match="language must be a language tag such as 'de', not"):
        Step.output("hi", language=language)


MADE: dict[str, Callable[..., Step]] = {
    "input": lambda **more: Step.input("hi", **more),
    "retrieval": lambda **more: Step.retrieval(["hi"], **more),
    "tool_call": lambda **more: Step.tool_call("f", {}, **more),
    "tool_result": lambda **more: Step.tool_result("f", "hi", **more),
    "output": lambda **more: Step.output("hi", **more),
    "tools": lambda **more: Step.tools([{"name": "f"}], **more),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
async def test_each_constructor_takes_metadata_and_no_moderator_sees_it(make: Callable[..., Step]) -> None:
    given = {"user": "u-SECRET", "thread": "t-SECRET", "request": "r-SECRET", "tenant": "acme-SECRET"}
    step = make(metadata=given)
    assert step.metadata == given
    given["user"] = "changed"
    assert step.metadata["user"] == "u-SECRET"
    assert make().metadata == {}
    assert step == make()  # whom it belongs to changes nothing of what is judged
    assert "SECRET" not in repr(step)
    moderator = FakeModerator()
    async with Guard(moderator=moderator) as guarded:
        decision = await guarded.acheck(step)
    assert "SECRET" not in repr([(exchange.prompt, exchange.response) for exchange in moderator.asked])
    assert "SECRET" not in str(decision.to_dict())


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"user": 7}, TypeError),
        ({"user": None}, TypeError),
        ("user", TypeError),
        (["user"], TypeError),
        ({"user": "x" * 201}, ValueError),
        ({"user": "a\nb"}, ValueError),
        ({"user": "a\x1b[2J"}, ValueError),
        ({"": "x"}, ValueError),
        ({"who is it?": "x"}, ValueError),
        ({7: "x"}, ValueError),
        ({f"key{number}": "x" for number in range(17)}, ValueError),
    ],
)
def test_metadata_are_a_few_short_strings(metadata: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="metadata"):
        Step.input("hi", metadata=metadata)


# ---------------------------------------------------------------- the check beside a call


async def test_a_call_that_raises_at_once_leaves_no_check_running() -> None:
    moderator = FakeModerator(delay=30.0)

    def call() -> Any:
        raise RuntimeError("planted")

    async with Guard(moderator=moderator) as guarded:
        before = asyncio.all_tasks()
        with pytest.raises(RuntimeError, match="planted"):
            await guarded.abeside(Step.input("hello"), call)
        assert asyncio.all_tasks() == before


async def test_a_call_that_gives_nothing_to_await_leaves_no_check_running() -> None:
    async with Guard(moderator=FakeModerator(delay=30.0)) as guarded:
        before = asyncio.all_tasks()
        with pytest.raises(TypeError):
            await guarded.abeside(Step.input("hello"), lambda: "an answer")  # type: ignore[arg-type,return-value]
        assert asyncio.all_tasks() == before


# ---------------------------------------------------------------- content that does not fit


def refused(exchange: Exchange) -> Verdict | Exception | None:
    return Rejected("HTTP 400: longer than the server's context", too_long=True) if "LONG" in exchange.prompt else None


@pytest.mark.parametrize("on_failure", ["block", "flag", "allow"])
async def test_a_refusal_for_length_is_uncheckable_and_never_a_failure(on_failure: str) -> None:
    async with guard({"on_failure": on_failure}, script=refused) as guarded:
        decision = await guarded.acheck(Step.input("LONG"))
        assert (decision.action, decision.failed, decision.content) == ("block", False, ())
        assert decision.reasons[0].rule == "policy.on_uncheckable"
        assert decision.reasons[0].cause == "longer than the model's context"
        result = await guarded.acheck(Step.tool_result("read", "LONG"))
        assert (result.action, result.failed) == ("block", False)
    async with guard({"on_uncheckable": {"text": "flag"}}, script=refused) as guarded:
        assert (await guarded.acheck(Step.input("LONG"))).action == "flag"


async def test_a_part_that_fits_is_judged_beside_one_that_does_not() -> None:
    policy = {"on_uncheckable": {"text": "flag"}}

    def script(exchange: Exchange) -> Verdict | Exception | None:
        return refused(exchange) or (Verdict("unsafe") if "UNSAFE" in exchange.prompt else Verdict("safe"))

    async with guard(policy, script=script) as guarded:
        decision = await guarded.acheck(Step.retrieval(["LONG", "UNSAFE"]))
        assert decision.action == "block"
        assert [part.action for part in await guarded.acheck_parts(Step.retrieval(["LONG", "UNSAFE", "fine"]))] == [
            "flag", "block", "allow",
        ]  # fmt: skip


VLLM = (
    "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, which "
    "exceeds this limit even without any output tokens. Please reduce the length of the input"
)


@pytest.mark.parametrize(
    ("status", "message", "too_long"),
    [
        (400, VLLM, True),
        (413, "Payload too large", True),
        (400, "At most 1 image(s) may be provided", False),
        (400, "unknown field", False),
        (401, VLLM, False),
        (404, VLLM, False),
        (422, "bad", False),
    ],
)
def test_only_refusals_for_length_are_told_apart(status: int, message: str, too_long: bool) -> None:
    error = failure(status, b'{"error": {"message": "%s"}}' % message.encode(), None, "m")
    assert isinstance(error, Rejected)
    assert error.too_long is too_long
