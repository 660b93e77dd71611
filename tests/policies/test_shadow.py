"""A policy that is only tried: decided from the same verdicts, with no request more and without any effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from turnguard import ConfigError, Guard, Policy, Step, Text
from turnguard.core.verdict import Verdict
from turnguard.testing import FakeModerator, FakeVLLM

WORDS = {"damn": ["Profanity"], "bomb": ["Guns and Illegal Weapons"]}


def policy(shadow: dict[str, Any], **live: Any) -> Policy:
    return Policy.from_dict({"shadow": "next.yaml", **live}, shadow=Policy.from_dict(shadow))


async def test_the_shadow_is_decided_from_the_same_verdicts() -> None:
    moderator = FakeModerator(WORDS)
    guard = Guard(policy({"categories": {"Profanity": "flag"}}), moderator)
    decision = await guard.acheck(Step.input("a damn question"))
    assert decision.action == "block"
    assert decision.shadow is not None
    assert decision.shadow.action == "flag"
    (reason,) = decision.shadow.reasons
    assert (reason.category, reason.rule) == ("Profanity", "policy.categories.Profanity")
    assert len(moderator.asked) == 1


async def test_without_one_there_is_none() -> None:
    decision = await Guard(Policy.from_dict({}), FakeModerator(WORDS)).acheck(Step.input("hello"))
    assert decision.shadow is None
    assert decision.to_dict()["shadow"] is None


async def test_it_is_frozen_and_in_the_dictionary() -> None:
    guard = Guard(policy({"default": "review"}, default="flag"), FakeModerator(WORDS))
    decision = await guard.acheck(Step.input("a damn question"))
    told = decision.to_dict()["shadow"]
    assert told["action"] == "review"
    assert told["reasons"][0]["rule"] == "policy.default"
    assert decision.shadow is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.shadow.action = "allow"  # type: ignore[misc]


@pytest.mark.parametrize("live", ["allow", "flag", "rewrite", "review", "block"])
@pytest.mark.parametrize("tried", ["allow", "flag", "rewrite", "review", "block"])
async def test_it_has_no_effect(live: str, tried: str) -> None:
    step = Step.input("a damn question")
    alone = await Guard(Policy.from_dict({"default": live}), FakeModerator(WORDS)).acheck(step)
    moderator = FakeModerator(WORDS)
    beside = await Guard(policy({"default": tried}, default=live), moderator).acheck(step)
    for changing in ("id", "latency", "policy_digest", "review_id"):
        beside = dataclasses.replace(beside, **{changing: getattr(alone, changing)})
    assert dataclasses.replace(beside, shadow=None) == alone
    assert beside.shadow is not None
    assert beside.shadow.action == tried
    assert len(moderator.asked) == len({exchange.prompt for exchange in moderator.asked})


async def test_a_failure_is_decided_by_the_shadows_own_rule() -> None:
    guard = Guard(
        policy({"on_failure": "flag"}), FakeModerator(script=lambda _: Verdict(failure="unavailable", cause="down"))
    )
    decision = await guard.acheck(Step.input("hello"))
    assert decision.action == "block"
    assert decision.shadow is not None
    assert decision.shadow.action == "flag"
    assert decision.shadow.reasons[0].kind == "failure"


async def test_what_cannot_be_judged_is_decided_by_the_shadows_own_rule() -> None:
    guard = Guard(policy({"on_uncheckable": {"image": "review"}}), FakeModerator())
    decision = await guard.acheck(Step.input("look", images=[b"no picture"]))
    assert decision.action == "block"
    assert decision.shadow is not None
    assert decision.shadow.action == "review"


async def test_each_part_and_each_message_has_its_own() -> None:
    guard = Guard(policy({"categories": {"Profanity": "flag"}}), FakeModerator(WORDS))
    step = Step("retrieval", (Text("damn"), Text("bomb"), Text("fine")))
    shadows = [decision.shadow for decision in await guard.acheck_parts(step)]
    assert [shadow and shadow.action for shadow in shadows] == ["flag", "block", "allow"]
    talk = [{"role": "user", "content": "damn"}, {"role": "assistant", "content": "bomb"}]
    for _ in range(2):
        shadows = [decision.shadow for decision in await guard.acheck_messages(talk)]
        assert [shadow and shadow.action for shadow in shadows] == ["flag", "block"]


async def test_a_named_policy_has_a_shadow_of_its_own() -> None:
    named = policy({"default": "allow"}, default="flag")
    guard = Guard(Policy.from_dict({}), FakeModerator(WORDS), policies={"team": named})
    assert (await guard.acheck(Step.input("damn"))).shadow is None
    shadow = (await guard.acheck(Step.input("damn"), policy="team")).shadow
    assert shadow is not None
    assert shadow.action == "allow"


def test_a_changed_shadow_changes_the_digest() -> None:
    assert policy({"default": "flag"}).digest != policy({"default": "block"}).digest


# ---------------------------------------------------------------- in the YAML


def write(folder: Path, live: str, tried: str | None = None) -> Path:
    path = folder / "turnguard.yaml"
    path.write_text(f"moderator: {{base_url: http://localhost:1/v1}}\npolicy:\n{live}", encoding="utf-8")
    if tried is not None:
        (folder / "next.yaml").write_text(tried, encoding="utf-8")
    return path


async def test_the_yaml_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "  shadow: next.yaml\n", "policy: {default: flag}\n")
    with FakeVLLM() as server:
        server.when("damn", user="unsafe", categories=["Profanity"])
        path.write_text(path.read_text().replace("http://localhost:1/v1", server.base_url))
        async with Guard.from_yaml(path) as guard:
            decision = await guard.acheck(Step.input("a damn question"))
    assert decision.action == "block"
    assert decision.shadow is not None
    assert decision.shadow.action == "flag"


@pytest.mark.parametrize(
    ("live", "tried", "told"),
    [
        ("  shadow: next.yaml\n", None, "turnguard.yaml:3: policy.shadow: next.yaml: cannot be read"),
        ("  shadow: next.yaml\n", "policy:\n  defalt: flag\n", "next.yaml:2: policy.defalt: unknown key"),
        ("  shadow: next.yaml\n", "policy: {shadow: next.yaml}\n", "a shadow has no shadow of its own"),
        ("  shadow: turnguard.yaml\n", None, "unknown key 'moderator'"),
        ("  shadow: ''\n", None, "turnguard.yaml:3: policy.shadow"),
        (
            "  shadow: next.yaml\n  on_uncheckable: block\n",
            "policy: {}\n",
            "the shadow trims a document that is too long to be judged whole (stage retrieval)",
        ),
    ],
)
def test_what_cannot_be_a_shadow_is_an_error_at_load(tmp_path: Path, live: str, tried: str | None, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard.from_yaml(write(tmp_path, live, tried))
    assert told in str(caught.value)


def test_a_shadow_calibrated_for_another_family_is_an_error_at_load(tmp_path: Path) -> None:
    curve = '{"turnguard_calibration": 1, "family": "another", "sides": {"user": {"all": {"method": "identity"}}}}'
    (tmp_path / "curve.json").write_text(curve)
    path = write(tmp_path, "  shadow: next.yaml\n", "policy: {calibration: curve.json}\n")
    with pytest.raises(ConfigError, match=r"next\.yaml:1: policy\.calibration: curve\.json was measured on the family"):
        Guard.from_yaml(path)


def test_a_shadow_whose_rules_need_categories_is_an_error_where_none_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "  shadow: next.yaml\n", "policy: {categories: {Profanity: flag}}\n")
    path.write_text(path.read_text().replace("/v1}", "/v1, categories: never}"))
    with pytest.raises(ConfigError, match=r"next\.yaml:1: policy\.categories\.Profanity: this rule can never fire"):
        Guard.from_yaml(path)


def test_a_name_alone_reads_no_file() -> None:
    with pytest.raises(ConfigError, match=r"policy\.shadow: names a file that was not read"):
        Policy.from_dict({"shadow": "next.yaml"})
