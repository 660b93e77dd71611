"""Decisions become records: off the hot path, bounded, counted where they are lost, awaited where they are required."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.records.conftest import KEY, Opener, in_child
from tests.records.postgres import Postgres
from turnguard import ConfigError, Guard, Policy, Step, Verdict
from turnguard.config.settings import RecordsSettings
from turnguard.core.errors import StoreError
from turnguard.core.verdict import Looks, looked_twice
from turnguard.records import schema
from turnguard.records.evidence import Evidence, load_reasons
from turnguard.records.look import look
from turnguard.records.store import Store, now
from turnguard.testing import FakeModerator

UNSAFE = {"bomb": ["Guns and Illegal Weapons"], "damn": ["Profanity"]}


def recording(url: str, policy: dict[str, Any] | None = None, **settings: Any) -> Guard:
    records = RecordsSettings.model_validate({"url": url, **settings})
    return Guard(Policy.from_dict(policy or {}), FakeModerator(unsafe=UNSAFE), records=records)


def kept(store: Store) -> list[sa.Row[Any]]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(schema.records).order_by(schema.records.c.time)))


async def test_a_decision_is_a_record_from_which_the_same_is_decided(url: str, opened: Opener) -> None:
    policy = {"categories": {"Guns and Illegal Weapons": {"action": "block", "above": 0.6, "otherwise": "flag"}}}
    metadata = {"user": "ann", "thread": "t1", "request": "r1", "tenant": "acme", "plan": "free"}
    async with recording(url, policy) as guard:
        decision = await guard.acheck(Step.input("a planted bomb", metadata=metadata, language="de"))
        await guard.acheck(Step.output("fine", prompt="planted"))
    first, second = kept(opened())
    assert first.id == decision.id
    assert abs(first.time - now()) < 60_000
    assert (first.stage, first.action, first.failed, first.complete) == ("input", "block", False, True)
    assert (first.rule, first.category) == (
        "policy.categories.Guns and Illegal Weapons",
        "Guns and Illegal Weapons",
    )
    assert (first.user, first.thread, first.request, first.tenant) == ("ann", "t1", "r1", "acme")
    assert json.loads(first.metadata) == {"plan": "free"}
    assert first.language == "de"
    assert first.family == "nemotron-3"
    assert first.latency > 0
    assert load_reasons(first.reasons) == decision.reasons
    outcome = Evidence.load(first.evidence).decide(guard.policy, "input")
    assert (outcome.action, outcome.reasons) == (decision.action, decision.reasons)
    assert (second.action, second.rule, second.reasons) == ("allow", None, None)
    assert "planted" not in f"{first}{second}"
    again = opened().policy(first.policy, first.edition)
    assert again is not None
    assert again.stages == guard.policy.stages


async def test_content_is_kept_only_if_asked_for_and_encrypted(url: str, opened: Opener) -> None:
    async with recording(url, content=True, key=KEY) as guard:
        await guard.acheck(Step.output("planted answer", prompt="planted question"))
        await guard.acheck(Step.input("planted answer"))
    store = opened(key=KEY)
    first, second = kept(store)
    assert b"planted" not in first.content
    assert json.loads(store.keys.decrypt(first.content)) == {
        "parts": [{"type": "text", "text": "planted answer"}],
        "prompt": "planted question",
    }
    assert json.loads(first.parts) == json.loads(second.parts)  # keyed digests: equal content is found again
    with pytest.raises(ConfigError, match=r"records.key does not open this content"):
        opened(key="another key of more than 32 characters").keys.decrypt(first.content)


def thinking(categories: tuple[str, ...] = ()) -> FakeModerator:
    """Asked twice, and both models thought."""
    first = Verdict(user="unsafe", categories=categories, reasoning="planted first thought", model="one")
    second = replace(first, reasoning="planted second thought", model="two")
    return FakeModerator(script=lambda _exchange: looked_twice(Looks(first, second, "both")))


async def test_reasoning_is_kept_with_the_content_and_shown_to_whoever_looks(url: str, opened: Opener) -> None:
    for content in (False, True):
        records = RecordsSettings.model_validate({"url": url, "content": content, "key": KEY})
        async with Guard(Policy.from_dict({}), thinking(), records=records) as guard:
            await guard.acheck(Step.input("x"))
    store = opened(key=KEY)
    without, with_content = kept(store)
    assert without.content is None
    assert "planted" not in f"{without}{with_content}"
    found = look(store, with_content, "Anna")
    assert found is not None
    assert found["reasoning"] == [
        {"parts": [0], "detail": "", "model": "one", "text": "planted first thought"},
        {"parts": [0], "detail": "", "model": "two", "text": "planted second thought"},
    ]
    assert look(store, without, "Anna") is None
    (seen,) = [row for row in kept(store) if row.event == "content_seen"]
    assert json.loads(seen.metadata) == {"decision": with_content.id, "by": "Anna"}


async def test_content_about_minors_is_never_kept(url: str, opened: Opener, tmp_path: Path) -> None:
    from turnguard.config.settings import AuditSettings

    records = RecordsSettings.model_validate({"url": url, "content": True, "key": KEY})
    audit = AuditSettings(path=str(tmp_path / "audit.jsonl"), content=True)
    policy = Policy.from_dict({"default": "flag"})
    async with Guard(policy, thinking(("Sexual (minor)",)), records=records, audit=audit) as guard:
        assert (await guard.acheck(Step.input("planted minor"))).action == "flag"
    (row,) = kept(opened())
    assert row.content is None
    assert "planted" not in (tmp_path / "audit.jsonl").read_text()


async def test_nothing_is_recorded_unless_asked_for() -> None:
    async with Guard(Policy.from_dict({}), FakeModerator()) as guard:
        assert guard._kept is None
        assert (await guard.acheck(Step.input("x"))).action == "allow"


async def test_a_transcript_that_is_sent_again_is_not_recorded_again(url: str, opened: Opener) -> None:
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    async with recording(url) as guard:
        for _ in range(3):
            await guard.acheck_messages(messages)
    assert [row.stage for row in kept(opened())] == ["input", "output"]


async def test_the_span_around_a_check_is_in_its_record(url: str, opened: Opener) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")
    async with recording(url) as guard:
        with tracer.start_as_current_span("request") as span:
            await guard.acheck(Step.input("x"))
    (row,) = kept(opened())
    assert row.trace == f"{span.get_span_context().trace_id:032x}"
    assert len(row.span) == 16


async def test_text_that_a_database_cannot_hold_costs_neither_check_nor_record(url: str, opened: Opener) -> None:
    steps = [Step.input("lone \ud800"), Step.input("nul \x00"), Step.tool_call("t\x00\ud800", {"a": "\x00\ud800"})]
    async with recording(url, content=True, key=KEY) as guard:
        for step in steps:
            assert (await guard.acheck(step)).action == "allow"
        assert guard._kept is not None
        assert guard._kept.writer is not None
        assert guard._kept.writer.lost == 0
    assert len(kept(opened())) == len(steps)


# ---------------------------------------------------------------- losing


async def test_a_locked_database_delays_records_and_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.records.store.BUSY_SECONDS", 0.05)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = Store.open(RecordsSettings.model_validate({"url": url}))
    async with recording(url) as guard:
        with store.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for number in range(20):
                assert (await guard.acheck(Step.input(f"x {number}"))).action == "allow"
            assert guard._kept is not None
            assert guard._kept.writer is not None
            assert not guard._kept.writer.flush(0.5)
    assert len(kept(store)) == 20
    store.close()


async def test_records_of_an_outage_are_written_when_the_server_is_back(
    server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(RecordsSettings.model_validate({"url": server.url}))
    with store.begin() as connection:
        connection.execute(sa.delete(schema.records))
    async with recording(server.url) as guard:
        await guard.acheck(Step.input("before"))
        assert guard._kept is not None
        assert guard._kept.writer is not None
        assert guard._kept.writer.flush()
        server.stop()
        try:
            assert (await guard.acheck(Step.input("meanwhile"))).action == "allow"
            assert not guard._kept.writer.flush(1.0)
            assert "1 wait" in caplog.text
        finally:
            server.start()
    assert len(kept(store)) == 2
    store.close()


async def test_a_database_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    settings = RecordsSettings.model_validate({"url": f"sqlite:///{tmp_path / 'a.db'}"})
    async with recording(f"sqlite:///{tmp_path / 'a.db'}") as guard:
        await guard.acheck(Step.input("one"))
        assert guard._kept is not None
        assert guard._kept.writer is not None
        assert guard._kept.writer.flush()
        for file in tmp_path.iterdir():
            file.unlink()
        await guard.acheck(Step.input("two"))
    store = Store.open(settings)
    (row,) = kept(store)
    assert store.policy(row.policy) is not None
    store.close()


async def test_a_full_disk_loses_records_that_are_counted_and_no_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("turnguard.records.writer.QUEUE", 10)
    pages = sa.event.listens_for(sa.Engine, "connect")(_few_pages)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    try:
        async with recording(url) as guard:
            assert guard._kept is not None
            assert guard._kept.writer is not None
            for number in range(600):
                step = Step.input(f"bomb {number}", metadata={"user": "u" * 200, "thread": "t" * 200})
                assert (await guard.acheck(step)).action == "block"
                if number % 10 == 0:
                    guard._kept.writer.flush(0.02)
            lost = guard._kept.writer.lost
    finally:
        sa.event.remove(sa.Engine, "connect", pages)
    assert lost > 0
    assert "were lost" in caplog.text
    assert "planted" not in caplog.text
    store = Store.open(RecordsSettings.model_validate({"url": url}))
    assert len(kept(store)) + guard._kept.writer.lost == 600
    store.close()


def _few_pages(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA max_page_count=60")


# ---------------------------------------------------------------- required


async def test_a_required_record_is_committed_before_the_decision(url: str, opened: Opener) -> None:
    store = opened()
    async with recording(url, required=True) as guard:
        decision = await guard.acheck(Step.input("x"))
        (row,) = kept(store)
        assert row.id == decision.id


@pytest.mark.parametrize(("on_failure", "action"), [("block", "block"), ("flag", "flag")])
async def test_without_a_required_record_the_check_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_failure: str, action: str
) -> None:
    monkeypatch.setattr("turnguard.records.store.BUSY_SECONDS", 0.05)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with recording(url, {"on_failure": on_failure}, required=True) as guard:
        store = Store.open(RecordsSettings.model_validate({"url": url}))
        with store.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            decision = await guard.acheck(Step.input("x"))
            assert decision.action == action
            assert decision.failed
            assert decision.reasons[0].cause is not None
            assert decision.reasons[0].cause.startswith("the record")
    (row,) = [row for row in kept(store) if row.id == decision.id]
    assert row.failed
    store.close()


@pytest.mark.parametrize("required", [True, False])
async def test_a_record_that_cannot_be_made_is_lost_and_where_required_the_check_has_failed(
    url: str, required: bool
) -> None:
    moderator = FakeModerator(script=lambda _exchange: Verdict(user="safe", cause="no JSON holds \ud800"))
    records = RecordsSettings.model_validate({"url": url, "required": required})
    async with Guard(Policy.from_dict({}), moderator, records=records) as guard:
        decision = await guard.acheck(Step.input("x"))
        assert guard._kept is not None
        assert guard._kept.writer is not None
        assert guard._kept.writer.flush()
        assert guard._kept.writer.lost > 0
    assert (decision.action, decision.failed) == (("block", True) if required else ("allow", False))


def test_a_required_database_that_cannot_be_used_is_an_error_when_the_guard_is_made() -> None:
    with pytest.raises(StoreError, match="the database of records"):
        recording("sqlite:////proc/nosuch/a.db", required=True)


# ---------------------------------------------------------------- processes

SCRIPT = """
import asyncio, sys
from turnguard import Guard, Policy, Step
from turnguard.config.settings import RecordsSettings
from turnguard.testing import FakeModerator
records = RecordsSettings.model_validate({"url": sys.argv[1], "required": sys.argv[2] == "required"})
async def main():
    guard = Guard(Policy.from_dict({}), FakeModerator(), records=records)
    for number in range(int(sys.argv[3])):
        decision = await guard.acheck(Step.input(f"x {number}"))
        print(decision.id, decision.failed, flush=True)
        await asyncio.sleep(0.002)
