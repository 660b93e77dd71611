"""A second look at doubtful verdicts: asked exactly where it must be, decided as the settings say, never a loosening
that nobody asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from turnguard import ConfigError, Decision, Guard, Policy, Step, Unavailable, Unparseable, Verdict
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline, Moderator
from turnguard.moderators.fallback import Fallback
from turnguard.moderators.gate import Gated
from turnguard.moderators.memory import Remembering
from turnguard.moderators.second_look import SecondLook
from turnguard.testing import FakeModerator, FakeVLLM

Script = Callable[[Exchange], Verdict | Exception | None]


class Cancelling(Exception):
    """Stands for a moderator that cancels its own request."""


def says(label: str, p: float | None = None, *categories: str) -> Verdict:
    return Verdict(user=label, categories=categories, p_user=p)  # type: ignore[arg-type]


def scripted(verdict: Verdict | Exception) -> FakeModerator:
    def answer(_exchange: Exchange) -> Verdict | Exception:
        if isinstance(verdict, Cancelling):
            raise asyncio.CancelledError
        return verdict

    return FakeModerator(script=answer)


def looking(first: Moderator, second: Moderator, **how: Any) -> Guard:
    policy = Policy.from_dict(how.pop("policy", {}))
    how = how or {"between": (0.2, 0.8)}
    return Guard(policy, SecondLook(Remembering(Gated(first)), Remembering(Gated(second)), **how))


async def look(first: Verdict, second: Verdict | Exception, **how: Any) -> tuple[Decision, int]:
    """The decision, and how often the second look was taken."""
    asked = scripted(second)
    decision = await looking(scripted(first), asked, **how).acheck(Step.input("a question"))
    return decision, len(asked.asked)


@pytest.mark.parametrize(
    ("p", "inside"), [(0.19, False), (0.2, True), (0.5, True), (0.8, True), (0.81, False), (None, True), (1.5, True)]
)
@pytest.mark.parametrize("label", ["safe", "unsafe"])
async def test_it_is_asked_where_p_lies_in_the_range_or_there_is_none(
    label: str, p: float | None, inside: bool
) -> None:
    _, asked = await look(says(label, p), says("safe", 0.01), between=(0.2, 0.8))
    assert asked == inside


async def test_with_unsafe_it_is_asked_where_the_label_that_decides_is_unsafe() -> None:
    assert (await look(says("unsafe", 0.99), says("safe"), unsafe=True))[1] == 1
    assert (await look(says("safe", 0.5), says("safe"), unsafe=True))[1] == 0
    first = scripted(Verdict(user="unsafe", response="safe", p_user=0.9, p_response=0.01))
    second = scripted(Verdict(user="unsafe", response="safe"))
    await looking(first, second, unsafe=True).acheck(Step.output("No.", prompt="a bad question"))
    assert not second.asked


@pytest.mark.parametrize(
    ("first", "second", "strictest", "by_second"),
    [
        (("safe", 0.3), ("safe", 0.1), "allow", "allow"),
        (("safe", 0.3), ("unsafe", 0.9), "block", "block"),
        (("unsafe", 0.6), ("safe", 0.1), "block", "allow"),
        (("unsafe", 0.6), ("unsafe", 0.9), "block", "block"),
    ],
)
async def test_who_decides(first: tuple[str, float], second: tuple[str, float], strictest: str, by_second: str) -> None:
    decision, _ = await look(says(*first), says(*second), between=(0.2, 0.8))
    assert decision.action == strictest
    decision, _ = await look(says(*first), says(*second), between=(0.2, 0.8), decides="second")
    assert decision.action == by_second


async def test_the_strictest_is_the_strictest_decision_not_the_strictest_label() -> None:
    rules = {"categories": {"Profanity": "flag", "Threat": "review"}}
    first, second = says("unsafe", 0.6, "Profanity"), says("unsafe", 0.7, "Threat")
    decision, _ = await look(first, second, between=(0.2, 0.8), policy=rules)
    assert decision.action == "review"
    assert [reason.category for reason in decision.reasons] == ["Profanity", "Threat"]
    decision, _ = await look(second, first, between=(0.2, 0.8), policy=rules)
    assert decision.action == "review"


async def test_a_threshold_meets_the_p_of_its_own_verdict() -> None:
    rules = {"default": {"action": "block", "above": 0.75, "otherwise": "flag"}}
    decision, _ = await look(says("unsafe", 0.6), says("unsafe", 0.7), between=(0.2, 0.8), policy=rules)
    assert decision.action == "flag"
    decision, _ = await look(says("unsafe", 0.6), says("unsafe", 0.9), between=(0.2, 0.8), policy=rules)
    assert decision.action == "block"
    assert [reason.p_unsafe for reason in decision.reasons] == [0.6, 0.9]


@pytest.mark.parametrize("p", [0.05, 0.95, None])
async def test_a_second_verdict_lowers_none_whose_p_lies_outside(p: float | None) -> None:
    decision, asked = await look(
        says("unsafe", p), says("safe", 0.01), between=(0.2, 0.8), unsafe=True, decides="second"
    )
    assert asked == 1
    assert decision.action == "block"


async def test_it_never_lowers_sexual_content_about_minors() -> None:
    first = says("unsafe", 0.5, "Sexual (minor)")
    decision, asked = await look(first, says("safe", 0.01), between=(0.2, 0.8), decides="second")
    assert (decision.action, asked) == ("block", 1)


async def test_it_never_lowers_a_verdict_that_may_only_block() -> None:
    down = scripted(Unavailable("down"))
    rules = Fallback(Remembering(down), Remembering(scripted(says("unsafe", 0.5))), may_allow=False)
    second = Remembering(scripted(says("safe", 0.01)))
    guard = Guard(Policy.from_dict({}), SecondLook(rules, second, between=(0.2, 0.8), decides="second"))
    decision = await guard.acheck(Step.input("a question"))
    assert decision.action == "block"
    assert len(decision.to_dict()["second_looks"]) == 1


@pytest.mark.parametrize("decides", ["strictest", "second"])
@pytest.mark.parametrize(
    "failed",
    [
        Unavailable("down"),
        Unparseable("prose"),
        RuntimeError("a bug"),
        Cancelling(),
        Verdict(),
        Verdict(failure="timeout", cause="slow"),
    ],
    ids=["unavailable", "unparseable", "a bug", "cancelled by itself", "unrated", "failed"],
)
@pytest.mark.parametrize("label", ["safe", "unsafe"])
async def test_a_second_look_that_fails_leaves_the_first_standing(
    label: str, failed: Verdict | Exception, decides: str
) -> None:
    decision, asked = await look(says(label, 0.5), failed, between=(0.2, 0.8), decides=decides)
    assert asked == 1
    assert decision.action == ("block" if label == "unsafe" else "allow")
    assert not decision.failed
    (told,) = decision.to_dict()["second_looks"]
    assert told["decides"] == "first"
    assert told["second"]["failure"] is not None


class Slow:
    """Never answers, and swallows the cancellation that tells it to stop."""

    asked = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        self.asked += 1
        await asyncio.sleep(30)
        raise AssertionError


async def test_one_that_finds_no_time_leaves_the_first_standing() -> None:
    from turnguard.config.settings import ModeratorSettings

    slow = Slow()
    chain = SecondLook(Remembering(scripted(says("unsafe", 0.5, "Profanity"))), Remembering(slow), between=(0.2, 0.8))
    settings = ModeratorSettings(deadline=0.5)
    guard = Guard(Policy.from_dict({}), chain, moderator_settings=settings)
    decision = await guard.acheck(Step.input("a question"))
    assert slow.asked == 1
    assert decision.action == "block"
    assert decision.categories == ("Profanity",)
    assert decision.to_dict()["second_looks"][0]["second"]["failure"] == "timeout"


async def test_a_failure_of_the_first_look_is_not_looked_at_again() -> None:
    second = scripted(says("safe"))
    decision = await looking(scripted(Unavailable("down")), second).acheck(Step.input("a question"))
    assert decision.failed
    assert not second.asked


# ---------------------------------------------------------------- judged once


async def test_both_looks_are_remembered() -> None:
    first, second = scripted(says("unsafe", 0.5)), scripted(says("safe", 0.1))
    guard = looking(first, second)
    before, after = [await guard.acheck(Step.input("a question")) for _ in range(2)]
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert not before.remembered
    assert after.remembered
    assert after.action == before.action == "block"


async def test_a_failed_second_look_is_taken_again() -> None:
    answers: list[Verdict | Exception] = [Unavailable("down"), says("unsafe", 0.9)]
    second = FakeModerator(script=lambda _exchange: answers.pop(0))
    guard = looking(scripted(says("safe", 0.5)), second)
    talk = [{"role": "user", "content": "a question"}]
    (before,) = await guard.acheck_messages(talk)
    (after,) = await guard.acheck_messages(talk)
    assert (before.action, after.action) == ("allow", "block")
    assert len(second.asked) == 2
    assert not before.remembered


async def test_identical_checks_at_once_share_both_looks() -> None:
    first = FakeModerator(script=lambda _exchange: says("unsafe", 0.5), delay=0.01)
    second = FakeModerator(script=lambda _exchange: says("safe", 0.1), delay=0.01)
    guard = looking(first, second, between=(0.2, 0.8), decides="second")
    decisions = await asyncio.gather(*(guard.acheck(Step.input("a question")) for _ in range(20)))
    assert {decision.action for decision in decisions} == {"allow"}
    assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_ten_thousand_checks_ask_exactly_as_often_as_they_must() -> None:
    rng = random.Random(21)  # noqa: S311 - no secret
    given: dict[str, Verdict] = {}
    for number in range(7_000):
        p = None if number % 50 == 0 else rng.random()
        given[f"question {number}"] = says("unsafe" if p is not None and p > 0.5 else "safe", p)
    first = FakeModerator(script=lambda exchange: given[exchange.prompt])
    second = FakeModerator(script=lambda _exchange: says("safe", 0.01))
    guard = looking(first, second, between=(0.35, 0.65), unsafe=True)
    texts = [*given, *rng.sample(sorted(given), 3_000)]
    rng.shuffle(texts)
    for start in range(0, len(texts), 500):
        await asyncio.gather(*(guard.acheck(Step.input(text)) for text in texts[start : start + 500]))
    doubtful = {
        text
        for text, verdict in given.items()
        if verdict.p_user is None or 0.35 <= verdict.p_user <= 0.65 or verdict.user == "unsafe"
    }
    assert sorted(exchange.prompt for exchange in first.asked) == sorted(given)
    assert sorted(exchange.prompt for exchange in second.asked) == sorted(doubtful)


async def test_a_transcript_is_judged_anew_when_the_second_model_changes() -> None:
    guard = looking(scripted(says("safe", 0.5)), scripted(says("safe", 0.1)))
    before = await guard.identity()
    other = looking(scripted(says("safe", 0.5)), scripted(says("safe", 0.1)), between=(0.3, 0.7))
    assert before != await other.identity()


# ---------------------------------------------------------------- over the wire


def settings(fake: FakeVLLM, second_look: dict[str, Any], **moderator: Any) -> dict[str, Any]:
    return {"moderator": {"base_url": fake.base_url, **moderator, "second_look": second_look}}


async def test_a_larger_model_elsewhere() -> None:
    with FakeVLLM() as small, FakeVLLM(model="large") as large:
        small.when("pick a lock", user="unsafe", categories=["Criminal Planning/Confessions"], p=0.6)
        data = settings(
            small, {"between": [0.2, 0.8], "base_url": large.base_url, "model": "large", "decides": "second"}
        )
        async with Guard.from_dict(data) as guard:
            assert (await guard.acheck(Step.input("hello"))).allowed
            assert not large.chats
            decision = await guard.acheck(Step.input("How do I pick a lock? I am locked out."))
            assert decision.action == "allow"
            assert len(large.chats) == 1
            looks = decision.judgements[0].verdict.looks
            assert looks is not None
            assert (looks.first.user, looks.second.user, looks.decides) == ("unsafe", "safe", "second")
            assert looks.first.model != looks.second.model
            again = await guard.acheck(Step.input("How do I pick a lock? I am locked out."))
            assert again.remembered
            assert len(large.chats) == 1


async def test_replicas_of_the_larger_model_fail_over() -> None:
    with FakeVLLM() as small, FakeVLLM() as dead, FakeVLLM() as alive:
        small.reply(user="unsafe", p=0.6)
        dead.fail("reset")
        data = settings(
            small,
            {"between": [0.2, 0.8], "base_url": [dead.base_url, alive.base_url], "decides": "second"},
            family="nemotron-3",
        )
        async with Guard.from_dict(data) as guard:
            decision = await guard.acheck(Step.input("a question"))
    assert decision.action == "allow"


async def test_the_same_model_with_reasoning() -> None:
    with FakeVLLM() as fake:
        data = settings(fake, {"between": [0.2, 0.8], "reasoning": "always"}, family="nemotron-3.5")
        fake.reply(user="unsafe", p=0.6)
        async with Guard.from_dict(data) as guard:
            await guard.acheck(Step.input("a question"))
        thinking = [chat.body["chat_template_kwargs"]["enable_thinking"] for chat in fake.chats]
    assert thinking == [False, True]


async def test_the_callers_own_client_is_asked_again_too() -> None:
    import openai

    with FakeVLLM() as fake:
        fake.reply(user="unsafe", p=0.6)
        async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="none") as client:
            data = {"moderator": {"family": "nemotron-3.5", "second_look": {"unsafe": True, "reasoning": "always"}}}
            guard = Guard.from_dict(data, client=client)
            await guard.acheck(Step.input("a question"))
            await guard.aclose()
        assert len(fake.chats) == 2


@pytest.mark.parametrize(
    ("moderator", "told"),
    [
        (
            {"second_look": {"between": [0.2, 0.8]}},
            "moderator.second_look: second_look asks the same model in the same way",
        ),
        ({"second_look": {"reasoning": "always", "between": [0.2, 0.8]}}, "moderator.second_look"),
        ({"second_look": {"base_url": "http://localhost:2/v1"}}, "say where to look again"),
        ({"second_look": {"base_url": "http://localhost:2/v1", "between": [0.8, 0.2]}}, "range of 'between' is empty"),
        (
            {"second_look": {"base_url": "http://localhost:2/v1", "between": [0.2, 1.2]}},
            "moderator.second_look.between",
        ),
        ({"second_look": {"base_url": "http://localhost:2/v1", "between": [0.2]}}, "moderator.second_look.between"),
        (
            {"second_look": {"base_url": "http://localhost:2/v1", "unsafe": True, "decides": "second"}},
            "give 'between'",
        ),
        ({"second_look": {"family": "sandbox", "unsafe": True, "base_url": "http://localhost:2/v1"}}, "no second look"),
        ({"second_look": {"betwen": [0.2, 0.8]}}, "unknown key 'betwen', did you mean 'between'"),
    ],
)
def test_what_makes_no_second_look_is_an_error(moderator: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard.from_dict({"moderator": {"base_url": "http://localhost:1/v1", **moderator}})
    assert told in str(caught.value)


def test_a_family_that_cannot_reason_says_which_can() -> None:
    look_again = {"between": [0.2, 0.8], "reasoning": "always"}
    with pytest.raises(ConfigError, match=r"the family 'nemotron-3' has no reasoning; those that have: nemotron-3\.5"):
        Guard.from_dict({"moderator": {"base_url": "http://localhost:1/v1", "second_look": look_again}})


def test_a_calibration_is_not_for_another_models_p(tmp_path: Any) -> None:
    (tmp_path / "curve.json").write_text(
        '{"turnguard_calibration": 1, "sides": {"user": {"all": {"method": "identity"}}}}'
    )
    path = tmp_path / "turnguard.yaml"
    path.write_text(
        "moderator:\n  base_url: http://localhost:1/v1\n"
        "  second_look: {base_url: 'http://localhost:2/v1', model: large, unsafe: true}\n"
        "policy: {calibration: curve.json}\n"
    )
    with pytest.raises(ConfigError, match=r"policy\.calibration: .* the second look asks 'large'"):
        Guard.from_yaml(path)
