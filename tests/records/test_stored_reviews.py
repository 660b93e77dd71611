"""Steps under review in a database: encrypted, seen by any process, answered exactly once."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.records.conftest import KEY
from turnguard import ConfigError, Guard, Policy, Step, Text
from turnguard.config.settings import RecordsSettings, ReviewsSettings
from turnguard.core.errors import ReviewError, StoreError
from turnguard.records import open_reviews, schema
from turnguard.testing import FakeModerator

POLICY: dict[str, Any] = {"categories": {"Violence": "review"}}
STEP = Step.output("a punch", prompt="what then", metadata={"user": "ben", "tenant": "acme"}, language="en")

Made = Callable[..., Guard]


def settings(url: str, **more: Any) -> RecordsSettings:
    return RecordsSettings.model_validate({"url": url, "key": KEY, **more})


@pytest.fixture
async def made(url: str) -> AsyncIterator[Made]:
    """Guards on one database, as several processes would have them."""
    guards: list[Guard] = []

    def make(url: str = url, ttl: float = 60.0, **more: Any) -> Guard:
        moderator = FakeModerator(unsafe={"punch": ["Violence"]})
        reviews = ReviewsSettings(ttl=ttl)
        guards.append(Guard(Policy.from_dict(POLICY), moderator, records=settings(url, **more), reviews=reviews))
        return guards[-1]

    yield make
    for guard in guards:
        await guard.aclose()


async def held(guard: Guard, step: Step = STEP) -> str:
    decision = await guard.acheck(step)
    assert decision.action == "review"
    assert decision.review_id is not None
    return decision.review_id


def table(opened: Any, name: str = "reviews") -> list[dict[str, Any]]:
    with opened(key=KEY).begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(schema.metadata.tables[name])).mappings()]


async def test_any_process_answers_and_any_goes_on(made: Made) -> None:
    first, second, third = made(), made(), made()
    identity = await held(first)
    (waiting,) = await second.reviews.find(tenant="acme")
    assert waiting.id == identity
    assert await second.reviews.find(tenant="other") == []
    await second.reviews.approve(identity, by="Anna", note="a film")
    review = await third.areview(identity, timeout=5.0)
    assert (review.status, review.by, review.note, review.content) == ("approved", "Anna", "a film", (Text("a punch"),))


async def test_content_is_encrypted_and_opens_with_any_key_of_the_list(made: Made, opened: Any, tmp_path: Path) -> None:
    guard = made()
    identity = await held(guard)
    (row,) = table(opened)
    assert b"punch" not in row["content"]
    assert "punch" not in repr({name: value for name, value in row.items() if name != "content"})
    assert "what then" not in repr(row)
    rotated = made(key=["another key for tests, of forty characters", KEY])
    await rotated.reviews.approve(identity, by="Anna")
    assert (await rotated.areview(identity)).content == (Text("a punch"),)
    stranger = made(key="a key of somebody else, of forty characters")
    with pytest.raises(ConfigError, match=r"records\.key does not open this content"):
        await stranger.areview(identity)


async def test_a_review_needs_a_key(tmp_path: Path, url: str) -> None:
    data = {"moderator": {"base_url": "http://h/v1"}, "records": {"url": url}, "policy": POLICY}
    with pytest.raises(ConfigError, match=r"records\.key: a step under review is held encrypted"):
        Guard.from_dict(data)
    Guard.from_dict({**data, "policy": {}})
    named = tmp_path / "team.yaml"
    named.write_text("policy: {default: review}\n")
    with pytest.raises(ConfigError, match="held encrypted"):
        Guard.from_dict({**data, "policy": {}, "policies": {"team": str(named)}})


async def test_looking_and_answering_are_records(made: Made, opened: Any) -> None:
    guard = made()
    identity = await held(guard)
    await guard.reviews.show(identity, by="Anna")
    await guard.reviews.reject(identity, by="Ben", note="no")
    events = {row["event"]: json.loads(row["metadata"]) for row in table(opened, "records") if row["event"] != "check"}
    assert set(events) == {"review_seen", "rejected"}
    assert events["review_seen"]["by"] == "Anna"
    assert events["rejected"]["review"] == identity
    assert (events["rejected"]["by"], events["rejected"]["note"]) == ("Ben", "no")
    assert {row["tenant"] for row in table(opened, "records")} == {"acme"}


async def test_what_nobody_answers_is_expired_for_all(made: Made, opened: Any) -> None:
    guard = made(ttl=0.001)
    identity = await held(guard)
    await asyncio.sleep(0.01)
    with pytest.raises(ReviewError, match="expired"):
        await made().reviews.approve(identity, by="Anna")
    review = await made().areview(identity)
    assert (review.status, review.note, review.content) == ("expired", "nobody answered in time", ())
    assert [row["event"] for row in table(opened, "records") if row["event"] != "check"] == ["expired"]


async def test_an_answer_counts_for_the_content_it_was_given_for(made: Made, opened: Any) -> None:
    guard = made()
    first, second = await held(guard), await held(guard, Step.input("another punch"))
    rows = {row["id"]: row for row in table(opened)}
    with opened(key=KEY).begin() as connection:  # somebody swaps the contents
        swapped = sa.update(schema.reviews).values(content=rows[second]["content"]).where(schema.reviews.c.id == first)
        connection.execute(swapped)
    await guard.reviews.approve(second, by="Anna")
    with pytest.raises(ReviewError, match="belongs to another decision"):
        await guard.reviews.approve(first, by="Anna")


async def test_an_approved_review_whose_content_was_erased_passes_nothing(made: Made, opened: Any) -> None:
    guard = made()
    identity = await held(guard)
    await guard.reviews.approve(identity, by="Anna")
    with opened(key=KEY).begin() as connection:
        connection.execute(sa.update(schema.reviews).values(content=None))
    review = await guard.areview(identity)
    assert (review.status, review.content) == ("approved", ())
    with pytest.raises(ReviewError, match="is gone"):
        await guard.reviews.show(identity, by="Anna")


async def test_names_and_notes_in_any_writing_are_kept_as_they_are(made: Made) -> None:
    guard = made()
    identity = await held(guard)
    note = "дослівно: '); DROP TABLE reviews; --\nsecond line 🙂"
    await guard.reviews.reject(identity, by="Оксана", note=note)
    review = await guard.areview(identity)
    assert (review.by, review.note) == ("Оксана", note)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_review_that_cannot_be_stored_blocks(
    tmp_path: Path, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    guard = made(f"sqlite:///{tmp_path / 'file' / 'turnguard.db'}")
    decision = await guard.acheck(STEP)
    assert (decision.action, decision.failed, decision.held, decision.content) == ("block", True, (), ())
    assert decision.review_id is None
    assert decision.reasons[-1].cause == "the review cannot be held"
    assert "a review could not be held" in caplog.text
    with pytest.raises(StoreError):
        await guard.reviews.find()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_step_that_is_not_under_review_never_opens_the_database(tmp_path: Path, made: Made) -> None:
    guard = made(f"sqlite:///{tmp_path / 'unused.db'}")
    await guard.acheck(Step.input("hello"))
    assert (await guard.reviews.find("approved")) == []


WORKERS = 4


def _answer(url: str, names: list[str], worker: int) -> int:
    async def all_of_them() -> int:
        reviews = open_reviews(settings(url), ReviewsSettings())
        done = 0
        for name in names:
            try:
                await reviews.approve(name, by=f"worker {worker}")
                done += 1
            except ReviewError:
                pass
        reviews.close()
        return done

    return asyncio.run(all_of_them())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [100, pytest.param(1_000, marks=pytest.mark.exhaustive)])
async def test_reviews_that_four_processes_answer_at_once_are_answered_once(
    number: int, made: Made, url: str, opened: Any
) -> None:
    guard = made(ttl=3600.0)
    identity = await held(guard)
    store = opened(key=KEY)
    with store.begin() as connection:
        row = dict(connection.execute(sa.select(schema.reviews)).mappings().one())
        names = [identity, *(f"review-{at}" for at in range(1, number))]
        connection.execute(sa.insert(schema.reviews), [{**row, "id": name} for name in names[1:]])
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        done = pool.starmap(_answer, [(url, names, worker) for worker in range(WORKERS)])
    assert sum(done) == number
    rows = table(opened)
    assert {row["status"] for row in rows} == {"approved"}
    events = [json.loads(row["metadata"]) for row in table(opened, "records") if row["event"] == "approved"]
    assert sorted(event["review"] for event in events) == sorted(names)
    by = {row["id"]: row["by"] for row in rows}
    assert all(by[event["review"]] == event["by"] for event in events)
