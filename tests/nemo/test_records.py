"""What is kept of a turn in NeMo: whom it belongs to, and no review that nobody could resume."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from nemoguardrails import RailsConfig
from nemoguardrails.exceptions import InvalidStateError
from nemoguardrails.rails.llm.options import RailStatus

from tests.nemo.guarded_lab import ENGINES, GuardedLab
from tests.nemo.lab import POLICY, QUIET, UNSAFE, Main, assistant, called, result, sees, user
from turnguard import Guard, Policy
from turnguard.config.settings import ChecksSettings, RecordsSettings, StreamSettings
from turnguard.nemo import checked_rails, guarded
from turnguard.testing import FakeModerator

pytest.importorskip("sqlalchemy", reason="the records extra is not installed")
pytestmark = QUIET

ways = pytest.mark.parametrize("way", [*ENGINES, "drop-in"])
OWNER = {"user": "planted-ann", "thread": "planted-t1", "request": "planted-r1", "tenant": "planted-acme"}
ASK = user("take a screenshot")
YAML = "{models: [], passthrough: false, rails: {output: {streaming: {enabled: true}}}}"


def context(**variables: Any) -> dict[str, Any]:
    """A context message."""
    return {"role": "context", "content": variables}


class Kept:
    """An engine, guarded one way or the other, whose guard keeps records."""

    def __init__(self, made: GuardedLab | None, main: Main, guard: Guard, path: Path) -> None:
        self.guard, self._path = guard, path
        self._main: GuardedLab | Main = made or main
        config = RailsConfig.from_content(yaml_content=YAML)
        self.engine: Any = checked_rails(config, guard, llm=main) if made is None else guarded(made.bare, guard)

    @property
    def prompts(self) -> list[Any]:
        """What the main model was sent."""
        return self._main.prompts

    async def say(self, *messages: Any, **options: Any) -> Any:
        """One turn."""
        return await self.engine.generate_async(messages=list(messages), **options)

    async def stream(self, *messages: Any) -> list[Any]:
        """One turn that streams."""
        return [chunk async for chunk in self.engine.stream_async(messages=list(messages))]

    async def rows(self) -> list[tuple[Any, ...]]:
        """Stage, user, thread, request and tenant of every record."""
        await self.guard.aclose()
        with contextlib.closing(sqlite3.connect(self._path)) as store:
            return store.execute('SELECT stage, "user", thread, request, tenant FROM records').fetchall()


@pytest.fixture
async def kept(lab: Callable[..., GuardedLab], tmp_path: Path) -> AsyncIterator[Any]:
    """Makes such engines."""
    guards: list[Guard] = []

    def make(way: str, *replies: Any) -> Kept:
        path = tmp_path / "records.db"
        guard = Guard(
            Policy.from_dict(POLICY),
            FakeModerator(UNSAFE, script=sees),
            records=RecordsSettings.model_validate({"url": f"sqlite:///{path}", "key": "k" * 40}),
            stream=StreamSettings(window=12),
            checks=ChecksSettings(tools="all"),
        )
        guards.append(guard)
        drop_in = way == "drop-in"
        return Kept(
            None if drop_in else lab(way, *replies, passthrough=False), Main(*(replies or ("fine",))), guard, path
        )

    yield make
    for guard in guards:
        await guard.aclose()


@ways
async def test_whom_a_turn_belongs_to_stands_in_its_records(way: str, kept: Any) -> None:
    made = kept(way)
    given = context(turnguard=OWNER, name="Ada", relevant_chunks="open at nine")
    tool = {"type": "function", "function": {"name": "shot", "description": "Takes one.", "parameters": {}}}
    answer = await made.say(given, ASK, called(), result("a desktop"), options={"llm_params": {"tools": [tool]}})
    assert answer.response == [assistant("fine")]
    assert "planted" not in repr(made.prompts)
    assert given["content"]["turnguard"] == OWNER, "the caller's message is the caller's"
    rows = await made.rows()
    assert {row[1:] for row in rows} == {tuple(OWNER.values())}
    assert {row[0] for row in rows} == {"input", "tools", "tool_call", "tool_result", "retrieval", "output"}


@ways
async def test_whom_a_stream_and_a_check_belong_to(way: str, kept: Any) -> None:
    made = kept(way, "one two three four five six seven")
    assert "".join(await made.stream(context(turnguard=OWNER), user("count"))).strip().endswith("seven")
    checked = await made.engine.check_async([context(turnguard=OWNER), user("hello")])
    assert (checked.status, checked.content) == (RailStatus.PASSED, "hello")
    rows = await made.rows()
    assert {row[1:] for row in rows} == {tuple(OWNER.values())}
    assert [row[0] for row in rows].count("input") == 2
    assert "output" in [row[0] for row in rows]


@ways
@pytest.mark.parametrize("wrong", ["ann", {"user": 5}, {"user": "a\nb"}, {"user": "x" * 300}], ids=repr)
async def test_what_is_no_metadata_is_refused(way: str, wrong: Any, kept: Any) -> None:
    made = kept(way)
    with pytest.raises(InvalidStateError, match="'turnguard' in a context message"):
        await made.say(context(turnguard=wrong), user("hi"))
    with pytest.raises(InvalidStateError, match="'turnguard' in a context message"):
        await made.stream(context(turnguard=wrong), user("hi"))
    assert made.prompts == []


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_function_chooses_the_policy_by_it(kind: str, lab: Callable[..., GuardedLab]) -> None:
    def choose(messages: list[Any], _options: Any) -> str | None:
        return str(messages[0]["content"]["turnguard"]["tenant"])

    made = lab(kind, policies={"acme": {"default": "flag"}}, choose=choose)
    assert await made.say(context(turnguard={"tenant": "acme"}), user("hmm")) == assistant("fine")


@ways
async def test_no_review_waits_that_nobody_could_resume(way: str, kept: Any) -> None:
    made = kept(way, "hmm, so to say")
    hmm = user("hmm")
    shown = {"type": "text", "text": "hmm"}
    for messages in (
        (hmm,),
        ({"role": "user", "content": [shown, {"type": "text", "text": "and?"}]},),
        (user("hi"),),
        (context(relevant_chunks="hmm", relevant_chunks_sep=["hmm", "open at nine"]), user("hi")),
        (ASK, called(), result("hmm")),
        (ASK, called(), result([shown, shown])),
    ):
        answer = await made.say(*messages)
        assert "so to say" not in repr(answer), messages
        assert "so to say" not in "".join(await made.stream(*messages)), messages
    assert (await made.engine.check_async([hmm])).status == RailStatus.BLOCKED
    assert await made.guard.reviews.find() == []
    rows = await made.rows()
    assert len(rows) > 6, "what was decided is recorded all the same"
