"""The doctor knows every family: a right set-up is all good, and each mismatch is named with the line to change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest

from tests.doctor.conftest import Examine, moderating
from turnguard.core.families import FAMILIES, recognised
from turnguard.testing import FakeVLLM

OWN = {"Competitor Mentions": {"definition": "Recommends a rival.", "disallowed": ["buy acme instead"]}}
SECONDS = "10s"


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def other(family: str) -> Iterator[FakeVLLM]:
    with FakeVLLM(family=family) as fake:
        fake.when(lambda chat: "buy acme" in chat.prompt and chat.taxonomy is not None, user="unsafe",
                  categories=["Competitor Mentions"])  # fmt: skip
        yield moderating(fake)


async def test_a_right_set_up_is_all_good(family: str, other: FakeVLLM, examined: Examine) -> None:
    found = await examined(base_url=other.base_url, family=family)
    statuses = {name: finding.status for name, finding in found.by_name.items()}
    assert statuses.pop("api_key") == "note"
    if not FAMILIES[family].images:
        assert statuses.pop("pictures") == "note"
        assert "images are uncheckable" in found.named("pictures", "note")
        assert not any(chat.chat and chat.chat.images for chat in other.chats)
    assert set(statuses.values()) == {"ok"}, found.by_name
    assert found.named("model", "ok").startswith("nemotron_moderator ")


@pytest.mark.parametrize(("family", "configured"), list(permutations(FAMILIES, 2)))
async def test_a_mismatch_is_named(family: str, configured: str, other: FakeVLLM, examined: Examine) -> None:
    found = await examined(base_url=other.base_url, family=configured)
    status = "note" if (family, configured) == ("nemotron-3.5", "nemotron-3") else "failed"
    assert f"Set moderator.family: {family}" in found.named("model", status)
    if {family, configured} != {"nemotron-3.5", "nemotron-3"}:
        assert "answers" in found.failed


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("nvidia/Nemotron-3-Content-Safety", "nemotron-3"),
        ("nvidia/nemotron-content-safety-vl-v4", "nemotron-3"),
        ("/models/Nemotron 3.5_Content.Safety", "nemotron-3.5"),
        ("nvidia/llama-3.1-nemotron-safety-guard-8b-v3", "nemotron-safety-guard-8b-v3"),
        ("meta-llama/llama-guard-4-12b:free", "llama-guard-4"),
        ("Qwen/Qwen3Guard-Gen-0.6B", "qwen3guard"),
        ("Qwen/Qwen3Guard-Stream-4B", None),
        ("meta-llama/Llama-Guard-3-8B", None),
        ("nvidia/Nemotron-Content-Safety-Reasoning-4B", None),
        ("google/gemma-3-4b-it", None),
    ],
)
def test_ids_are_recognised(model: str, name: str | None) -> None:
    found = recognised(model)
    assert (found.name if found else None) == name


async def test_reasoning_that_a_gateway_drops(examined: Examine) -> None:
    with FakeVLLM(family="nemotron-3.5") as fake, FakeVLLM(root="nvidia/Nemotron-3.5-Content-Safety") as deaf:
        settings = {"family": "nemotron-3.5", "reasoning": "always", "deadline": SECONDS}
        found = await examined(base_url=moderating(fake).base_url, **settings)
        assert "the trace is kept" in found.named("reasoning", "ok")
        assert found.failed == set()
        found = await examined(base_url=moderating(deaf).base_url, **settings)
        assert "enable_thinking" in found.named("reasoning")


async def test_own_categories_that_a_gateway_drops(examined: Examine) -> None:
    policy = {"custom": {name: {**one, "action": "flag"} for name, one in OWN.items()}}
    with FakeVLLM(family="nemotron-3.5") as fake, FakeVLLM(root="nvidia/Nemotron-3.5-Content-Safety") as deaf:
        unmoved = moderating(fake).base_url
        found = await examined(policy=policy, base_url=unmoved, family="nemotron-3.5")
        assert "is not named so" in found.named("own_categories", "note")
        fake.when(lambda chat: chat.taxonomy is not None and "acme" in chat.prompt, user="unsafe",
                  categories=["Competitor Mentions"])  # fmt: skip
        found = await examined(policy=policy, base_url=unmoved, family="nemotron-3.5")
        assert "is named so" in found.named("own_categories", "ok")
        found = await examined(policy=policy, base_url=moderating(deaf).base_url, family="nemotron-3.5")
        assert "custom_taxonomy" in found.named("own_categories")


async def test_a_policy_in_words_that_a_gateway_drops(examined: Examine) -> None:
    policy = {"custom_policy": "Evaluate the user prompt for compliance with the given policy.\nDisallowed:\n- insults"}
    with FakeVLLM(family="nemotron-3.5") as fake, FakeVLLM(root="nvidia/Nemotron-3.5-Content-Safety") as deaf:
        found = await examined(policy=policy, base_url=moderating(fake).base_url, family="nemotron-3.5")
        assert "reaches the model" in found.named("custom_policy", "ok")
        found = await examined(policy=policy, base_url=moderating(deaf).base_url, family="nemotron-3.5")
        assert "custom_policy" in found.named("custom_policy")
