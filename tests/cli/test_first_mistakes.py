"""First mistakes: each message names what was found, where it stands, and the form that works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from turnguard import ConfigError, Guard, Policy, Step
from turnguard.cli import main
from turnguard.core.families import FAMILIES
from turnguard.moderators.families import WIRES
from turnguard.testing import FakeModerator

SERVER = "moderator: {base_url: 'http://127.0.0.1:9/v1'}\n"

YAML: dict[str, tuple[str, tuple[str, ...]]] = {
    "an action of another tool": (
        SERVER + "policy:\n  default: deny\n",
        (":3: policy.default", "'deny'", "did you mean 'block'?"),
    ),
    "a threshold by another name": (
        SERVER + "policy:\n  categories:\n    Violence: {action: block, threshold: 0.8, otherwise: flag}\n",
        (":4: policy.categories.Violence.threshold", "did you mean 'above'?"),
    ),
    "a way where an action stands": (
        SERVER + "policy:\n  categories:\n    PII/Privacy: redact\n",
        (":4: policy.categories.PII/Privacy", "'redact'", "{action: rewrite, with: redact}"),
    ),
    "a category that is not indented": (
        SERVER + "policy:\n  Profanity: flag\n",
        (":3: policy.Profanity", "is a category", "below 'categories'"),
    ),
    "a category that is misspelt": (
        SERVER + "policy:\n  categories: {Violense: block}\n",
        (":3: policy.categories.Violense", "did you mean 'Violence'?"),
    ),
    "a stage that is misspelt": (
        SERVER + "policy:\n  stages: {outputs: {default: flag}}\n",
        (":3: policy.stages.outputs", "did you mean 'output'?"),
    ),
    "otherwise without above": (
        SERVER + "policy:\n  categories:\n    Violence: {action: block, otherwise: flag}\n",
        (":4: policy.categories.Violence", "above"),
    ),
    "a threshold in per cent": (
        SERVER + "policy:\n  categories:\n    Violence: {action: block, above: 85, otherwise: flag}\n",
        (":4: policy.categories.Violence.above", "1"),
    ),
    "a threshold that can never matter": (
        SERVER + "policy:\n  categories:\n    Violence: {action: block, above: 0.3, otherwise: flag}\n",
        (":4: policy.categories.Violence", "0.5"),
    ),
    "an action given as yes": (
        SERVER + "policy:\n  categories: {Violence: yes}\n",
        (":3: policy.categories.Violence", "'yes'"),
    ),
    "an unknown family": (
        "moderator:\n  base_url: http://127.0.0.1:9/v1\n  family: nemotron3\n",
        (":3: moderator.family", "'nemotron3'", "did you mean 'nemotron-3'?"),
    ),
    "an unknown family of the fallback": (
        SERVER.replace("}", ",\n  fallback: {base_url: 'http://127.0.0.1:9/v1', family: llama}}"),
        (":2: moderator.fallback.family", "'llama'", "One of: nemotron-3"),
    ),
    "an address without a scheme": (
        "moderator: {base_url: 'localhost:8000/v1'}\n",
        (":1: moderator.base_url", "begins with http:// or https://", "http://localhost:8000/v1"),
    ),
    "the address under another key": (
        "moderator: {url: 'http://127.0.0.1:9/v1'}\n",
        (":1: moderator.url", "did you mean 'base_url'?"),
    ),
    "a section by another name": (
        "model: {base_url: 'http://127.0.0.1:9/v1'}\n",
        (":1: model", "did you mean 'moderator'?"),
    ),
    "a deadline by another name": (
        "moderator: {base_url: 'http://127.0.0.1:9/v1', timeout: 2s}\n",
        (":1: moderator.timeout", "did you mean 'deadline'?"),
    ),
    "a duration that is none": (
        "moderator: {base_url: 'http://127.0.0.1:9/v1', deadline: soon}\n",
        (":1: moderator.deadline", "2s"),
    ),
    "a variable that is not set": (
        "moderator: {base_url: 'http://127.0.0.1:9/v1', api_key: '${TURNGUARD_NOT_SET}'}\n",
        (":1: moderator.api_key", "TURNGUARD_NOT_SET", "no default"),
    ),
    "a key given twice": (SERVER + "policy:\n  default: block\n  default: flag\n", (":4", "default")),
    "a list where a mapping stands": (
        SERVER + "policy:\n  categories: [Violence]\n",
        (":3: policy.categories", "expected a mapping"),
    ),
    "a tab": (SERVER + "policy:\n\tdefault: block\n", (":3", "not valid YAML")),
}


@pytest.mark.parametrize(("text", "told"), YAML.values(), ids=YAML)
def test_in_the_yaml(text: str, told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURNGUARD_NOT_SET", raising=False)
    path = tmp_path / "turnguard.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        Guard.from_yaml(path).close()
    (problem,) = raised.value.problems
    assert str(path) in problem
    for part in told:
        assert part in problem


COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no configuration": (["check", "hello"], ("turnguard.yaml: no such file here", "turnguard init", "--config FILE")),
    "a configuration that is not there": (["check", "-c", "nope.yaml", "hello"], ("nope.yaml", "No such file")),
    "a misspelt command": (["chek", "hello"], ("'chek'", "Did you mean 'check'?")),
    "a misspelt stage": (["check", "-c", "ok.yaml", "-s", "outptu", "hello"], ("'outptu'", "did you mean 'output'?")),
    "half a call": (
        ["check", "-c", "ok.yaml", "-s", "tool_call", "--tool", "bash", '{"a":'],
        ("TEXT is not JSON", "line 1 column 6", """'{"command": "ls"}'"""),
    ),
    "a call without its tool": (["check", "-c", "ok.yaml", "-s", "tool_call", "{}"], ("needs --tool NAME",)),
    "a picture that is not there": (["check", "-c", "ok.yaml", "-i", "a.png", "hi"], ("--image a.png", "No such file")),
    "no benchmark": (["eval"], ("name a benchmark", "turnguard eval --list")),
    "a misspelt benchmark": (["eval", "xtest", "-c", "ok.yaml"], ("'xtest'", "did you mean 'xstest'?")),
    "a goal without a share": (
        ["calibrate", "rows.jsonl", "-c", "ok.yaml", "--recall", "input"],
        ("'input'", "NAME=SHARE", "input=0.95"),
    ),
    "rows that are not there": (["batch", "rows.jsonl", "out.jsonl", "-c", "ok.yaml"], ("rows.jsonl", "no such file")),
    "a concurrency of zero": (["bench", "-c", "ok.yaml", "--concurrency", "0"], ("from 1 to 1024", "1,4,16,64")),
}


@pytest.mark.parametrize(("arguments", "told"), COMMANDS.values(), ids=COMMANDS)
def test_on_the_command_line(
    arguments: list[str],
    told: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.yaml").write_text(SERVER)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for part in told:
        assert part in said


def guard() -> Guard:
    return Guard(Policy.from_dict({}), FakeModerator())


CALLS: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "text for a step": (lambda: guard().check("hello"), TypeError, ("Step.input", "str")),  # type: ignore[arg-type]
    "text for messages": (lambda: guard().check_messages("hi"), TypeError, ("str",)),  # type: ignore[arg-type]
    "one message": (lambda: guard().check_messages({"role": "user"}), TypeError, ("dict",)),  # type: ignore[arg-type]
    "no moderator": (Guard, ConfigError, ("Guard.from_yaml(path)", "moderator=")),
    "a file's name as a picture": (
        lambda: Step.input("x", images=["a.png"]),
        ValueError,
        ("data:", "pathlib.Path"),
    ),
    "nothing to judge": (lambda: Step.input(""), ValueError, ("nothing to judge",)),
    "an unknown stage": (lambda: Step("inputs", ()), ValueError, ("'inputs'", "input, retrieval")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("call", "error", "told"), CALLS.values(), ids=CALLS)
def test_in_python(call: Callable[[], Any], error: type[Exception], told: tuple[str, ...]) -> None:
    with pytest.raises(error) as raised:
        call()
    for part in told:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("module", "name", "package", "extra"),
    [
        ("turnguard.nemo", "checked_rails", "nemoguardrails", "nemo"),
        ("turnguard.langchain", "TurnguardMiddleware", "langchain", "langchain"),
        ("turnguard.langchain", "guard_model", "langchain_core", "langchain"),
    ],
)
def test_a_wing_without_its_extra_names_it(
    module: str, name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [each for each in sys.modules if each.split(".")[0] == package or each.startswith(module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    wing = __import__(module, fromlist=["x"])
    with pytest.raises(ConfigError, match=rf"pip install 'turnguard\[{extra}\]'"):
        getattr(wing, name)


def test_every_family_that_the_settings_take_is_spoken() -> None:
    assert set(FAMILIES) == set(WIRES)


def test_the_shell_completes_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    from turnguard.cli.app import app

    environment = {"_TURNGUARD_COMPLETE": "complete_bash", "COMP_WORDS": "turnguard c", "COMP_CWORD": "1"}
    told = CliRunner().invoke(app, [], env=environment, prog_name="turnguard").output.split()
    assert told == ["calibrate", "check"]


def test_bench_stops_at_a_dead_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "turnguard.yaml"
    path.write_text(SERVER)
    assert main(["bench", "--config", str(path), "--json"]) == 3
    told = capsys.readouterr()
    assert told.out.count('"stage"') == 1
    assert "stopped: the moderator answers no check" in told.err