asyncio.run(main())
"""


def _started(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, url, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("required", ["required", "beside"])
def test_what_a_kill_loses(url: str, opened: Opener, required: str) -> None:
    child = _started(url, required, "100000")
    assert child.stdout is not None
    decided: list[tuple[str, float]] = []
    for line in child.stdout:
        decided.append((line.split()[0], time.monotonic()))
        if len(decided) == 300:
            break
    killed = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    stored = {row.id for row in kept(opened())}
    must = [name for name, when in decided if required == "required" or when < killed - 1.0]
    assert set(must) <= stored


def test_a_script_that_does_not_close_its_guard_has_its_records(url: str, opened: Opener) -> None:
    child = _started(url, "beside", "20")
    out, _ = child.communicate(timeout=60)
    assert {line.split()[0] for line in out.splitlines()} == {row.id for row in kept(opened())}


def test_several_processes_write_one_database(url: str, opened: Opener) -> None:
    children = [_started(url, "beside", "100") for _ in range(2)]
    names = {line.split()[0] for child in children for line in child.communicate(timeout=90)[0].splitlines()}
    assert len(names) == 200
    assert {row.id for row in kept(opened())} == names


def test_a_forked_child_records_too(url: str, opened: Opener) -> None:
    guard = recording(url)
    guard.check(Step.input("parent"))

    def record() -> None:
        guard.check(Step.input("child"))
        guard.close()

    in_child(record)
    guard.check(Step.input("parent again"))
    guard.close()
    assert len(kept(opened())) == 3


# ---------------------------------------------------------------- pruning


async def test_old_records_go_by_themselves(url: str, opened: Opener) -> None:
    store = opened()
    async with recording(url) as guard:
        await guard.acheck(Step.input("x"))
    with store.begin() as connection:
        connection.execute(sa.update(schema.records).values(time=now() - 91 * 86_400_000))
    async with recording(url) as guard:
        decision = await guard.acheck(Step.input("x"))
    assert [row.id for row in kept(store)] == [decision.id]


def test_one_writer_serves_all_guards_of_a_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    first, second = recording(url), recording(url)
    assert first._kept is not None
    assert second._kept is not None
    assert first._kept.writer is second._kept.writer
    first.close()
    second.check(Step.input("x"))
    second.close()
    store = Store.open(RecordsSettings.model_validate({"url": url}))
    assert len(kept(store)) == 1
    store.close()
