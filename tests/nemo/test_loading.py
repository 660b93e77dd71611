"""The drop-in as YAML, and one clear sentence for each mistake that can be known at load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nemoguardrails
import pytest
from nemoguardrails import LLMRails, RailsConfig

from tests.nemo.lab import BAD, QUIET, Main, assistant, user
from turnguard import ConfigError
from turnguard.nemo import checked_rails, guard_of
from turnguard.testing import FakeVLLM

pytestmark = QUIET

DROP_IN = """
models: []
passthrough: true
import_paths: [turnguard/rails]
custom_data: {turnguard: turnguard.yaml}
rails:
  input:  {flows: [turnguard check input]}
  output: {flows: [turnguard check output]}
  tool_output: {flows: [turnguard check tool call]}
  tool_input:  {flows: [turnguard check tool result]}
  retrieval:   {flows: [turnguard check retrieval]}
"""


def folder(path: Path, config: str = DROP_IN, settings: str | None = "") -> Path:
    """A configuration folder."""
    (path / "config.yml").write_text(config)
    if settings is not None:
        (path / "turnguard.yaml").write_text(settings or "moderator: {base_url: 'http://127.0.0.1:9/v1'}\n")
    return path


def load(path: Path, main: Any = None) -> LLMRails:
    """As a user loads it."""
    return LLMRails(RailsConfig.from_path(str(path)), llm=main or Main("fine"))


def refused(path: Path) -> str:
    """The sentence in which loading ends."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


async def test_the_yaml_of_the_design_is_enough(tmp_path: Path) -> None:
    with FakeVLLM() as server:
        server.when(BAD, user="unsafe", categories=["Violence"])
        main = Main("fine")
        rails = load(folder(tmp_path, settings=f"moderator: {{base_url: '{server.base_url}'}}\n"), main)
        assert await rails.generate_async(messages=[user("hi")]) == assistant("fine")
        answer = await rails.generate_async(messages=[user(f"a {BAD}")])
        assert "I can't help" in answer["content"]
        assert len(main.prompts) == 1
        assert len(server.requests) >= 3
        await guard_of(rails).aclose()


async def test_inline_settings(tmp_path: Path) -> None:
    inline = DROP_IN.replace("turnguard: turnguard.yaml", "turnguard: {moderator: {base_url: 'http://127.0.0.1:9/v1'}}")
    load(folder(tmp_path, inline, settings=None))
    LLMRails(RailsConfig.from_content(yaml_content=inline), llm=Main("fine"))


async def test_the_users_own_rails_are_kept(tmp_path: Path) -> None:
    own = DROP_IN.replace("[turnguard check input]", "[mine, turnguard check input]")
    (tmp_path / "own.co").write_text("define flow mine\n  $nothing = execute noop\n")
    rails = load(folder(tmp_path, own))
    assert rails.config.rails.input.flows == ["mine", "turnguard check input"]


def test_a_file_counts_from_the_working_directory_with_from_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    LLMRails(RailsConfig.from_content(yaml_content=DROP_IN), llm=Main("fine"))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "names a file that does not exist" in refused(folder(tmp_path, settings=None))


def test_no_settings(tmp_path: Path) -> None:
    without = DROP_IN.replace("custom_data: {turnguard: turnguard.yaml}\n", "")
    assert "custom_data.turnguard is missing" in refused(folder(tmp_path, without))


@pytest.mark.parametrize("value", ["7", "[a]", "true", "''"])
def test_settings_that_are_neither_a_name_nor_a_mapping(value: str, tmp_path: Path) -> None:
    wrong = DROP_IN.replace("turnguard: turnguard.yaml", f"turnguard: {value}")
    assert "must be the name of a file or a mapping" in refused(folder(tmp_path, wrong))


def test_settings_inline_and_in_a_file(tmp_path: Path) -> None:
    inline = DROP_IN.replace("turnguard: turnguard.yaml", "turnguard: {policy: {}}")
    assert "keep one of them" in refused(folder(tmp_path, inline))
    both = DROP_IN.replace("turnguard: turnguard.yaml", "turnguard: {file: turnguard.yaml, policy: {}}")
    assert "not both" in refused(folder(tmp_path, both))


def test_a_policy_error_names_file_and_line(tmp_path: Path) -> None:
    sentence = refused(folder(tmp_path, settings="moderator: {base_url: 'http://x/v1'}\npolicy:\n  defalt: block\n"))
    assert "turnguard.yaml:3" in sentence
    assert "default" in sentence


@pytest.mark.parametrize("kind", ["tool_output", "tool_input"])
def test_a_misspelt_tool_flow_which_nemo_does_not_look_at(kind: str, tmp_path: Path) -> None:
    stage = {"tool_output": "call", "tool_input": "result"}[kind]
    sentence = refused(
        folder(tmp_path, DROP_IN.replace(f"turnguard check tool {stage}", f"turnguard chek tool {stage}"))
    )
    assert f"did you mean 'turnguard check tool {stage}'" in sentence
    assert f"rails.{kind}.flows" in sentence


