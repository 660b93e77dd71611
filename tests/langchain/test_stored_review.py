"""A review that waits in a database: asked about in one process, answered elsewhere, gone on with in another."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

pytest.importorskip("sqlalchemy", reason="the extra records is not installed")

from tests.langchain.kit import UNSAFE, Scripted, calls, moderator, said, stored
from tests.langchain.test_review import CONFIG, asked_of
from tests.records import postgres
from turnguard import Guard, Policy, StoreError
from turnguard.config.settings import RecordsSettings, ReviewsSettings
from turnguard.langchain import TurnguardMiddleware, guard_node
from turnguard.records.review_table import Table
from turnguard.testing import FakeVLLM

KEY = "a key for tests of forty characters long"
POLICY: dict[str, Any] = {"categories": {"Violence": "review"}}
STORED = {"decisions": "stored"}
OWNER = {"thread": "1", "user": "anna", "tenant": "acme"}
APPROVE = {"decisions": [{"type": "approve"}]}
RESULT = f"page {UNSAFE}"


class Processes:
    """One thread of an agent that is run by several processes: each has its own guard, middleware and graph."""

    def __init__(
        self, folder: Path, *script: Any, answers: str = "store", ttl: float = 60.0, result: Any = RESULT
    ) -> None:
        self.records = RecordsSettings.model_validate({"url": f"sqlite:///{folder / 'turnguard.db'}", "key": KEY})
        self.reviews = ReviewsSettings.model_validate({"answers": answers, "ttl": ttl})
        self.saver = InMemorySaver()
        self.model = Scripted(script=list(script))
        self.ran: list[str] = []
        self.guards: list[Guard] = []
        self.result = result

    def agent(self) -> Any:
        @tool
        def search(q: str) -> Any:
            """Search."""
            self.ran.append(q)
            return self.result

        guard = Guard(Policy.from_dict(POLICY), moderator(), records=self.records, reviews=self.reviews)
        self.guards.append(guard)
        return create_agent(self.model, [search], middleware=[TurnguardMiddleware(guard)], checkpointer=self.saver)

    async def go(self, given: Any) -> dict[str, Any]:
        """Go on in another process."""
        config: Any = {"configurable": {"thread_id": "1", "tenant_id": "acme"}, "metadata": {"user_id": "anna"}}
        return dict(await self.agent().ainvoke(given, config))

    async def answer(self, result: dict[str, Any], answer: str = "approve", note: str = "") -> None:
        """Answer everything that the interrupt asks about, from a process of its own."""
        guard = Guard(Policy.from_dict(POLICY), moderator(), records=self.records, reviews=self.reviews)
        for about in asked_of(result)["turnguard"]:
            await getattr(guard.reviews, answer)(about["review"], by="Anna", note=note)
        await guard.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


KINDS: dict[str, tuple[Any, ...]] = {
    "call": (calls(f"{UNSAFE} plan"), "Done."),
    "result": (calls("cats"), "Done."),
    "output": (f"It is {UNSAFE}.",),
    "input": ("Done.",),
}


async def started(folder: Path, kind: str, **options: Any) -> tuple[Processes, dict[str, Any]]:
    result = RESULT if kind == "result" else "a page"
    world = Processes(folder, *KINDS[kind], result=result, **options)
    paused = await world.go(said(f"{UNSAFE} please" if kind == "input" else "hello"))
    assert "__interrupt__" in paused
    return world, paused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_another_process_goes_on_with_what_was_answered(folder: Path, kind: str, answer: str) -> None:
    world, paused = await started(folder, kind)
    if kind in ("result", "output"):  # LangGraph keeps the caller's own input, and a call's arguments are shown
        assert UNSAFE not in stored(world.saver)
    await world.answer(paused, answer, note="no, sorry")
    done = await world.go(Command(resume=STORED))
    assert "__interrupt__" not in done
    content = repr([(message.content, getattr(message, "tool_calls", None)) for message in done["messages"]])
    assert (UNSAFE in content) == (answer == "approve")
    assert len(world.ran) == (0 if kind in ("output", "input") else 1 if answer == "approve" or kind == "result" else 0)
    asked_model = {"call": 2, "result": 2, "output": 1, "input": 1 if answer == "approve" else 0}
    assert len(world.model.prompts) == asked_model[kind]
    if answer == "reject" and kind in ("call", "result"):
        (notice,) = (message for message in done["messages"] if isinstance(message, ToolMessage))
        assert "The reviewer says: no, sorry" in notice.content


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_is_resumed_too_early_pauses_again(folder: Path, kind: str) -> None:
    world, paused = await started(folder, kind)
    for _ in range(3):
        again = await world.go(Command(resume=STORED))
        assert asked_of(again)["turnguard"] == asked_of(paused)["turnguard"]
    await world.answer(paused)
    done = await world.go(Command(resume=STORED))
    assert "__interrupt__" not in done
    assert len(world.ran) == (1 if kind in ("call", "result") else 0)


async def test_under_store_an_answer_of_the_host_counts_for_nothing(folder: Path) -> None:
    world, paused = await started(folder, "call")
    again = await world.go(Command(resume=APPROVE))
    assert "__interrupt__" in again
    assert world.ran == []
    await world.answer(paused, "reject")
    done = await world.go(Command(resume=APPROVE))
    assert "__interrupt__" not in done
    assert world.ran == []


@pytest.mark.parametrize("answers", ["host", "either"])
async def test_the_host_answers_in_another_process_and_it_is_entered(folder: Path, answers: str) -> None:
    world, paused = await started(folder, "call", answers=answers)
    await world.go(Command(resume=APPROVE))
    assert world.ran == [f"{UNSAFE} plan"]
    (about,) = asked_of(paused)["turnguard"]
    review = await world.guards[-1].areview(about["review"])
    assert (review.status, review.by) == ("approved", "the host of the run")


async def test_under_host_what_others_answered_first_stands(folder: Path) -> None:
    world, paused = await started(folder, "call", answers="either")
    await world.answer(paused, "reject")
    await world.go(Command(resume=APPROVE))
    assert world.ran == []


async def test_under_host_stored_answers_are_no_answer(folder: Path) -> None:
    world, _ = await started(folder, "call", answers="host")
    done = await world.go(Command(resume=STORED))
    assert "__interrupt__" not in done
    assert world.ran == []


async def test_an_edit_of_the_host_is_judged_again_in_another_process(folder: Path) -> None:
    world, _ = await started(folder, "call", answers="host")
    edited = {"type": "edit", "edited_action": {"name": "search", "args": {"q": "dogs"}}}
    await world.go(Command(resume={"decisions": [edited]}))
    assert world.ran == ["dogs"]


async def test_what_nobody_answered_is_rejected_and_says_so(folder: Path) -> None:
    world, _ = await started(folder, "call", ttl=0.01)
    await asyncio.sleep(0.05)
    done = await world.go(Command(resume=STORED))
    assert world.ran == []
    (notice,) = (message for message in done["messages"] if isinstance(message, ToolMessage))
    assert "nobody answered in time" in notice.content


async def test_a_review_that_cannot_be_stored_is_rejected_at_once(folder: Path) -> None:
    (folder / "file").write_text("no folder")
    world = Processes(folder / "file", *KINDS["call"], result="a page")
    done = await world.go(said("hello"))
    assert "__interrupt__" not in done
    assert world.ran == []


@pytest.mark.parametrize("same", [True, False], ids=["the same process", "another process"])
async def test_while_the_database_is_away_a_run_waits_on(
    folder: Path, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Processes(folder, *KINDS["call"], result="a page")
    first = world.agent()
    paused = await first.ainvoke(said("hello"), CONFIG)
    await world.answer(paused)
    agent = first if same else world.agent()

    def away(*_: Any, **__: Any) -> Any:
        raise StoreError("the database of records: gone")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "get", away)
        again = await agent.ainvoke(Command(resume=STORED), CONFIG)
        assert "__interrupt__" in again
        assert world.ran == []
    await agent.ainvoke(Command(resume=STORED), CONFIG)
    assert world.ran == [f"{UNSAFE} plan"]


async def test_words_and_calls_of_one_message_wait_one_after_the_other(folder: Path) -> None:
    both = calls("cats", f"{UNSAFE} plan", text=f"It is {UNSAFE}.")
    world = Processes(folder, both, "Done.", result="a page")
    words = await world.go(said("hello"))
    assert [about["stage"] for about in asked_of(words)["turnguard"]] == ["output"]
    await world.answer(words)
    its_call = await world.go(Command(resume=STORED))
    assert [about["stage"] for about in asked_of(its_call)["turnguard"]] == ["tool_call"]
    await world.answer(its_call)
    done = await world.go(Command(resume=STORED))
    assert "__interrupt__" not in done
    assert sorted(world.ran) == [f"{UNSAFE} plan", "cats"]


class Nodes(Processes):
    """A graph of a guard's node alone."""

    stage: Any = "input"

    def agent(self) -> Any:
        guard = Guard(Policy.from_dict(POLICY), moderator(), records=self.records, reviews=self.reviews)
        self.guards.append(guard)
        graph = StateGraph(MessagesState)
        graph.add_node("guard", guard_node(guard, self.stage))
        graph.add_edge(START, "guard")
        return graph.compile(checkpointer=self.saver)


