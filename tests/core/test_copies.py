"""Settings travel between processes, connections do not."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import pytest
from openai import AsyncOpenAI

from turnguard import Guard, Policy, Step
from turnguard.testing import FakeModerator, FakeVLLM


def settings(fake: FakeVLLM) -> dict[str, Any]:
    rules = {"default": "block", "categories": {"Profanity": "flag"}}
    return {"moderator": {"base_url": fake.base_url, "deadline": "20s"}, "policy": rules}


def travelled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - made a moment before


def test_a_guard_in_another_process_decides_alike(fake: FakeVLLM) -> None:
    fake.when("damn", categories=["Profanity"], p=0.9)
    fake.when("bomb", categories=["Violence"], p=0.9)
    guard = Guard.from_dict(settings(fake))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        asked = [Step.input(text, language="en") for text in ("hello", "damn", "bomb")]
        there = pool.map(guard.check, asked)
    assert [decision.action for decision in there] == ["allow", "flag", "block"]
    assert [guard.check(step).action for step in asked] == ["allow", "flag", "block"]
    guard.close()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, travelled], ids=["copy", "deepcopy", "pickle"])
def test_a_copy_has_connections_of_its_own(fake: FakeVLLM, how: Any) -> None:
    guard = Guard.from_dict(settings(fake))
    other = how(guard)
    guard.close()
    assert other.check(Step.input("hello")).action == "allow"
    assert other.policy == guard.policy
    other.close()


async def test_what_no_settings_describe_is_refused_with_a_sentence(fake: FakeVLLM) -> None:
    async with AsyncOpenAI(base_url=fake.base_url, api_key="none") as client:
        for guard in (Guard(moderator=FakeModerator()), Guard.from_dict(settings(fake), client=client)):
            with pytest.raises(TypeError, match=r"make one in each process, such as Guard\.from_yaml"):
                pickle.dumps(guard)
            await guard.aclose()


def test_policies_decisions_and_steps_travel() -> None:
    policy = Policy.from_dict({"default": "block", "categories": {"Profanity": "flag"}})
    assert travelled(policy) == policy
    guard = Guard(policy, FakeModerator(unsafe={"bomb": ["Violence"]}))
    step = Step.input("a bomb", language="en")
    decision = guard.check(step)
    assert travelled((step, decision)) == (step, decision)
    guard.close()


@pytest.mark.parametrize("chunks", ["hello", ["hello"], None, 3])
async def test_a_stream_of_something_else_is_a_type_error(chunks: Any) -> None:
    async with Guard(moderator=FakeModerator()) as guard:
        with pytest.raises(TypeError, match="an asynchronous iterable of str, not"):
            guard.astream(chunks)
