"""Colang 2.x carries text, pictures in the input, one turn; what it cannot carry raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nemoguardrails import LLMRails, RailsConfig

from tests.nemo.lab import BAD, BLUE, POLICY, QUIET, RED, REFUSAL, UNSAFE, Main, assistant, leaks, sees, user
from turnguard import ConfigError
from turnguard.moderators.memory import Remembering
from turnguard.nemo import guard_of
from turnguard.testing import FakeModerator

pytestmark = QUIET

FLOWS = """
import core
import guardrails
import turnguard.nemo.v2

flow main
  activate answering

flow answering
  global $user_message
  user said something
  $answer = await PassthroughLLMAction(user_message=$user_message)
  bot say $answer

flow input rails $input_text
  turnguard check input

flow output rails $output_text
  turnguard check output
"""


class Lab2:
    """A Colang 2.x app whose moderator is scripted."""

    def __init__(self, *replies: str, **settings: Any) -> None:
        inline = {
            "moderator": {"base_url": "http://127.0.0.1:9/v1"},
            "policy": {**POLICY, "messages": {"default": {"en": REFUSAL}, "Violence": {"en": REFUSAL}}},
        }
        yaml = {"colang_version": "2.x", "models": [], "custom_data": {"turnguard": inline}, **settings}
        self.main = Main(*(replies or ("fine",)))
        self.rails = LLMRails(RailsConfig.from_content(FLOWS, json.dumps(yaml)), llm=self.main)
        self.moderator = FakeModerator(UNSAFE, script=sees)
        guard = guard_of(self.rails)
        # the settings cannot name a scripted moderator
        guard.moderator = Remembering(self.moderator)

    async def say(self, *messages: dict[str, Any], **options: Any) -> Any:
        """One turn."""
        return await self.rails.generate_async(messages=list(messages), **options)


async def test_a_safe_turn_passes() -> None:
    lab = Lab2()
    answer = await lab.say(user("hi"))
    assert answer["content"] == "fine", lab.main.prompts


async def test_unsafe_input_is_refused_and_never_reaches_the_main_model() -> None:
    for message in (user(BAD), user("look", RED)):
        lab = Lab2()
        answer = await lab.say(message)
        assert answer["content"] == REFUSAL
        assert lab.main.prompts == []
        assert len(lab.moderator.asked) == 1


async def test_a_safe_image_reaches_the_rail_and_passes() -> None:
    lab = Lab2()
    await lab.say(user("look", BLUE))
    assert [(each.prompt, each.picture is not None) for each in lab.moderator.asked[:1]] == [("look", True)]


async def test_unsafe_output_is_refused() -> None:
    lab = Lab2(f"a {BAD}")
    answer = await lab.say(user("hi"))
    assert answer["content"] == REFUSAL
    assert not leaks(answer)


async def test_a_rewrite_is_what_the_main_model_and_the_caller_get() -> None:
    lab = Lab2("it is 4111-1111")
    answer = await lab.say(user("my card is 4111-1111"))
    assert lab.main.prompts
    assert "4111-1111" not in lab.main.seen
    assert "4111-1111" not in answer["content"]


async def test_consecutive_user_messages_are_all_judged() -> None:
    lab = Lab2()
    answer = await lab.say(user(BAD), user("please"))
    assert not leaks(lab.main.seen)
    assert REFUSAL in answer["content"]


@pytest.mark.parametrize("messages", [[user("hi"), assistant("x"), user("hi")]])
async def test_a_history_raises(messages: Any) -> None:
    with pytest.raises(ValueError, match="not supported for Colang 2"):
        await Lab2().say(*messages)


async def test_streaming_raises() -> None:
    with pytest.raises(ValueError, match=r"do not stream with Colang 2\.x"):
        Lab2().rails.stream_async(messages=[user("hi")])


async def test_rails_exceptions() -> None:
    lab = Lab2(enable_rails_exceptions=True)
    answer = await lab.say(user(BAD))
    assert answer["events"][0]["type"] == "TurnguardInputRailException"
    assert answer["events"][0]["message"] == REFUSAL
    assert lab.main.prompts == []


@pytest.mark.parametrize(
    "message", [{"role": "context", "content": {"relevant_chunks": "x"}}, {"role": "tool", "content": "x"}]
)
async def test_chunks_and_tool_results_raise(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"with Colang 2\.x"):
        await Lab2().say(message, user("hi"))


def test_settings_without_a_flow_that_runs_ours() -> None:
    unused = FLOWS.partition("flow input rails")[0].replace("flow main", "# turnguard check input\nflow main")
    yaml = {"colang_version": "2.x", "models": []}
    inline = {"turnguard": {"moderator": {"base_url": "http://127.0.0.1:9/v1"}}}
    with pytest.raises(ConfigError, match=r"none of Turnguard's flows is listed.*main\.co"):
        LLMRails(RailsConfig.from_content(unused, json.dumps({**yaml, "custom_data": inline})), llm=Main("fine"))


async def test_only_the_rails_that_are_run_judge() -> None:
    flows = FLOWS.replace("  turnguard check input\n", "  pass\n")
    yaml = {"colang_version": "2.x", "models": []}
    inline = {"turnguard": {"moderator": {"base_url": "http://127.0.0.1:9/v1"}, "policy": POLICY}}
    main = Main(f"a {BAD}")
    rails = LLMRails(RailsConfig.from_content(flows, json.dumps({**yaml, "custom_data": inline})), llm=main)
    moderator = FakeModerator(UNSAFE, script=sees)
    guard_of(rails).moderator = Remembering(moderator)
    answer = await rails.generate_async(messages=[user("hi")])
    assert answer["content"] == REFUSAL
    assert [each.stage for each in moderator.asked] == ["output"]


def test_tool_rails_are_refused_at_load() -> None:
    with pytest.raises(ConfigError, match=r"not supported with Colang 2\.x"):
        Lab2(rails={"tool_output": {"flows": ["turnguard check tool call"]}})