@pytest.mark.parametrize("kind", ["input", "output", "retrieval"])
def test_a_misspelt_flow(kind: str, tmp_path: Path) -> None:
    sentence = refused(folder(tmp_path, DROP_IN.replace(f"turnguard check {kind}", f"Turnguard check {kind}s")))
    assert f"did you mean 'turnguard check {kind}'" in sentence


def test_a_flow_under_the_wrong_kind(tmp_path: Path) -> None:
    wrong = DROP_IN.replace("[turnguard check input]", "[turnguard check output]")
    assert "belongs under rails.output.flows" in refused(folder(tmp_path, wrong))


@pytest.mark.parametrize("version", ["0.24.0", "0.25.0", "0.23.9", "1.0"])
def test_an_unsupported_nemo(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemoguardrails, "__version__", version)
    sentence = refused(folder(tmp_path))
    assert f"found {version}" in sentence
    assert "nemoguardrails>=0.24.1,<0.25" in sentence
    assert "guarded()" in sentence, "what to use instead"


def test_an_engine_without_the_parts_that_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LLMRails, "_init_kb")
    assert "has no _init_kb" in refused(folder(tmp_path))


async def test_a_moderator_that_is_down_at_load_and_at_run_time(tmp_path: Path) -> None:
    main = Main("fine")
    rails = load(folder(tmp_path), main)
    answer = await rails.generate_async(messages=[user("hi")], options={"log": {"activated_rails": True}})
    outcome = answer.log.activated_rails[0].executed_actions[0].return_value
    assert (outcome.failed, outcome.metadata["failure"]) == (True, "unavailable")
    assert outcome.metadata["cause"]
    assert main.prompts == []


async def test_fail_open_is_the_policys_to_say(tmp_path: Path) -> None:
    settings = "moderator: {base_url: 'http://127.0.0.1:9/v1'}\npolicy: {on_failure: allow}\n"
    rails = load(folder(tmp_path, settings=settings))
    assert await rails.generate_async(messages=[user("hi")]) == assistant("fine")


def test_checked_rails_raises_our_error_and_adds_every_rail(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"custom_data\.turnguard is missing"):
        checked_rails(RailsConfig.from_content(yaml_content="models: []"), llm=Main("fine"))
    rails = checked_rails(folder(tmp_path), llm=Main("fine"))
    assert rails.config.rails.tool_input.flows == ["turnguard check tool result"]
    with pytest.raises(ConfigError, match=r"turnguard\.nemo\.v2"):
        checked_rails(RailsConfig.from_content("flow main\n  match X()", 'colang_version: "2.x"'), llm=Main("fine"))


def test_the_import_path_is_found_without_importing_turnguard_first(tmp_path: Path) -> None:
    """As from an installed wheel: NeMo looks beside its own package, or in COLANGPATH for an editable install."""
    import turnguard

    script = (
        "import os; from nemoguardrails import RailsConfig; "
        f"c = RailsConfig.from_path({str(folder(tmp_path))!r}); "
        "assert any(f.get('id') == 'turnguard check input' for f in c.flows)"
    )
    root = str(Path(turnguard.__file__).parent.parent)
    environment = {"COLANGPATH": root, "NEMO_GUARDRAILS_NO_USAGE_STATS": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=60)


async def test_beside_is_said_to_have_no_effect_and_the_input_is_checked_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeVLLM() as server:
        server.when(BAD, user="unsafe", categories=["Violence"])
        main = Main("fine")
        settings = f"moderator: {{base_url: '{server.base_url}'}}\nchecks: {{input: beside}}\n"
        rails = load(folder(tmp_path, settings=settings), main)
        assert "beside has no effect in NeMo Guardrails" in caplog.text
        await rails.generate_async(messages=[user(BAD)])
        assert main.prompts == []
        await guard_of(rails).aclose()


async def test_a_policy_by_its_name(tmp_path: Path) -> None:
    with FakeVLLM() as server:
        server.when(BAD, user="unsafe", categories=["Violence"])
        (tmp_path / "lax.yaml").write_text("policy: {categories: {Violence: flag}}\n")
        settings = f"moderator: {{base_url: '{server.base_url}'}}\npolicies: {{lax: lax.yaml}}\n"
        named = DROP_IN.replace("turnguard: turnguard.yaml", "turnguard: turnguard.yaml, turnguard_policy: lax")
        rails = load(folder(tmp_path, named, settings))
        assert await rails.generate_async(messages=[user(BAD)]) == assistant("fine")
        await guard_of(rails).aclose()
        sentence = refused(folder(tmp_path, named.replace("policy: lax", "policy: lacks"), settings))
        assert "lacks" in sentence
        assert "lax" in sentence
