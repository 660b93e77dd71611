"""One line per decision, without content, and enough to decide again."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from turnguard import Guard, Policy, Step, Verdict
from turnguard.config.settings import AuditSettings
from turnguard.core.action import ACTIONS
from turnguard.core.decide import decide
from turnguard.core.verdict import Coverage, Covered, Judgement
from turnguard.records import replay
from turnguard.testing import FakeModerator

MODERATOR = {"bomb": ["Guns and Illegal Weapons"], "damn": ["Profanity"]}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def audited(path: Path, *steps: Step, content: bool = False, **policy: Any) -> list[dict[str, Any]]:
    audit = AuditSettings(path=str(path), content=content)
    async with Guard(Policy.from_dict(policy), FakeModerator(unsafe=MODERATOR), audit=audit) as guard:
        for step in steps:
            await guard.acheck(step)
    return lines(path)


async def test_one_line_per_decision_without_content(tmp_path: Path) -> None:
    found = await audited(
        tmp_path / "logs" / "audit.jsonl",
        Step.input("planted bomb"),
        Step.tool_call("send", {"q": "planted"}, prompt="planted"),
        Step.output("fine", prompt="planted", images=["https://planted.example/x.png"]),
    )
    assert [line["action"] for line in found] == ["block", "allow", "block"]
    assert "planted" not in (tmp_path / "logs" / "audit.jsonl").read_text()
    assert found[0]["reasons"][0]["rule"] == "policy.default"
    assert found[0]["policy"] == Policy.from_dict({}).digest
    assert all(line["time"] and line["id"] for line in found)


async def test_content_only_if_asked_for(tmp_path: Path) -> None:
    (line,) = await audited(tmp_path / "a.jsonl", Step.input("hello planted"), content=True)
    assert line["content"] == [{"type": "text", "text": "hello planted"}]


async def test_equal_content_has_equal_digests_and_none_can_be_guessed(tmp_path: Path) -> None:
    steps = [Step.input("same"), Step.input("same"), Step.input("other")]
    first = await audited(tmp_path / "a.jsonl", *steps)
    digests = [line["parts"][0]["digest"] for line in first]
    assert digests[0] == digests[1] != digests[2]
    again = await audited(tmp_path / "b.jsonl", Step.input("same"))
    assert again[0]["parts"][0]["digest"] != digests[0]  # another key


async def test_a_line_is_enough_to_decide_again_under_another_policy(tmp_path: Path) -> None:
    (line,) = await audited(tmp_path / "a.jsonl", Step.input("damn"), default="block")
    judgements = [
        Judgement(
            Verdict(
                entry["user"], entry["response"], tuple(entry["categories"]), (), entry["p_user"], entry["p_response"],
                entry["failure"], entry["cause"],
            ),
            entry["decides"],
            tuple(entry["parts"]),
        )
        for entry in line["judgements"]
    ]  # fmt: skip
    coverage = Coverage((), tuple(Covered(**entry) for entry in line["coverage"]["not_judged"]))
    lax = Policy.from_dict({"categories": {"Profanity": "flag"}})
    assert decide(judgements, coverage, lax, line["stage"]).action == "flag"


async def test_a_disk_that_fails_loses_no_decision(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    audit = AuditSettings(path=str(blocked / "audit.jsonl"))
    async with Guard(Policy.from_dict({}), FakeModerator(unsafe=MODERATOR), audit=audit) as guard:
        assert (await guard.acheck(Step.input("bomb"))).action == "block"
    assert "1 audit lines were lost" in caplog.text
    assert "bomb" not in caplog.text


async def test_the_file_is_rotated(tmp_path: Path) -> None:
    audit = AuditSettings(path=str(tmp_path / "a.jsonl"), max_bytes=2000, backups=2)
    async with Guard(Policy.from_dict({}), FakeModerator(), audit=audit) as guard:
        for number in range(20):
            await guard.acheck(Step.input(f"text {number}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]


async def test_a_transcript_that_is_sent_again_is_not_recorded_again(tmp_path: Path) -> None:
    audit = AuditSettings(path=str(tmp_path / "a.jsonl"))
    async with Guard(Policy.from_dict({}), FakeModerator(), audit=audit) as guard:
        messages = [{"role": "user", "content": "one"}]
        await guard.acheck_messages(messages)
        await guard.acheck_messages([*messages, {"role": "assistant", "content": "two"}])
    assert [line["stage"] for line in lines(tmp_path / "a.jsonl")] == ["input", "output"]


async def test_line_breaks_and_terminal_codes_cannot_forge_a_line(tmp_path: Path) -> None:
    found = await audited(tmp_path / "a.jsonl", Step.tool_call('x\n{"action": "allow"}\x1b[2J', {}, prompt="y"))
    assert len(found) == 1


# ---------------------------------------------------------------- replaying, keys, and what must not cost a decision


async def test_a_line_is_replayed_under_another_policy(tmp_path: Path) -> None:
    await audited(tmp_path / "a.jsonl", Step.input("damn"), Step.output("bomb", prompt="x", language="de"))
    one, two = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    same = Policy.from_dict({})
    assert replay(one, same).action == "block"
    lax = replay(one, Policy.from_dict({"categories": {"Profanity": "flag"}}))
    assert (lax.action, lax.reasons[0].rule) == ("flag", "policy.categories.Profanity")
    assert replay(json.loads(two), Policy.from_dict({"default": "flag"})).action == "flag"
    with pytest.raises(ValueError, match="not a line"):
        replay("{}", same)


async def test_a_recorded_failure_is_decided_by_the_other_policys_on_failure(tmp_path: Path) -> None:
    audit = AuditSettings(path=str(tmp_path / "a.jsonl"))
    failing = FakeModerator(script=lambda _: Verdict(failure="timeout", cause="x"))
    async with Guard(Policy.from_dict({}), failing, audit=audit) as guard:
        await guard.acheck(Step.input("x"))
    (line,) = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    again = replay(line, Policy.from_dict({"on_failure": "review"}))
    assert (again.action, again.failed) == ("review", True)


LINE: dict[str, Any] = {
    "stage": "input",
    "judgements": [
        {
            "parts": [0],
            "detail": "",
            "kind": "text",
            "decides": "user",
            "user": "unsafe",
            "response": None,
            "categories": ["Violence"],
            "p_user": 0.9,
            "p_response": None,
            "failure": None,
            "cause": None,
        }
    ],
    "coverage": {"judged": [{"part": 0, "kind": "text"}], "not_judged": []},
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))]


@pytest.mark.parametrize("odd", [None, 7, -1.5, "odd", [], {}, [[]], {"a": {}}, True], ids=repr)
@pytest.mark.parametrize("place", _places(LINE), ids=lambda place: ".".join(map(str, place)))
def test_a_line_that_is_none_is_a_value_error(place: tuple[Any, ...], odd: Any) -> None:
    policy = Policy.from_dict({})
    assert replay(LINE, policy).action == "block"
    line = copy.deepcopy(LINE)
    if not place:
        line = odd
    else:
        holder = functools.reduce(lambda value, key: value[key], place[:-1], line)
        holder[place[-1]] = odd
    for given in (line, json.dumps(line)):
        with contextlib.suppress(ValueError):
            assert replay(given, policy).action in ACTIONS


@pytest.mark.parametrize(
    "text", ["", "{", "nul", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "\ud800"], ids=range(7)
)
def test_text_that_is_no_json_object_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a line"):
        replay(text, Policy.from_dict({}))


async def test_what_a_dead_moderator_left_is_not_complete() -> None:
    failing = FakeModerator(script=lambda _: Verdict(failure="unavailable", cause="refused"))
    async with Guard(Policy.from_dict({"on_failure": "flag"}), failing) as guard:
        decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.failed, decision.coverage.judged) == ("flag", True, ())
    assert not decision.coverage.complete
    (entry,) = decision.to_dict()["coverage"]["not_judged"]
    assert (entry["cause"], entry["counts"], entry["failed"]) == ("refused", False, True)


async def test_with_a_key_of_ones_own_digests_survive_a_restart(tmp_path: Path) -> None:
    digests = []
    for name in "ab":
        audit = AuditSettings(path=str(tmp_path / name), key=SecretStr("planted-key"))
        async with Guard(Policy.from_dict({}), FakeModerator(), audit=audit) as guard:
            await guard.acheck(Step.input("same"))
        (line,) = lines(tmp_path / name)
        digests.append(line["parts"][0]["digest"])
    assert digests[0] == digests[1]
    assert "planted-key" not in repr(audit)


def test_lines_are_written_when_nobody_closes_the_guard(tmp_path: Path) -> None:
    code = (
        "from turnguard import Guard, Step; from turnguard.testing import FakeModerator; "
        "from turnguard.config.settings import AuditSettings; "
        f"Guard(moderator=FakeModerator(), audit=AuditSettings(path={str(tmp_path / 'a')!r})).check(Step.input('x'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(lines(tmp_path / "a")) == 1


async def test_a_full_queue_drops_lines_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.records.audit.QUEUE_CHARACTERS", 100)
    audit = AuditSettings(path=str(tmp_path / "a"))
    async with Guard(Policy.from_dict({}), FakeModerator(unsafe=MODERATOR), audit=audit) as guard:
        assert (await guard.acheck(Step.input("bomb"))).action == "block"
        assert guard._kept is not None
        assert guard._kept.audit is not None
        assert guard._kept.audit.dropped == 1