BOTH = calls("cats", f"{UNSAFE} plan", text=f"It is {UNSAFE}.")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("input", HumanMessage(f"{UNSAFE} please", id="1")),
        ("output", AIMessage(f"It is {UNSAFE}.", id="1")),
        ("tool_call", BOTH.model_copy(update={"id": "1", "content": "I will."})),
    ],
    ids=["input", "output", "tool_call"],
)
@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_a_node_goes_on_in_another_process(folder: Path, stage: str, message: Any, answer: str) -> None:
    world = Nodes(folder)
    world.stage = stage
    paused = await world.go({"messages": [message]})
    again = await world.go(Command(resume=STORED))
    assert asked_of(again)["turnguard"][0]["review"] == asked_of(paused)["turnguard"][0]["review"]
    assert len(await world.guards[0].reviews.find()) == 1
    await world.answer(paused, answer)
    done = await world.go(Command(resume=STORED))
    assert "__interrupt__" not in done
    content = repr([(one.content, getattr(one, "tool_calls", None)) for one in done["messages"]])
    assert (UNSAFE in content) == (answer == "approve")


async def test_an_edit_of_the_host_that_waits_again_is_found_in_another_process(folder: Path) -> None:
    world = Nodes(folder, answers="either")
    first = await world.go({"messages": [HumanMessage(f"{UNSAFE} please", id="1")]})
    edit = {"type": "edit", "edited_action": {"name": "review_input", "args": {"content": f"still {UNSAFE}"}}}
    second = await world.go(Command(resume={"decisions": [edit]}))
    assert asked_of(second)["turnguard"][0]["review"] != asked_of(first)["turnguard"][0]["review"]
    await world.answer(second)
    done = await world.go(Command(resume=STORED))
    assert [message.content for message in done["messages"]] == [f"still {UNSAFE}"]


