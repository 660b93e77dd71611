"""Holes that a review of the core found, each as it was shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_guard import png
from typer.testing import CliRunner

from turnguard import ConfigError, Guard, Policy, Step, Text, Verdict
from turnguard.cli.app import app
from turnguard.config.settings import MediaSettings
from turnguard.core.exchange import Exchange
from turnguard.core.step import Image, ToolCall
from turnguard.moderators.base import Deadline
from turnguard.moderators.memory import Remembering
from turnguard.testing import FakeModerator, FakeVLLM


def guarded(moderator: FakeModerator, policy: dict[str, Any] | None = None, **options: Any) -> Guard:
    return Guard(Policy.from_dict(policy or {}), moderator, **options)


async def test_a_slow_image_does_not_let_the_text_beside_it_pass() -> None:
    guard = guarded(FakeModerator(unsafe=["bomb"]), media=MediaSettings(deadline=1e-6))
    decisions = await guard.acheck_parts(Step("input", (Text("make a bomb"), Image(png()))))
    assert [(decision.action, decision.failed) for decision in decisions] == [("block", True), ("block", True)]


async def test_a_picture_that_the_rewrite_dropped_does_not_come_back_by_parts() -> None:
    def script(exchange: Exchange) -> Verdict | None:
        return Verdict("unsafe") if exchange.picture is not None or "bomb" in exchange.prompt else None

    step = Step("input", (Text("a bomb"), Image(png())))
    guard = guarded(FakeModerator(script=script), {"default": "rewrite"})
    whole = await guard.acheck(step)
    parts = await guard.acheck_parts(step)
    assert whole.parts[1] is None
    assert [decision.action for decision in parts] == ["rewrite", "rewrite"]
    assert parts[1].content == ()


@pytest.mark.parametrize("label", ["UNSAFE", "Safe", "", "maybe", True])
async def test_a_label_of_another_spelling_is_no_verdict(label: Any) -> None:
    guard = guarded(FakeModerator(script=lambda _: Verdict(user=label)))
    decision = await guard.acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("block", True)


@pytest.mark.parametrize("p", [float("nan"), float("inf"), -0.1, 7.0])
async def test_what_is_no_probability_counts_as_none(p: float) -> None:
    policy = {"stages": {"input": {"unsafe_above": 0.2}}}
    decision = await guarded(FakeModerator(script=lambda _: Verdict("safe", p_user=p)), policy).acheck(Step.input("x"))
    assert (decision.action, decision.failed) == ("block", True)


async def test_a_verdict_without_the_deciding_label_is_not_remembered() -> None:
    inner = FakeModerator(script=lambda _: Verdict("safe"))
    memory = Remembering(inner)
    for _ in range(2):
        await memory.judge(Exchange("a", response="b"), Deadline.after(5.0))
    assert len(inner.asked) == 2


def _deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"q": "x"}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "step",
    [
        Step("tool_call", (ToolCall("f", _deep(3000)),)),
        Step("tool_call", (ToolCall("f", {"n": 10**5000}),)),
        Step.input("look data:image/png,aaaa%41\ud800 and on " + "x" * 100),
        Step.input("look", images=["data:image/png,\ud800"]),
        Step.output("\ud800" * 100, prompt="\udfff"),
    ],
    ids=["deep", "number", "surrogate in a URI in text", "surrogate in an image", "surrogates"],
)
async def test_no_content_raises_out_of_a_check(step: Step) -> None:
    decision = await guarded(FakeModerator(unsafe=["\ufffd", "aaaa"])).acheck(step)
    assert decision.action in ("allow", "block")
    if step.stage == "tool_call":
        assert decision.action == "block"


@pytest.mark.parametrize("models", ['{"data": 5}', "[]", '{"data": [5]}', '{"data": {"id": 1}}', "null"])
async def test_an_odd_list_of_models_breaks_no_check(models: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from turnguard.moderators.vllm import VLLMModerator

    async def sent(self: VLLMModerator, method: str, *_args: Any) -> tuple[int, bytes, None]:
        return 200, models.encode(), None

    monkeypatch.setattr(VLLMModerator, "_send", sent)
    about = await VLLMModerator("http://127.0.0.1:1/v1").about(Deadline.after(5.0))
    assert about.max_model_len is None


async def test_new_weights_under_the_old_name_are_asked_anew() -> None:
    with FakeVLLM() as fake:
        async with Guard.from_dict({"moderator": {"base_url": fake.base_url}}) as guard:
            from turnguard.moderators.vllm import VLLMModerator

            await guard.acheck(Step.input("hello"))
            endpoint = _leaf(guard.moderator)
            assert isinstance(endpoint, VLLMModerator)
            endpoint._identity.of("another server altogether")
            assert not (await guard.acheck(Step.input("hello"))).remembered


def _leaf(moderator: Any) -> Any:
    while hasattr(moderator, "inner"):
        moderator = moderator.inner
    return moderator.endpoints[0].moderator


def test_a_value_from_the_environment_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "sk-planted")
    path = tmp_path / "turnguard.yaml"
    path.write_text("moderator: {base_url: 'http://h/v1', categories: '${SECRET}'}\n")
    with pytest.raises(ConfigError, match="came from the environment") as error:
        Guard.from_yaml(path)
    assert "planted" not in str(error.value)


@pytest.mark.parametrize("url", ["https://user:s3cret@cdn.example.com/x", "https://cdn.example.com/x?token=s3cret"])
def test_credentials_in_an_allowed_address_are_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"cdn\.example\.com") as error:
        guarded(FakeModerator(), media=MediaSettings(allow_urls=(url,)))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("value", ["${TURNGUARD-KEY}", "${}", "${A", "${A:-${B}}"])
def test_a_variable_that_cannot_be_read_is_an_error(value: str, tmp_path: Path) -> None:
    path = tmp_path / "turnguard.yaml"
    path.write_text(f"moderator: {{base_url: 'http://h/v1', api_key: '{value}'}}\n")
    with pytest.raises(ConfigError, match="names no environment variable"):
        Guard.from_yaml(path)


def test_a_failure_beside_a_block_still_exits_with_3(tmp_path: Path) -> None:
    with FakeVLLM() as fake:
        from turnguard.testing import faults

        fake.when("bomb", user="unsafe")
        fake.fail(faults.content("garbage"), when="word0")
        path = tmp_path / "turnguard.yaml"
        path.write_text(f"moderator: {{base_url: '{fake.base_url}'}}\npolicy: {{on_failure: flag}}\n")
        text = " ".join(f"word{number}" for number in range(3000)) + " bomb"
        result = CliRunner().invoke(app, ["check", "-c", str(path), text], standalone_mode=False)
    assert result.return_value == 3


async def test_a_check_of_hostile_text_stays_short() -> None:
    started = time.process_time()
    await guarded(FakeModerator()).acheck(Step.input("{" * 5000 + "<" * 5000 + "\\u" * 5000))
    assert time.process_time() - started < 5.0
