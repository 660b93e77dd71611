"""A changed file is taken over as a whole between two checks, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from turnguard import ConfigError, Decision, Guard, Policy, Step
from turnguard.testing import FakeModerator, FakeVLLM


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        fake.when("damn", user="unsafe", categories=["Profanity"])
        fake.when("damn", response="unsafe", categories=["Profanity"], user="safe")
        fake.when(lambda chat: "damn" in chat.prompt, user="unsafe", categories=["Profanity"])
        yield fake


def write(folder: Path, server: FakeVLLM, policy: str, team: str = "{}", more: str = "") -> Path:
    path = folder / "turnguard.yaml"
    (folder / "team.yaml").write_text(f"policy: {team}\n", encoding="utf-8")
    path.write_text(
        f"moderator: {{base_url: {server.base_url}}}\npolicies: {{team: team.yaml}}\n{more}policy: {policy}\n",
        encoding="utf-8",
    )
    return path


STEP = Step.input("a damn question")


async def test_the_changed_file_is_taken_over(tmp_path: Path, server: FakeVLLM) -> None:
    async with Guard.from_yaml(write(tmp_path, server, "{default: block}")) as guard:
        assert (await guard.acheck(STEP)).action == "block"
        write(tmp_path, server, "{default: flag, messages: {default: {en: 'New words.'}}}", "{default: allow}")
        guard.reload()
        assert (await guard.acheck(STEP)).action == "flag"
        assert (await guard.acheck(STEP, policy="team")).action == "allow"
        asked = len(server.chats)
        assert asked == 1  # verdicts are remembered
        await guard.acheck_messages([{"role": "assistant", "content": "New words."}])
        assert len(server.chats) == asked


@pytest.mark.parametrize(
    ("policy", "team", "more", "told"),
    [
        ("{defalt: flag}", "{}", "", "unknown key 'defalt'"),
        ("{default: flag}", "{defalt: flag}", "", "team.yaml:1: policy.defalt"),
        ("{default: flag}", "{}", "checks: {history: 3}\n", "make a new guard for what has changed: checks"),
        ("{default: flag", "{}", "", "not valid YAML"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, server: FakeVLLM, policy: str, team: str, more: str, told: str
) -> None:
    async with Guard.from_yaml(write(tmp_path, server, "{default: block}")) as guard:
        before = (guard.policy, dict(guard.policies))
        write(tmp_path, server, policy, team, more)
        with pytest.raises(ConfigError) as caught:
            guard.reload()
        assert told in str(caught.value)
        assert (guard.policy, dict(guard.policies)) == before
        assert (await guard.acheck(STEP)).action == "block"


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, server: FakeVLLM) -> None:
    path = write(tmp_path, server, "{default: block}")
    async with Guard.from_yaml(path) as guard:
        path.unlink()
        with pytest.raises(ConfigError, match="no such file"):
            guard.reload()
        assert (await guard.acheck(STEP)).action == "block"


def test_a_guard_without_a_file_says_so() -> None:
    with pytest.raises(ConfigError, match="not read from a file"):
        Guard(Policy.from_dict({}), FakeModerator()).reload()
    with pytest.raises(ConfigError, match="no such file"):
        Guard.from_dict({"moderator": {"base_url": "http://localhost:1/v1"}}).reload()


async def test_concurrent_checks_are_each_decided_by_one_whole_policy(tmp_path: Path, server: FakeVLLM) -> None:
    """Action, message, shadow and digest are always those of the same file."""
    texts = {}
    for name, action in (("one", "block"), ("two", "review")):
        texts[name] = f"{{default: {action}, shadow: {name}.yaml, messages: {{default: {{en: 'Words {name}.'}}}}}}"
        shadow = "flag" if name == "one" else "allow"
        (tmp_path / f"{name}.yaml").write_text(f"policy: {{default: {shadow}}}\n")
    whole = {("block", "Words one.", "flag"), ("review", "Words two.", "allow")}

    def of(decision: Decision) -> tuple[str, str | None, str | None]:
        return decision.action, decision.message, None if decision.shadow is None else decision.shadow.action

    async with Guard.from_yaml(write(tmp_path, server, texts["one"])) as guard:
        digests: dict[str, set[tuple[str, str | None, str | None]]] = {}
        stop = asyncio.Event()

        async def single() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                decision = await guard.acheck(Step.input(f"damn {number % 7}"))
                digests.setdefault(decision.policy_digest, set()).add(of(decision))
                await asyncio.sleep(0)

        async def transcript() -> None:
            talk = [{"role": "user", "content": f"damn {number}"} for number in range(5)]
            while not stop.is_set():
                decisions = await guard.acheck_messages(talk)
                assert len({decision.policy_digest for decision in decisions}) == 1
                for decision in decisions:
                    digests.setdefault(decision.policy_digest, set()).add(of(decision))
                await asyncio.sleep(0)

        async def threads() -> None:
            while not stop.is_set():
                decision = await asyncio.to_thread(guard.check, STEP)
                digests.setdefault(decision.policy_digest, set()).add(of(decision))

        running = [asyncio.ensure_future(each()) for each in (single, single, transcript, threads)]
        for turn in range(40):
            write(tmp_path, server, texts["two" if turn % 2 == 0 else "one"])
            await asyncio.to_thread(guard.reload)
            await asyncio.sleep(0.005)
        stop.set()
        await asyncio.gather(*running)
    assert len(digests) == 2
    assert all(len(seen) == 1 for seen in digests.values())
    assert {next(iter(seen)) for seen in digests.values()} == whole


async def test_a_stream_ends_under_the_policy_that_it_began_with(tmp_path: Path, server: FakeVLLM) -> None:
    async with Guard.from_yaml(write(tmp_path, server, "{messages: {default: {en: 'Old words.'}}}")) as guard:

        async def chunks() -> AsyncIterator[str]:
            yield "fine so far. " * 20
            write(tmp_path, server, "{default: allow, messages: {default: {en: 'New words.'}}}")
            guard.reload()
            yield "damn"

        shown = [chunk async for chunk in guard.astream(chunks())]
        assert shown[-1] == "Old words."
        assert (await guard.acheck(STEP)).action == "allow"
