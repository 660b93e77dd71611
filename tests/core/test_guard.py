"""The guard through its public API: each stage as it is put to the model, every way of calling, every action."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow
from tests.ticks import ticking

from turnguard import Decision, Guard, Policy, Step, Text, ToolCall, Verdict
from turnguard.config.settings import ChecksSettings, MediaSettings, ModeratorSettings
from turnguard.core.errors import ConfigError, Unavailable
from turnguard.core.exchange import Exchange
from turnguard.core.step import Opaque
from turnguard.testing import FakeModerator
from turnguard.text import language


def guarded(moderator: FakeModerator, policy: dict[str, Any] | None = None, **options: Any) -> Guard:
    return Guard(Policy.from_dict(policy or {}), moderator, **options)


def png(colour: str = "white", size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def moderator() -> FakeModerator:
    return FakeModerator(unsafe={"bomb": ["Guns and Illegal Weapons"], "ssn": ["PII/Privacy"], "damn": ["Profanity"]})


REDACT = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}


# ---------------------------------------------------------------- how each stage is put to the model


async def test_what_people_tools_and_documents_say_stands_on_the_prompt_side(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    await guard.acheck(Step.input("hello"))
    await guard.acheck(Step.tool_result("browse", "a page", prompt="look it up"))
    await guard.acheck(Step.retrieval(["chunk one", "chunk two"], prompt="look it up"))
    asked = [(exchange.prompt, exchange.response) for exchange in moderator.asked]
    assert asked == [("hello", None), ("a page", None), ("chunk one", None), ("chunk two", None)]


async def test_what_the_assistant_says_stands_on_the_response_side_with_its_request(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    await guard.acheck(Step.output("an answer", prompt="a question"))
    await guard.acheck(Step.tool_call("send", {"to": "bo", "text": 'say "hi"\nnow'}, prompt="mail bo"))
    first, second = moderator.asked
    assert (first.prompt, first.response) == ("a question", "an answer")
    assert second.prompt == "mail bo"
    assert second.response is not None
    assert second.response == 'send\nto: bo\ntext: say "hi"\nnow'


@pytest.mark.parametrize("arguments", [
    '{"q": "bomb", "q": "bread"}', '{"q": "bread", "q": "bomb"}', '{"q": "\\u0062omb"}', '{"bomb": 1}', '["a", ["bomb"]]',
    '"bomb"', "bomb {not JSON", '{"a": ' * 3000 + '"bomb"', {"a": {"b": [{"c": "bomb"}]}}, {"a": ("x", "bomb")},
])  # fmt: skip
async def test_whatever_a_tool_could_read_in_its_arguments_is_judged(moderator: FakeModerator, arguments: Any) -> None:
    decision = await guarded(moderator).acheck(Step.tool_call("send", arguments, prompt="mail bo"))
    assert decision.action == "block"


async def test_many_chunks_cost_no_flood_of_requests(moderator: FakeModerator) -> None:
    step = Step.retrieval([f"chunk {number}" for number in range(1000)])
    decision = await guarded(moderator).acheck(step)
    assert len(moderator.asked) <= 32
    assert decision.action == "rewrite"
    assert [part.text for part in decision.content[:32]] == [f"chunk {number}" for number in range(32)]  # type: ignore[union-attr]
    assert len(decision.content) == 33  # and a notice
    assert len([entry for entry in decision.coverage.not_judged if entry.counts]) == 1000 - 32
    strict = await guarded(moderator, {"on_uncheckable": "block"}).acheck(step)
    assert (strict.action, strict.content) == ("block", ())


async def test_a_safe_refusal_of_an_unsafe_request_passes_and_escalates(moderator: FakeModerator) -> None:
    decision = await guarded(moderator).acheck(Step.output("I cannot help.", prompt="how to build a bomb"))
    assert (decision.action, decision.escalates, decision.verdict.user) == ("allow", True, "unsafe")


async def test_several_images_are_asked_about_at_once_with_the_same_text_beside_each() -> None:
    moderator = FakeModerator(delay=0.05)
    guard = guarded(moderator)
    async with ticking() as ticks:
        decision = await guard.acheck(Step.input("look", images=[png("red"), png("blue"), png("green")]))
        assert decision.action == "allow"
        assert [exchange.prompt for exchange in moderator.asked] == ["look"] * 3
        assert len({exchange.picture.digest for exchange in moderator.asked if exchange.picture}) == 3
    assert ticks.seconds < 3 * 0.05 + 0.5
    assert {entry.part for entry in decision.coverage.judged} == {0, 1, 2, 3}


async def test_one_unsafe_image_among_safe_ones_blocks(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    await guard.acheck(Step.input("find the digest", images=[png("red")]))
    red = moderator.asked[-1].picture
    assert red is not None
    moderator.pictures = {red.digest: ["Violence"]}
    decision = await guard.acheck(Step.input("look", images=[png("blue"), png("red"), png("green")]))
    assert (decision.action, decision.categories) == ("block", ("Violence",))


async def test_an_image_that_the_assistant_made_is_judged_on_the_prompt_side(moderator: FakeModerator) -> None:
    await guarded(moderator).acheck(Step.output("here it is", images=[png()], prompt="draw"))
    sides = {(exchange.response, exchange.picture is not None) for exchange in moderator.asked}
    assert sides == {("here it is", False), (None, True)}


async def test_the_newest_image_of_the_request_is_context(moderator: FakeModerator) -> None:
    decision = await guarded(moderator).acheck(
        Step.output("a cat", prompt="what is it?", prompt_images=[png("red"), png("blue")])
    )
    (exchange,) = moderator.asked
    assert exchange.picture is not None
    assert exchange.response == "a cat"
    assert any("context" in entry.detail and not entry.counts for entry in decision.coverage.not_judged)


async def test_a_data_uri_in_text_is_judged_as_an_image(moderator: FakeModerator) -> None:
    import base64

    uri = "data:image/png;base64," + base64.b64encode(png("red")).decode()
    decision = await guarded(moderator).acheck(Step.tool_result("shot", f'{{"screenshot": "{uri}"}}'))
    (exchange,) = moderator.asked
    assert exchange.picture is not None
    assert "base64" not in exchange.prompt
    assert decision.text.count(uri) == 1  # what is passed on stays the original


# ---------------------------------------------------------------- long text


async def test_every_window_of_a_long_text_is_judged_once(moderator: FakeModerator) -> None:
    words = [f"word{number}" for number in range(6000)]
    guard = guarded(moderator)
    decision = await guard.acheck(Step.input(" ".join(words)))
    assert decision.action == "allow"
    assert len(moderator.asked) > 3
    seen = " ".join(exchange.prompt for exchange in moderator.asked)
    assert all(word in seen for word in words)
    details = [entry.detail for entry in decision.coverage.judged]
    assert f"window 1 of {len(moderator.asked)}" in details


@pytest.mark.parametrize("place", [0, 500, 2500, 5999])
async def test_the_unsafe_word_is_found_wherever_it_stands(moderator: FakeModerator, place: int) -> None:
    words = [f"word{number}" for number in range(6000)]
    words[place] = "bomb"
    assert (await guarded(moderator).acheck(Step.input(" ".join(words)))).action == "block"


async def test_ten_megabytes_are_uncheckable_at_once_and_cost_no_request(moderator: FakeModerator) -> None:
    started = time.process_time()
    decision = await guarded(moderator).acheck(Step.input("bomb " * 2_000_000))
    assert time.process_time() - started < 2.0
    assert moderator.asked == []
    assert (decision.action, decision.failed) == ("block", False)
    assert decision.coverage.not_judged[0].kind == "text"
    flagged = await guarded(moderator, {"on_uncheckable": {"text": "flag"}}).acheck(Step.input("x" * 10_000_000))
    assert flagged.action == "flag"


async def test_a_long_request_never_crowds_out_the_response(moderator: FakeModerator) -> None:
    prompt = "head " + "filler " * 20_000 + "tail"
    await guarded(moderator).acheck(Step.output("the answer", prompt=prompt))
    (exchange,) = moderator.asked
    assert exchange.response == "the answer"
    assert exchange.prompt.startswith("head")
    assert exchange.prompt.endswith("tail")
    assert len(exchange.prompt) < 4000


async def test_every_image_stands_beside_the_first_window_never_beside_all(moderator: FakeModerator) -> None:
    text = " ".join(f"word{number}" for number in range(3000))
    await guarded(moderator).acheck(Step.input(text, images=[png("red"), png("blue")]))
    with_image = [exchange for exchange in moderator.asked if exchange.picture]
    assert len(with_image) == 2
    assert {exchange.prompt for exchange in with_image} == {with_image[0].prompt}
    assert with_image[0].prompt.startswith("word0 ")
    without = [exchange.prompt for exchange in moderator.asked if not exchange.picture]
    assert with_image[0].prompt not in without
    assert len(without) == len(set(without))


async def test_earlier_turns_are_judged_together_with_the_newest() -> None:
    moderator = FakeModerator(
        script=lambda exchange: Verdict(
            "unsafe" if "part one" in exchange.prompt and "part two" in exchange.prompt else "safe"
        )
    )
    guard = guarded(moderator)
    assert (await guard.acheck(Step.input("part two"))).action == "allow"
    assert (await guard.acheck(Step.input("part two", history=["part one"]))).action == "block"


# ---------------------------------------------------------------- every way of calling


def test_sync_without_an_event_loop(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    assert guard.check(Step.input("bomb")).action == "block"
    assert guard.check_messages([{"role": "user", "content": "bomb"}])[0].action == "block"
    guard.close()
    guard.close()


async def test_sync_inside_a_running_event_loop(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    assert guard.check(Step.input("bomb")).action == "block"
    assert (await guard.acheck(Step.input("bomb"))).remembered
    await guard.aclose()


def test_one_guard_from_many_threads_and_loops() -> None:
    moderator = FakeModerator(unsafe=["bomb"], delay=0.01)
    guard = guarded(moderator)
    found: list[Decision] = []

    def sync_calls(name: int) -> None:
        found.extend(guard.check(Step.input(f"bomb {name} {number}")) for number in range(5))

    def own_loop(name: int) -> None:
        async def calls() -> list[Decision]:
            return list(await asyncio.gather(*(guard.acheck(Step.input(f"fine {name} {n}")) for n in range(5))))

        found.extend(asyncio.run(calls()))

    threads = [threading.Thread(target=target, args=(n,)) for n in range(4) for target in (sync_calls, own_loop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    guard.close()
    assert sorted(decision.action for decision in found) == ["allow"] * 20 + ["block"] * 20


async def test_as_a_context_manager_and_closed_twice(moderator: FakeModerator) -> None:
    async with guarded(moderator) as guard:
        assert (await guard.acheck(Step.input("hello"))).allowed
    await guard.aclose()


async def test_cancelling_a_check_cancels_its_requests_and_is_no_allow() -> None:
    moderator = FakeModerator(delay=10.0)
    guard = guarded(moderator)
    task = asyncio.ensure_future(guard.acheck(Step.input("x", images=[png("red"), png("blue")])))
    while len(moderator.asked) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert moderator.cancelled == 2
    assert [other for other in asyncio.all_tasks() if other is not asyncio.current_task()] == []


async def test_a_slow_moderator_is_a_timeout_and_its_safe_siblings_keep_their_verdicts() -> None:
    def script(exchange: Exchange) -> Verdict | Exception | None:
        return None

    moderator = FakeModerator(delay=5.0, script=script)
    guard = guarded(moderator, {"on_failure": "flag"}, moderator_settings=ModeratorSettings(deadline=0.2))
    async with ticking() as ticks:
        decision = await guard.acheck(Step.input("x"))
    assert ticks.seconds < 1.0
    assert (decision.action, decision.failed, decision.verdict.failure) == ("flag", True, "timeout")


async def test_whatever_a_moderator_raises_is_no_verdict(
    moderator: FakeModerator, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_exchange: Exchange) -> Verdict:
        raise KeyError("planted-secret")

    moderator.script = broken
    decision = await guarded(moderator).acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("block", True)
    assert "KeyError" in (decision.verdict.cause or "")
    assert "planted-secret" not in caplog.text + repr(decision) + str(decision.to_dict())


@pytest.mark.parametrize("answer", [None, True, "safe", {"user": "safe"}])
async def test_an_answer_that_is_no_verdict_is_a_failure(moderator: FakeModerator, answer: Any) -> None:
    class Wrong:
        async def judge(self, exchange: Exchange, deadline: Any) -> Any:
            return answer

    decision = await Guard(Policy.from_dict({}), Wrong()).acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("block", True)


def test_a_guard_needs_a_moderator() -> None:
    with pytest.raises(ConfigError, match="from_yaml"):
        Guard(Policy.from_dict({}))


# ---------------------------------------------------------------- judged once


async def test_the_same_step_costs_one_request(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    first = await guard.acheck(Step.input("hello", images=[png()]))
    again = await guard.acheck(Step.input("hello", images=[png()]))
    assert (first.remembered, again.remembered, len(moderator.asked)) == (False, True, 1)
    other_text = await guard.acheck(Step.input("hello!", images=[png()]))
    other_image = await guard.acheck(Step.input("hello", images=[png("red")]))
    assert not other_text.remembered
    assert not other_image.remembered


async def test_identical_checks_at_once_cost_one_request() -> None:
    moderator = FakeModerator(delay=0.05)
    guard = guarded(moderator)
    decisions = await asyncio.gather(*(guard.acheck(Step.input("hello")) for _ in range(64)))
    assert {decision.action for decision in decisions} == {"allow"}
    assert len(moderator.asked) == 1


async def test_a_cancelled_check_takes_its_request_with_it_and_not_its_twins() -> None:
    moderator = FakeModerator(delay=0.2)
    guard = guarded(moderator)
    checks = [asyncio.ensure_future(guard.acheck(Step.input("hello"))) for _ in range(3)]
    await asyncio.sleep(0.05)
    checks[0].cancel()
    assert [(await check).action for check in checks[1:]] == ["allow", "allow"]
    assert (len(moderator.asked), moderator.cancelled) == (2, 1)  # one of the two asked in its place
    checks = [asyncio.ensure_future(guard.acheck(Step.input("again"))) for _ in range(2)]
    await asyncio.sleep(0.05)
    checks[1].cancel()
    assert (await checks[0]).action == "allow"
    assert (len(moderator.asked), moderator.cancelled) == (3, 1)


async def test_the_prompt_and_the_response_are_not_confused_in_memory() -> None:
    moderator = FakeModerator(unsafe=["b"])
    guard = guarded(moderator)
    await guard.acheck(Step.output("b", prompt="a"))
    await guard.acheck(Step.output("", prompt="ab", images=[png()]))
    decision = await guard.acheck(Step.output("a", prompt="b"))
    assert decision.action == "allow"
    assert not decision.remembered


# ---------------------------------------------------------------- actions


async def test_a_block_passes_on_nothing_and_speaks_the_persons_language(moderator: FakeModerator) -> None:
    decision = await guarded(moderator).acheck(Step.input("Wie baut man eine bomb für die Schule?", language="de"))
    assert (decision.action, decision.content, decision.held) == ("block", (), ())
    assert decision.language == "de"
    assert decision.message is not None
    assert "ich" in decision.message.lower()
    assert decision.reasons[0].category == "Guns and Illegal Weapons"


async def test_the_language_is_guessed_from_the_persons_own_text(moderator: FakeModerator) -> None:
    question = "¿Cómo puedo construir una cosa peligrosa en mi casa sin que nadie se entere?"
    decision = await guarded(moderator).acheck(
        Step.output("First take the bomb and the other things.", prompt=question)
    )
    assert decision.language == "es"
    no_request = await guarded(moderator).acheck(Step.tool_result("t", "una bomb peligrosa para mi casa nueva"))
    assert no_request.language == "en"


async def test_review_withholds_and_keeps_the_original_for_the_reviewer(moderator: FakeModerator) -> None:
    decision = await guarded(moderator, {"default": "review"}).acheck(Step.input("a bomb"))
    assert (decision.action, decision.content) == ("review", ())
    assert decision.held == (Text("a bomb"),)
    assert "held" not in decision.to_dict()


async def test_flag_passes_everything_on(moderator: FakeModerator) -> None:
    decision = await guarded(moderator, {"default": "flag"}).acheck(Step.input("a bomb"))
    assert (decision.action, decision.text, decision.message) == ("flag", "a bomb", None)


async def test_replace_puts_the_notice_in_place_of_the_text_and_keeps_safe_images(moderator: FakeModerator) -> None:
    guard = guarded(moderator, {"default": "rewrite"})
    decision = await guard.acheck(Step.input("a bomb", images=[png("blue")]))
    assert decision.action == "rewrite"
    text, image = decision.parts
    assert isinstance(text, Text)
    assert "bomb" not in text.text
    assert text.text in guard.own_words
    assert image is not None
    assert decision.message is None


async def test_drop_takes_the_offending_part_only(moderator: FakeModerator) -> None:
    policy = {"default": {"action": "rewrite", "with": "drop"}}
    guard = guarded(moderator, policy)
    await guard.acheck(Step.input("find the digest", images=[png("red")]))
    red = moderator.asked[-1].picture
    assert red is not None
    moderator.pictures = {red.digest: ["Violence"]}
    decision = await guard.acheck(Step.input("look here", images=[png("blue"), png("red")]))
    assert decision.action == "rewrite"
    assert decision.parts[0] == Text("look here")
    assert decision.parts[1] is not None
    assert decision.parts[2] is None


async def test_one_chunk_of_several_is_dropped(moderator: FakeModerator) -> None:
    guard = guarded(moderator, {"stages": {"retrieval": {"default": {"action": "rewrite", "with": "drop"}}}})
    decision = await guard.acheck(Step.retrieval(["good", "a bomb", "fine"], prompt="q"))
    assert decision.parts == (Text("good"), None, Text("fine"))


async def test_redact_masks_the_unsafe_sentences_and_judges_the_result(moderator: FakeModerator) -> None:
    decision = await guarded(moderator, REDACT).acheck(Step.input("I am Bo. My ssn is 1-2-3. I like tea. Bye."))
    assert decision.action == "rewrite"
    assert decision.text == "I am Bo. [redacted] I like tea. Bye."
    assert "ssn" not in moderator.asked[-1].prompt


async def test_redact_reaches_into_a_calls_arguments(moderator: FakeModerator) -> None:
    arguments = {"to": ["a@b.c", "my ssn is 1"], "body": {"text": "Hi. My ssn is 2. Bye."}, "urgent": True, "n": 3}
    decision = await guarded(moderator, REDACT).acheck(Step.tool_call("mail", arguments, prompt="mail", id="c1"))
    assert decision.action == "rewrite"
    (call,) = decision.content
    assert isinstance(call, ToolCall)
    assert (call.name, call.id) == ("mail", "c1")
    assert call.arguments == {
        "to": ["a@b.c", "[redacted]"],
        "body": {"text": "Hi. [redacted] Bye."},
        "urgent": True,
        "n": 3,
    }


async def test_redact_leaves_a_safe_part_beside_an_unsafe_one(moderator: FakeModerator) -> None:
    step = Step("input", (Text("I like tea."), Text("My ssn is 1. Bye.")))
    decision = await guarded(moderator, REDACT).acheck(step)
    assert decision.parts == (Text("I like tea."), Text("[redacted] Bye."))


async def test_redact_blocks_where_only_the_whole_is_unsafe() -> None:
    moderator = FakeModerator(
        script=lambda exchange: Verdict(
            "unsafe" if "one" in exchange.prompt and "two" in exchange.prompt else "safe", categories=("PII/Privacy",)
        )
    )
    decision = await guarded(moderator, REDACT).acheck(Step.input("one. " + "filler. " * 20 + "two."))
    assert (decision.action, decision.content) == ("block", ())


async def test_redact_gives_up_after_its_budget() -> None:
    moderator = FakeModerator(unsafe={"ssn": ["PII/Privacy"]})
    decision = await guarded(moderator, REDACT).acheck(Step.input("safe. my ssn. " * 200))
    assert decision.action == "block"
    assert len(moderator.asked) < 80


async def test_a_rewrite_that_is_still_unsafe_blocks(moderator: FakeModerator) -> None:
    policy = {"default": "block", "categories": {"Profanity": {"action": "rewrite", "with": "redact"}}}
    moderator.unsafe = {"damn": ["Profanity"], "[redacted]": ["Malware"]}
    decision = await guarded(moderator, policy).acheck(Step.input("one. damn. two."))
    assert decision.action == "block"
    assert decision.message is not None


async def test_a_failure_while_rewriting_blocks(moderator: FakeModerator) -> None:
    asked = 0

    def script(_exchange: Exchange) -> Verdict | Exception | None:
        nonlocal asked
        asked += 1
        return None if asked == 1 else Unavailable("planted")

    moderator.script = script
    decision = await guarded(moderator, REDACT).acheck(Step.input("one. my ssn. two."))
    assert (decision.action, decision.content) == ("block", ())


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(("language", "expected"), [("de", "dort"), ("fr", "there"), ("en", "there")])
async def test_a_category_message_comes_before_the_default(
    moderator: FakeModerator, language: str, expected: str
) -> None:
    messages = {"default": {"en": "no", "de": "nein"}, "guns and illegal weapons": {"en": "there", "de": "dort"}}
    decision = await guarded(moderator, {"messages": messages}).acheck(Step.input("bomb", language=language))
    assert decision.message == expected


async def test_a_failure_says_that_it_could_not_be_checked(moderator: FakeModerator) -> None:
    moderator.fail(Unavailable("planted"))
    guard = guarded(moderator, {"messages": {"default": {"en": "no"}}})
    failed = await guard.acheck(Step.input("hello"))
    assert failed.message != "no"
    uncheckable = await guard.acheck(Step("input", (Opaque("audio", "audio is not judged"),)))
    assert uncheckable.message not in ("no", failed.message)


async def test_our_own_words_are_not_judged_again(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    refusal = (await guard.acheck(Step.input("bomb"))).message
    assert refusal is not None
    asked = len(moderator.asked)
    decision = await guard.acheck(Step.output(refusal, prompt="hello"))
    assert (decision.action, len(moderator.asked)) == ("allow", asked)
    assert not decision.coverage.not_judged[0].counts
    more = await guard.acheck(Step.output(refusal + " bomb", prompt="hello"))
    assert more.action == "block"


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("make", [
    lambda: Step.input(""), lambda: Step.input("  \n"), lambda: Step.output("", prompt="x"), lambda: Step.retrieval([]),
    lambda: Step.retrieval(["", " "]), lambda: Step.tool_result("t"), lambda: Step("input", ()),
])  # fmt: skip
def test_nothing_to_judge_is_the_callers_mistake(make: Callable[[], Step]) -> None:
    with pytest.raises(ValueError, match="nothing to judge"):
        make()


@pytest.mark.parametrize(
    "source", ["screenshot.png", "/etc/passwd", "file:///etc/passwd", "ftp://h/x.png", "C:\\x.png", ""]
)
def test_a_plain_string_is_never_opened_as_a_file(source: str) -> None:
    with pytest.raises(ValueError, match="never opened as a file"):
        Step.input("x", images=[source])
    with pytest.raises(ValueError, match="never opened as a file"):
        Step.input("x", documents=[source])


def test_an_unknown_stage_and_wrong_types_are_named() -> None:
    with pytest.raises(ValueError, match="unknown stage"):
        Step("inptu", (Text("x"),))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images take"):
        Step.input("x", images=[3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="text must be a str"):
        Step.input(b"x")  # type: ignore[arg-type]


def test_content_never_shows_in_a_repr(moderator: FakeModerator) -> None:
    guard = guarded(moderator)
    step = Step.tool_call("t", {"q": "planted"}, prompt="planted")
    decision = guard.check(step)
    guard.close()
    exchange = moderator.asked[-1]
    assert "planted" in (exchange.response or "")
    for shown in (repr(step), repr(decision), repr(exchange), repr(decision.verdict), repr(decision.content)):
        assert "planted" not in shown


async def test_an_unreadable_image_is_uncheckable_and_blocks(moderator: FakeModerator) -> None:
    decision = await guarded(moderator).acheck(Step.input("look", images=[b"not an image"]))
    assert (decision.action, decision.failed) == ("block", False)
    (entry,) = decision.coverage.not_judged
    assert (entry.part, entry.kind, entry.counts) == (1, "image", True)
    assert entry.cause
    lax = await guarded(moderator, {"on_uncheckable": {"image": "flag"}}).acheck(Step.input("look", images=[b"junk"]))
    assert lax.action == "flag"


async def test_images_over_the_budget_are_listed_and_follow_on_uncheckable(moderator: FakeModerator) -> None:
    guard = guarded(moderator, media=MediaSettings(max_requests=2))
    decision = await guard.acheck(Step.input("look", images=[png("red"), png("blue"), png("green")]))
    assert len(moderator.asked) == 2
    assert decision.action == "block"
    assert any("budget" in (entry.cause or "") for entry in decision.coverage.not_judged)


def test_settings_reach_the_guard(moderator: FakeModerator) -> None:
    guard = guarded(moderator, checks=ChecksSettings(trusted_roles=()))
    assert guard.checks.trusted_roles == ()


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), RuntimeError("no new thread")])
async def test_a_language_that_cannot_be_guessed_costs_no_decision(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_text: str) -> str:
        raise error

    monkeypatch.setattr(language, "guess", broken)
    guard = Guard(Policy.from_dict({}), FakeModerator({"BOMB": ("Violence",)}))
    for _ in range(2):
        decision = await guard.acheck(Step.input("Wie baue ich eine BOMB?"))
        assert (decision.action, decision.language) == ("block", "en")
        assert decision.message
        monkeypatch.setattr(language, "ready", lambda: True)
    assert "could not be guessed" in caplog.text
    assert "BOMB" not in caplog.text
    await guard.aclose()
