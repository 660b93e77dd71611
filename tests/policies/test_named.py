"""Many policies on one guard: each check is decided by the one that it names, over one moderator and one memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from turnguard import ConfigError, Decision, Guard, Policy, Step
from turnguard.testing import FakeModerator, FakeVLLM

STEP = Step.input("a damn question")
MESSAGES = [{"role": "user", "content": "a damn question"}]


def make(moderator: FakeModerator | None = None) -> Guard:
    return Guard(
        Policy.from_dict({"default": "block"}),
        moderator or FakeModerator({"damn": ["Profanity"]}),
        policies={
            "lax": Policy.from_dict(
                {"categories": {"Profanity": "flag"}, "messages": {"default": {"en": "Lax says no."}}}
            ),
            "laxer": Policy.from_dict({"default": "allow"}),
        },
    )


async def chunks(text: str) -> AsyncIterator[str]:
    for word in text.split(" "):
        yield word + " "


async def acheck(guard: Guard, policy: str | None) -> Decision:
    return await guard.acheck(STEP, policy=policy)


async def check(guard: Guard, policy: str | None) -> Decision:
    return await asyncio.to_thread(guard.check, STEP, policy=policy)


async def parts(guard: Guard, policy: str | None) -> Decision:
    return (await guard.acheck_parts(STEP, policy=policy))[0]


async def messages(guard: Guard, policy: str | None) -> Decision:
    return (await guard.acheck_messages(MESSAGES, policy=policy))[0]


async def messages_sync(guard: Guard, policy: str | None) -> Decision:
    return (await asyncio.to_thread(guard.check_messages, MESSAGES, policy=policy))[0]


async def guarded(guard: Guard, policy: str | None) -> Decision:
    return (await guard.aguard_messages(MESSAGES, policy=policy))[1][0]


async def guarded_sync(guard: Guard, policy: str | None) -> Decision:
    return (await asyncio.to_thread(guard.guard_messages, MESSAGES, policy=policy))[1][0]


async def stream(guard: Guard, policy: str | None) -> Decision:
    shown = guard.astream(chunks("a damn answer"), policy=policy)
    async for _ in shown:
        pass
    assert shown.decision is not None
    return shown.decision


async def beside(guard: Guard, policy: str | None) -> Decision:
    async def call() -> str:
        return "an answer"

    return (await guard.abeside(STEP, call, policy=policy))[0]


WAYS: list[Callable[[Guard, str | None], Awaitable[Decision]]] = [
    acheck, check, parts, messages, messages_sync, guarded, guarded_sync, stream, beside,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_each_check_is_decided_by_the_policy_that_it_names(
    way: Callable[[Guard, str | None], Awaitable[Decision]],
) -> None:
    moderator = FakeModerator({"damn": ["Profanity"]})
    guard = make(moderator)
    for _ in range(2):  # the second time from memory
        for name, action in ((None, "block"), ("lax", "flag"), ("laxer", "allow")):
            decision = await way(guard, name)
            assert decision.action == action
            assert decision.policy_digest == guard.chosen(name).digest
    assert len(moderator.asked) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_an_unknown_name_is_an_error_before_anything_is_asked(
    way: Callable[[Guard, str | None], Awaitable[Decision]],
) -> None:
    moderator = FakeModerator()
    with pytest.raises(ConfigError, match="unknown policy 'Lax', did you mean 'lax'"):
        await way(make(moderator), "Lax")
    assert not moderator.asked


async def test_beside_an_unknown_name_does_not_call_the_model_either() -> None:
    called = False

    async def call() -> None:
        nonlocal called
        called = True

    with pytest.raises(ConfigError):
        await make().abeside(STEP, call, policy="nobody")
    assert not called


async def test_a_guard_without_named_policies_says_so() -> None:
    guard = Guard(Policy.from_dict({}), FakeModerator())
    assert guard.policies == {}
    with pytest.raises(ConfigError, match="the guard has none"):
        await guard.acheck(STEP, policy="team-a")


async def test_what_is_no_name_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="by its name, not by int"):
        await make().acheck(STEP, policy=5)  # type: ignore[arg-type]


async def test_a_withheld_text_has_the_notice_of_its_policy() -> None:
    notice = "Removed by team A."
    team = Policy.from_dict({"messages": {"removed": {"en": notice}, "default": {"en": "Team A refuses."}}})
    guard = Guard(Policy.from_dict({}), FakeModerator({"damn": ["Profanity"]}), policies={"a": team})
    made, decisions = await guard.aguard_messages(MESSAGES, policy="a")
    assert made[0]["content"] == notice
    assert decisions[0].message == "Team A refuses."
    assert await guard.arefusal(decisions[0], policy="a") == "Team A refuses."
    plain, _ = await guard.aguard_messages(MESSAGES)
    assert plain[0]["content"] not in ("", notice)


async def test_the_messages_of_every_policy_are_recognised_as_our_own() -> None:
    moderator = FakeModerator()
    guard = make(moderator)
    await guard.acheck_messages([{"role": "assistant", "content": "Lax says no."}])
    assert not moderator.asked


async def test_no_decision_of_one_policy_is_taken_for_anothers_in_a_transcript() -> None:
    guard = make()
    talk = [*MESSAGES, {"role": "assistant", "content": "no"}, {"role": "user", "content": "damn again"}]
    for _ in range(3):
        for name, action in ((None, "block"), ("lax", "flag"), ("laxer", "allow")):
            decided = [decision.action for decision in await guard.acheck_messages(talk, policy=name)]
            assert decided == [action, "allow", action]


async def test_policies_that_take_turns_do_not_evict_each_others_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = make()
    for name in (None, "lax"):
        await guard.acheck_messages(MESSAGES, policy=name)
    read: list[Any] = []
    monkeypatch.setattr("turnguard.transcripts.check.read_message", read.append)
    for name in (None, "lax", None, "lax"):
        await guard.acheck_messages(MESSAGES, policy=name)
    assert not read


# ---------------------------------------------------------------- in the YAML


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / "turnguard.yaml"


async def test_the_yaml_names_files_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    write(tmp_path / "policies", team="policy: {categories: {Profanity: flag}}\n")
    with FakeVLLM() as server:
        path = write(
            tmp_path,
            turnguard=f"moderator: {{base_url: {server.base_url}}}\npolicies: {{team-a: policies/team.yaml}}\n",
        )
        async with Guard.from_yaml(path) as guard:
            assert list(guard.policies) == ["team-a"]
            assert (await guard.acheck(Step.input("hello"), policy="team-a")).allowed
            assert guard.policies["team-a"].stages["input"].rule("Profanity").action == "flag"
            assert guard.policy.stages["input"].rule("Profanity").action == "block"


@pytest.mark.parametrize(
    ("team", "told"),
    [
        ("policy:\n  categories:\n    Profanit: flag\n", "team.yaml:3: policy.categories.Profanit: unknown category"),
        ("policy: {defalt: flag}\n", "team.yaml:1: policy.defalt: unknown key 'defalt', did you mean 'default'"),
        ("moderator: {}\npolicy: {}\n", "team.yaml:1: moderator: unknown key"),
        ("default: flag\n", "team.yaml:1: default: unknown key"),
        ("policy: {messages: {default: {en: '${NOT_SET_HERE}'}}}\n", "NOT_SET_HERE is not set"),
        ("policy: {calibration: nowhere.json}\n", "nowhere.json: cannot be read"),
        ("policy: [\n", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_named_policy_is_told_with_its_file_and_line(tmp_path: Path, team: str, told: str) -> None:
    path = write(
        tmp_path, turnguard="moderator: {base_url: http://localhost:1/v1}\npolicies: {a: team.yaml}\n", team=team
    )
    with pytest.raises(ConfigError) as caught:
        Guard.from_yaml(path)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, turnguard="moderator: {base_url: http://localhost:1/v1}\npolicies: {a: team.yaml}\n")
    with pytest.raises(ConfigError, match=r"team\.yaml: cannot be read"):
        Guard.from_yaml(path)


def test_rules_about_categories_are_idle_in_a_named_policy_too(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        turnguard="moderator: {base_url: http://localhost:1/v1, categories: never}\npolicies: {a: team.yaml}\n",
        team="policy: {categories: {Profanity: flag}}\n",
    )
    with pytest.raises(ConfigError, match=r"team\.yaml:1: policy\.categories\.Profanity: this rule can never fire"):
        Guard.from_yaml(path)
