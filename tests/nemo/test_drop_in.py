"""What the rails leave as the engine and the user made it, and what loading refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.exceptions import InvalidRailsConfigurationError, InvalidStateError, StreamingNotSupportedError

from tests.nemo.lab import BAD, OTHER, POLICY, QUIET, REFUSAL, Lab, Main, assistant, called, result, user
from tests.nemo.test_loading import DROP_IN, folder, load, refused
from turnguard import ConfigError
from turnguard.nemo import checked_rails, guard_of
from turnguard.testing import FakeVLLM

pytestmark = QUIET

GREETING = """
define user greet
  "hello"

define bot greet
  "Hello, {{ name }}!"

define bot ask feeling
  "How are you?"

define flow
  user greet
  $name = execute get_name
  bot greet
  bot ask feeling
"""


def greeting(name: str, **settings: Any) -> Lab:
    """A dialog with two predefined messages, one of which has a variable."""
    lab = Lab("  express greeting", colang=GREETING, passthrough=False, stages=["input", "output"], **settings)
    lab.main._llm_responses = [*Main("  greet")._llm_responses]

    async def get_name() -> str:
        return name

    lab.rails.register_action(get_name, "get_name")
    return lab


@pytest.fixture(autouse=True)
def no_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dialog flows would download a model; examples in prompts are not what is tested."""
    from nemoguardrails.actions.llm.generation import LLMGenerationActions

    async def nothing(self: Any) -> None:
        return None

    for name in ("_ensure_user_message_index", "_ensure_bot_message_index", "_ensure_flows_index"):
        if hasattr(LLMGenerationActions, name):
            monkeypatch.setattr(LLMGenerationActions, name, nothing)


async def test_no_bot_message_is_lost() -> None:
    lab = greeting("Ada")
    assert await lab.say(user("hello")) == assistant("Hello, Ada!\nHow are you?")
    assert ("hello", "Hello, Ada!\nHow are you?", False) in lab.asked, "what the variable was filled with is judged"
    assert await greeting(f"a {BAD}").say(user("hello")) == assistant(REFUSAL)


async def test_a_users_own_generate_bot_message_is_kept(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "actions.py").write_text(
        "from nemoguardrails.actions import action\n"
        "from nemoguardrails.actions.actions import ActionResult\n\n"
        "@action(name='generate_bot_message', is_system_action=True)\n"
        "async def generate_bot_message(events, context):\n"
        "    return ActionResult(events=[{'type': 'BotMessage', 'text': 'mine'}])\n"
    )
    rails = load(path)
    registered = rails.runtime.action_dispatcher.get_action("generate_bot_message")
    assert registered.__module__ != "turnguard.nemo.engine"
    assert not hasattr(registered, "__self__"), "it is the user's function, no method of NeMo's or ours"


@pytest.mark.parametrize("listed", [(), ("tool_result",)], ids=["without our tool rail", "with it"])
async def test_a_users_own_input_rail_is_shown_no_tool_results(listed: Any) -> None:
    seen: list[Any] = []
    lab = Lab(
        stages=["input", "output", *listed],
        colang="define flow look\n  $nothing = execute look(text=$user_message)\n",
        rails={"input": {"flows": ["look"]}},
    )

    async def look(text: Any) -> None:
        seen.append(text)

    lab.rails.register_action(look, "look")
    assert await lab.say(user("go"), called(), result("a desktop")) == assistant("fine")
    if not listed:
        assert "a desktop" not in repr(seen)
    assert ("a desktop", None, False) in lab.asked
    assert await lab.say(user("go"), called(), result(BAD)) == assistant(REFUSAL)
    assert BAD not in repr(seen)


def test_two_configurations_with_a_policy_each(tmp_path: Path) -> None:
    one, two, bare = (tmp_path / name for name in ("one", "two", "bare"))
    for path in (one, two, bare):
        path.mkdir()
    folder(one)
    folder(two, DROP_IN.replace("turnguard: turnguard.yaml", "turnguard: {moderator: {base_url: 'http://x/v1'}}"), None)
    folder(bare, "models: []\n", None)
    configs = [RailsConfig.from_path(str(path)) for path in (one, two, bare)]
    for config in (configs[0] + configs[1], configs[1] + configs[0]):
        with pytest.raises(ConfigError, match="keep one of them"):
            LLMRails(config, llm=Main("fine"))
    LLMRails(configs[0] + configs[2], llm=Main("fine"))
    LLMRails(configs[2] + configs[0], llm=Main("fine"))


@pytest.mark.parametrize(
    "rails",
    ["rails: {input: {flow: [turnguard check input]}}", "input: {flows: [turnguard check input]}", ""],
    ids=["flow for flows", "at the top", "none"],
)
def test_settings_without_any_flow_of_ours(rails: str, tmp_path: Path) -> None:
    head = DROP_IN.partition("rails:\n")[0]
    sentence = refused(folder(tmp_path, f"{head}{rails}\n"))
    assert "none of Turnguard's flows is listed" in sentence


async def test_a_flow_of_ones_own_that_runs_our_action_counts(tmp_path: Path) -> None:
    head = DROP_IN.partition("rails:\n")[0]
    (tmp_path / "own.co").write_text("define flow\n  event Asked\n  $seen = execute turnguard_check_input\n")
    load(folder(tmp_path, head))


def test_errors_at_load_are_nemos_own_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidRailsConfigurationError, match="does not exist"):
        load(folder(tmp_path, settings=None))


