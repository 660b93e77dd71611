"""A step under review waits for a person: held as it was judged, answered once, and expired in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.attacks.kit import picture
from turnguard import Document, Guard, Image, Policy, Step, Text, ToolCall
from turnguard.config.settings import ReviewsSettings
from turnguard.core.errors import ReviewError
from turnguard.core.step import Opaque, ToolDefinition
from turnguard.records.held import Held
from turnguard.testing import FakeModerator

POLICY: dict[str, Any] = {"categories": {"Violence": "review"}}


def guarded(**options: Any) -> Guard:
    moderator = FakeModerator(
        unsafe={"punch": ["Violence"], "child": ["Sexual (minor)", "Violence"], "hack": ["Malware"]}
    )
    return Guard(Policy.from_dict(options.pop("policy", POLICY)), moderator, **options)


async def test_a_step_under_review_waits_and_goes_on_as_it_was_judged() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.output("a punch", prompt="tell me", language="en"))
    assert decision.action == "review"
    assert decision.content == ()
    assert decision.review_id is not None
    assert decision.to_dict()["review_id"] == decision.review_id
    waiting = await guard.areview(decision.review_id)
    assert (waiting.status, waiting.content, waiting.by) == ("waiting", (), None)
    await guard.reviews.approve(decision.review_id, by="Anna", note="a film")
    review = await guard.areview(decision.review_id)
    assert (review.status, review.by, review.note) == ("approved", "Anna", "a film")
    assert review.content == decision.held == (Text("a punch"),)
    assert review.decision == decision.id
    assert review.categories == ("Violence",)


async def test_a_rejected_step_has_no_content() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    await guard.reviews.reject(decision.review_id, by="Anna")
    review = await guard.areview(decision.review_id)
    assert (review.status, review.content) == ("rejected", ())


def test_synchronous_code_looks_too() -> None:
    guard = guarded()
    decision = guard.check(Step.input("a punch"))
    assert decision.review_id is not None
    assert guard.review(decision.review_id).status == "waiting"
    asyncio.run(guard.reviews.approve(decision.review_id, by="Anna"))
    assert guard.review(decision.review_id).status == "approved"


async def test_whoever_waits_hears_of_the_answer() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    waiting = asyncio.ensure_future(guard.areview(decision.review_id, timeout=60.0))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await guard.reviews.approve(decision.review_id, by="Anna")
    assert (await waiting).status == "approved"


@pytest.mark.parametrize("text", ["hello", "hack"])
async def test_what_is_not_under_review_has_no_review(text: str) -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input(text))
    assert decision.review_id is None
    assert "review_id" not in decision.to_dict()
    assert await guard.reviews.find(None) == []
    with pytest.raises(TypeError, match="this decision has none"):
        await guard.areview(decision.review_id)  # type: ignore[arg-type]


async def test_content_about_minors_is_never_held() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a child and a punch"))
    assert (decision.action, decision.review_id) == ("block", None)
    assert await guard.reviews.find(None) == []


async def test_a_host_that_holds_it_itself_leaves_nothing_behind() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"), hold=False)
    assert (decision.action, decision.review_id) == ("review", None)
    assert await guard.reviews.find(None) == []


@pytest.mark.parametrize("second", ["approve", "reject"])
async def test_a_review_is_answered_once(second: str) -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    await guard.reviews.reject(decision.review_id, by="Anna")
    with pytest.raises(ReviewError, match="answered already: rejected by Anna"):
        await getattr(guard.reviews, second)(decision.review_id, by="Ben")


async def test_of_many_answers_at_once_one_counts() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    several = [guard.reviews.approve(decision.review_id, by=str(number)) for number in range(20)]
    done = await asyncio.gather(*several, return_exceptions=True)
    assert sum(not isinstance(one, ReviewError) for one in done) == 1


async def test_what_nobody_answers_expires_and_says_so() -> None:
    guard = guarded(reviews=ReviewsSettings(ttl=0.001))
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    await asyncio.sleep(0.01)
    review = await guard.areview(decision.review_id)
    assert (review.status, review.note, review.content) == ("expired", "nobody answered in time", ())
    with pytest.raises(ReviewError, match="answered already: expired"):
        await guard.reviews.approve(decision.review_id, by="Anna")
    assert [one.status for one in await guard.reviews.find("expired")] == ["expired"]


async def test_a_review_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ReviewError, match="nothing is known of this review here"):
        await guarded().areview("0" * 32)


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 201, None])
async def test_an_answer_names_who_gives_it(by: Any) -> None:
    guard = guarded()
    decision = await guard.acheck(Step.input("a punch"))
    assert decision.review_id is not None
    with pytest.raises(ReviewError, match="names who gives it"):
        await guard.reviews.approve(decision.review_id, by=by)
    assert guard.review(decision.review_id).status == "waiting"


async def test_each_part_of_a_transcript_waits_for_itself_and_once() -> None:
    guard = guarded()
    content = [{"type": "text", "text": "a punch"}, {"type": "text", "text": "and a kick"}]
    messages = [{"role": "user", "content": content}]
    first, second = await guard.acheck_messages(messages)
    assert (first.action, second.action) == ("review", "review"), "they were judged together"
    again = await guard.acheck_messages(messages)
    assert [one.review_id for one in again] == [first.review_id, second.review_id]
    assert {one.id for one in await guard.reviews.find()} == {first.review_id, second.review_id}
    assert first.review_id is not None
    review, held = await guard.reviews.show(first.review_id, by="Anna")
    assert review.id == first.review_id
    assert held.parts == (Text("a punch"),)


async def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    guard = guarded()
    first = await guard.acheck(Step.input("a punch"))
    assert first.review_id is not None
    for number in range(1_000):
        await guard.acheck(Step.input(f"a punch {number}"))
    assert len(await guard.reviews.find(limit=2_000)) == 1_000
    with pytest.raises(ReviewError):
        await guard.areview(first.review_id)


@pytest.mark.parametrize(
    "part",
    [
        Text("text \ud800 with a surrogate"),
        Image(picture(), "image/png"),
        Document(b"%PDF-1.4", "application/pdf", "a.pdf"),
        ToolCall("send", {"to": ["a", {"deep": [1, 2.5, None, True]}]}, "call-1"),
        ToolCall("send", '{"unparsed": ', "call-1"),
        ToolDefinition({"name": "send", "parameters": {"type": "object"}}),
        Opaque("audio", "audio is not judged", {"type": "input_audio", "data": "aGk="}),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_kind_of_part_reads_back_as_it_was(part: Any) -> None:
    decision = guarded().check(Step.input("a punch"))
    step = Step("input", (part,), prompt="what", history=("before",), metadata={"user": "u"})
    held = Held.of(step, decision)
    again = Held.load(held.dump())
    assert again == Held(**{name: getattr(held, name) for name in Held.__slots__})
    assert again.dump() == held.dump()


async def test_live_objects_are_not_held_but_stay_under_review() -> None:
    guard = guarded()
    decision = await guard.acheck(Step.tool_call("send", {"what": "a punch", "to": object()}))
    assert decision.action in ("review", "block")
    assert decision.review_id is None
    assert await guard.reviews.find(None) == []