async def test_a_reviewer_sees_the_content_and_what_it_answers(folder: Path) -> None:
    world, paused = await started(folder, "output")
    (about,) = asked_of(paused)["turnguard"]
    review, held = await world.guards[0].reviews.show(about["review"], by="Anna")
    assert held.parts[0].text == f"It is {UNSAFE}."  # type: ignore[union-attr]
    assert held.prompt == "hello"
    assert {name: held.metadata[name] for name in ("thread", "user", "tenant")} == OWNER
    assert review.tenant == "acme"
    assert review.stage == "output"


# ---------------------------------------------------------------- real processes


class Machine:
    """A moderator, a database, a checkpointer's place and a log, shared by real processes."""

    def __init__(self, server: FakeVLLM, folder: Path, saver: str, url: str, place: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.config = folder / "turnguard.yaml"
        self.config.write_text(
            f"moderator: {{base_url: '{server.base_url}'}}\nrecords: {{url: '{url}', key: '{KEY}'}}\n"
            "policy: {default: review}\n"
        )
        self.settings = {"config": str(self.config), "log": str(self.log), "saver": saver, "place": place}

    def agent(self, *script: Any, **more: Any) -> dict[str, Any]:
        """One process of the agent."""
        given = {
            **self.settings,
            "script": [dumpd(one) if isinstance(one, AIMessage) else one for one in script],
            **more,
        }
        told = self._run("-m", "tests.langchain.review_worker", json.dumps(given))
        result: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return result

    def command(self, *arguments: str) -> str:
        """`turnguard reviews` in a process of its own."""
        return self._run("-m", "turnguard", "reviews", *arguments, "--config", str(self.config)).stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=root, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    @property
    def happened(self) -> list[str]:
        """Each run of the tool and each call of the model, in order."""
        return self.log.read_text().splitlines()


@pytest.fixture(params=["sqlite", "postgresql", pytest.param("pickle", marks=pytest.mark.exhaustive)])
def machine(request: Any, tmp_path: Path) -> Any:
    with FakeVLLM() as server:
        server.when(UNSAFE, categories=["Violence"])
        if request.param == "postgresql":
            if not postgres.available():
                pytest.skip("PostgreSQL 15 is not installed here (scripts/debian_packages.sh)")
            with postgres.running() as running:
                yield Machine(server, tmp_path, "postgresql", running.url, running.url)
            return
        yield Machine(server, tmp_path, request.param, "sqlite:///turnguard.db", str(tmp_path / "checkpoints"))


@pytest.mark.timeout(400)
def test_asked_in_one_process_approved_on_the_command_line_gone_on_with_in_another(machine: Machine) -> None:
    paused = machine.agent(calls("cats"), result=RESULT)
    assert paused["asked"] is not None
    assert UNSAFE not in json.dumps(paused)
    (waiting,) = json.loads(machine.command("list", "--json"))
    assert waiting["id"] == paused["asked"]["turnguard"][0]["review"]
    assert RESULT in machine.command("show", waiting["id"], "--by", "Anna", "--json")
    machine.command("approve", waiting["id"], "--by", "Anna")
    done = machine.agent("Done.", result="another page", resume=STORED)
    assert done["asked"] is None
    assert ["tool", RESULT] in done["messages"], "the bytes that were judged and approved"
    assert done["messages"][-1] == ["ai", "Done."]
    assert machine.happened == ["model", "tool cats", "model"]