async def test_errors_of_requests_are_nemos_own() -> None:
    lab = Lab(trusted=())
    event = {"role": "event", "event": {"type": "UserMessage", "text": "hi"}}
    for request in ({"messages": [event]}, {"messages": [user("hi")], "state": {"events": [event["event"]]}}):
        with pytest.raises(InvalidStateError):
            await lab.rails.generate_async(**request)
    with pytest.raises(InvalidStateError, match="input rails"):
        await lab.say(user("hi"), options={"rails": {"input": False}})
    with pytest.raises(StreamingNotSupportedError):
        await lab.say(user("hi"), streaming_handler=object())


async def test_the_server_tells_what_it_does_not_take() -> None:
    httpx = pytest.importorskip("httpx")
    api = pytest.importorskip("nemoguardrails.server.api", reason="the nemo-server extra is not installed")
    api.llm_rails_instances["told:main"] = Lab(trusted=()).rails
    switches = {"config_id": "told", "options": {"rails": {"input": False}}}
    body = {"model": "main", "messages": [user("hi")], "guardrails": switches}
    transport = httpx.ASGITransport(app=api.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 422
    assert "switches off the input rails" in answer.text


async def test_a_subclass_with_arguments_of_its_own() -> None:
    class Own(LLMRails):  # type: ignore[misc] # NeMo is not typed for us
        async def generate_async(self, prompt: Any = None, messages: Any = None, *, tag: str = "", **more: Any) -> Any:
            self.tag = tag
            return await super().generate_async(prompt, messages, **more)

    lab = Lab()
    rails = Own(lab.rails.config, llm=lab.main)
    assert (await rails.generate_async(messages=[user("hi")], tag="x"))["content"]
    assert rails.tag == "x"


async def test_a_refusal_of_the_users_own() -> None:
    own = 'define bot refuse to respond\n  "Not in this house."\n'
    policy = {key: value for key, value in POLICY.items() if key != "messages"}
    lab = Lab(f"a {BAD}", colang=own, policy=policy)
    assert await lab.say(user(BAD)) == assistant("Not in this house.")
    assert await lab.say(user("hi")) == assistant("Not in this house.")
    assert await lab.stream(user(BAD)) == ["Not in this house."]
    assert (await lab.rails.check_async([user(BAD)])).content == "Not in this house."
    assert await Lab(colang=own).say(user(BAD)) == assistant(REFUSAL), "the policy has messages of its own"


async def test_tool_messages_without_an_id_reach_the_users_own_tool_rail() -> None:
    seen: list[Any] = []
    colang = "define flow look\n  $nothing = execute look(id=$tool_call_id)\n"
    lab = Lab(colang=colang, rails={"tool_input": {"flows": ["look"]}})

    async def look(id: Any) -> None:  # noqa: A002
        seen.append(id)

    lab.rails.register_action(look, "look")
    messages = [{"content": "a desktop", "name": "shot"}]
    event = {"type": "UserToolMessages", "tool_messages": messages}
    await lab.say(user("go"), {"role": "event", "event": event})
    assert seen == [""]


async def test_a_users_own_tool_rail_runs_without_ours() -> None:
    seen: list[Any] = []
    colang = "define flow look\n  $nothing = execute look(text=$tool_message)\n"
    lab = Lab(stages=["input", "output"], colang=colang, rails={"tool_input": {"flows": ["look"]}})

    async def look(text: Any) -> None:
        seen.append(text)

    lab.rails.register_action(look, "look")
    await lab.say(user("go"), called(), result("a desktop"))
    assert seen == ["a desktop"]
    assert await lab.say(user("go"), called(), result(BAD)) == assistant(REFUSAL)
    assert BAD not in repr(seen)


async def test_the_engines_own_flow_over_tool_results_stays_without_our_rail() -> None:
    with_rail, without = Lab(), Lab(stages=["input", "output"])
    name = "process user tool messages"
    assert "turnguard" in repr(with_rail.rails.runtime.flow_configs[name].elements)
    assert "turnguard" not in repr(without.rails.runtime.flow_configs[name].elements)
    assert not any(flow.startswith(f"turnguard {name}") for flow in without.rails.runtime.flow_configs)


def test_nemos_command_line_finds_the_rails_wherever_turnguard_is(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "turnguard.nemo", "--help"]
    assert b"server" in subprocess.check_output(command, env=environment, timeout=120)


def test_checked_rails_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of Turnguard's flows"):
        checked_rails(
            RailsConfig.from_content(OTHER, 'custom_data: {turnguard: {moderator: {base_url: "http://x/v1"}}}'),
            stages=[],
            llm=Main("fine"),
        )


async def test_the_moderators_calls_are_records_that_nemos_readers_understand(tmp_path: Path) -> None:
    with FakeVLLM() as server:
        rails = load(folder(tmp_path, settings=f"moderator: {{base_url: '{server.base_url}'}}\n"))
        answer = await rails.generate_async(messages=[user("hi")], options={"log": {"llm_calls": True}})
        ours = [call for call in answer.log.llm_calls if call.task.startswith("turnguard")]
        assert len(ours) == 2
        assert all(call.prompt == "" and call.total_tokens > 0 for call in ours)
        assert answer.log.stats.llm_calls_total_tokens == sum(call.total_tokens for call in ours)
        await guard_of(rails).aclose()
