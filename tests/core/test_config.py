"""`turnguard.yaml`: what is read, and a sentence with file, line, key and remedy for each mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnguard import ConfigError, Guard, Policy
from turnguard.config.document import Config, parse
from turnguard.core.step import STAGES


def read(text: str, **env: str) -> Config:
    return parse(text, env, "turnguard.yaml")


def mistake(text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(text, **env)
    return str(error.value)


def test_the_documented_example_loads() -> None:
    config = read(EXAMPLE)
    assert config.moderator.base_urls == ("http://localhost:8000/v1",)
    assert config.moderator.deadline == 2.0
    assert config.media.max_pixels == 50_000_000
    assert config.stream.max_delay == 1.0
    assert config.policy.stages["input"].rule("Guns and Illegal Weapons").above == 0.85
    assert config.policy.stages["tool_result"].rule("Violence").action == "rewrite"
    assert config.policy.stages["tool_result"].rule("Malware").action == "block"
    assert config.policy.stages["tool_call"].rule("PII/Privacy").action == "rewrite"
    assert config.policy.stages["output"].unsafe_above == 0.35
    assert config.policy.messages["default"]["de"] == "Dabei kann ich nicht helfen."


def test_yaml_1_2_reads_no_as_text() -> None:
    assert read("policy: {messages: {default: {no: Nei.}}}").policy.messages == {"default": {"no": "Nei."}}


def test_category_names_match_in_any_case_and_spacing() -> None:
    config = read("policy: {categories: {'pii / privacy': flag, SUICIDE  AND self harm: review}}")
    assert config.policy.stages["input"].rule("PII/Privacy").action == "flag"
    assert config.policy.stages["input"].rule("Suicide and Self Harm").action == "review"


MISTAKES = {
    "": r"the file is empty",
    "# only a comment\n": r"the file is empty",
    "- a list\n": r"expected a mapping",
    "polcy: {}\n": r"turnguard.yaml:1: polcy: unknown key 'polcy', did you mean 'policy'\?",
    "policy:\n  categories:\n    Violance: block\n": r":3: policy.categories.Violance: unknown category .*'Violence'",
    "policy:\n  categories:\n    Profanity: flag\n    profanity: block\n": r":4: .*given twice",
    "policy:\n  default: block\n  default: flag\n": r":3: policy.default: the key is given twice",
    "policy: {default: blok}": r"did you mean 'block'\?",
    "policy: {categories: {Malware: {action: block, abov: 0.7}}}": r"unknown key 'abov', did you mean 'above'\?",
    "policy: {categories: {Malware: {action: block, otherwise: flag}}}": r"'otherwise' can never apply without 'above'",
    "policy: {categories: {Malware: {action: block, above: 1.5}}}": r"above: .*less than or equal to 1",
    "policy: {categories: {Malware: {action: block, above: -0.5}}}": r"above: .*greater than or equal to 0",
    "policy: {categories: {Malware: {action: block, with: redact}}}": r"with: 'with' says how to rewrite, .* block",
    "policy: {default: {action: block, above: 0.7, otherwise: {action: flag, with: drop}}}": r"otherwise.with: .* flag",
    "policy: {categories: {Malware: {action: block, above: 0.7, otherwise: block}}}": r"above: can never matter: .*block",
    "policy: {categories: {Malware: {action: flag, above: 0.7}}}": r"above: can never matter: .*flag",
    "policy: {categories: {Malware: {action: block, above: 0.3}}}": r"below 0.5 can never matter",
    "policy: {categories: {Malware: {action: block, above: 1.0}}}": r"can never fire",
    "policy: {categories: {Malware: {action: block, above: '0.9'}}}": r"above: .*number",
    "policy: {stages: {output: {unsafe_above: 0.5}}}": r"can never matter",
    "policy: {stages: {inptu: {default: block}}}": r"did you mean 'input'\?",
    "policy: {stages: {tool_call: {default: rewrite}}}": r"can only be rewritten with: redact",
    "policy: {stages: {tool_call: {categories: {Malware: {action: rewrite, with: drop}}}}}": r"with: redact",
    "policy: {on_failure: rewrite}": r"unknown value 'rewrite'",
    "policy: {on_uncheckable: {vidio: flag}}": r"unknown key 'vidio', did you mean 'video'\?",
    "policy: {messages: {Violance: {en: no}}}": r"unknown category",
    "policy:": r"expected a mapping of keys to values, not nothing",
    "policy: {categories: {Malware: {action: rewrite, with: rewrite}}}": r"with: unknown value",
    "moderator: {deadline: 0}": r"deadline: .*greater than 0",
    "moderator: {deadline: true}": r"deadline: .*number",
    "moderator: {deadline: 2 parsecs}": r"a duration is",
    "moderator: {deadline: .inf}": r"deadline: ",
    "moderator: {base_url: 'localhost:8000'}": r"http:// or https://",
    "moderator: {max_input_tokens: 1}": r"max_input_tokens",
    "moderator: {categories: sometimes}": r"unknown value 'sometimes'",
    "moderator: {family: nemotron-33, base_url: 'http://h/v1'}": r"unknown family .*'nemotron-3'",
    "moderator: {fallback: {authority: block_only}}": r"a fallback needs a base_url",
    "moderator: {fallback: {family: sandbox, authority: full}}": r"may block but never allow",
    "moderator:\n  api_key: ${NOT_SET}\n": r":2: moderator.api_key: the environment variable NOT_SET is not set",
    "stream: {window: many}": r"a whole number",
    "checks: {input: aside}": r"did you mean 'beside'\?",
    "policy: !!python/object/apply:os.system [id]": r"tag .* not supported",
    "policy: !custom {default: block}": r"tag .* not supported",
    "policy: &a {default: block}": r"anchors and aliases are not supported",
    "a: &a [x]\nb: *a\n": r"anchors and aliases",
    "policy: {}\n---\npolicy: {}\n": r":3: one document is expected",
    "policy: [": r"not valid YAML",
    "a: b: c": r"not valid YAML",
    "\tpolicy: {}": r"not valid YAML",
    "[" * 3000: r"nested too deeply",
    "- " * 3000 + "x": r"nested too deeply|expected a mapping",
    "<<: {policy: {}}": r"unknown key '<<'",
    "? [a]\n: b": r"a key must be text",
    "policy: {default: 2026-11-21}": r"unknown value",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: repr(text[:60]))
def test_each_mistake_is_one_clear_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "turnguard.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        Guard.from_yaml(path)
    said = str(error.value)
    assert re.search(MISTAKES[text], said), said
    assert len(said.splitlines()) == 1
    assert "turnguard.yaml" in said or "moderator.family" in said
    assert "pydantic" not in said


def test_a_category_rule_that_every_stage_overrides_can_never_fire() -> None:
    stages = "\n".join(f"    {stage}: {{categories: {{Malware: flag}}}}" for stage in STAGES)
    assert "can never fire" in mistake(f"policy:\n  categories: {{Malware: block}}\n  stages:\n{stages}\n")


@pytest.mark.parametrize("key", ["default", "on_failure", "on_uncheckable"])
def test_a_general_setting_that_every_stage_overrides_can_never_apply(key: str) -> None:
    own = {stage: {key: "flag"} for stage in STAGES}
    assert f"policy.{key}: this can never apply" in mistake(json.dumps({"policy": {key: "block", "stages": own}}))
    read(json.dumps({"policy": {"stages": own}}))
    del own["output"]
    read(json.dumps({"policy": {key: "block", "stages": own}}))


def test_kinds_that_a_stage_does_not_name_leave_the_general_setting_its_work() -> None:
    own = {stage: {"on_uncheckable": {"audio": "flag"}} for stage in STAGES}
    read(json.dumps({"policy": {"on_uncheckable": "review", "stages": own}}))


def test_several_mistakes_are_all_named() -> None:
    said = mistake("moderator: {deadlin: 2}\npolicy:\n  defalt: block\n")
    assert len(said.splitlines()) == 2
    assert "turnguard.yaml:1" in said
    assert "turnguard.yaml:3" in said


def test_a_mistake_elsewhere_hides_none_of_the_policys() -> None:
    said = mistake("moderator: {deadlin: 2}\npolicy:\n  categories:\n    Violance: block\n")
    assert "turnguard.yaml:1: moderator.deadlin" in said
    assert "turnguard.yaml:4: policy.categories.Violance" in said


def test_a_yaml_bomb_costs_nothing() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert "anchors and aliases" in mistake("l0: &l0 [x]\n" + levels)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        Guard.from_yaml(tmp_path / "nowhere.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00policy")
    with pytest.raises(ConfigError, match="not a UTF-8 text file"):
        Guard.from_yaml(binary)


def test_no_moderator_named_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURNGUARD_BASE_URL", raising=False)
    path = tmp_path / "turnguard.yaml"
    path.write_text("policy: {}\n")
    with pytest.raises(ConfigError, match="TURNGUARD_BASE_URL"):
        Guard.from_yaml(path)


# ---------------------------------------------------------------- environment


def test_variables_expand_in_any_string() -> None:
    config = read(
        "moderator: {base_url: 'http://${HOST}:${PORT:-8000}/v1', "
        "model: '${MODEL:-nemotron_moderator}', api_key: '${KEY:-}'}",
        HOST="gpu",
        KEY="secret",
    )
    assert config.moderator.base_urls == ("http://gpu:8000/v1",)
    assert config.moderator.model == "nemotron_moderator"
    assert config.moderator.api_key.get_secret_value() == "secret"


def test_a_value_cannot_become_yaml() -> None:
    config = read("moderator: {model: '${MODEL}', base_url: http://h/v1}", MODEL="x\npolicy: {default: allow}")
    assert config.moderator.model == "x\npolicy: {default: allow}"
    assert config.policy.stages["input"].default.action == "block"


def test_a_doubled_dollar_is_a_plain_one() -> None:
    assert read("policy: {messages: {default: {en: 'costs $${X}'}}}").policy.messages["default"]["en"] == "costs ${X}"


def test_the_base_url_may_come_from_the_environment() -> None:
    assert read("policy: {}", TURNGUARD_BASE_URL="http://gpu:9/v1").moderator.base_urls == ("http://gpu:9/v1",)
    assert "TURNGUARD_BASE_URL" in mistake("policy: {}", TURNGUARD_BASE_URL="gpu")


def test_a_key_is_never_shown() -> None:
    text = "moderator: {base_url: 'http://h/v1', api_key: '${KEY}', modle: x}"
    assert "s3cr3t" not in mistake(text, KEY="s3cr3t")
    assert "s3cr3t" not in repr(read(text.replace(", modle: x", ""), KEY="s3cr3t"))


def test_a_policy_from_a_dict_says_where_its_mistakes_are() -> None:
    with pytest.raises(ConfigError, match=r"^policy\.categories\.Violance: unknown category"):
        Policy.from_dict({"categories": {"Violance": "block"}})


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from(list("policy:moderator{}[]&*!|>-?'\"#%@`,\n\t 0.5~<$\\x\x00\u2028é")), max_size=200
    )
)
@example("? ")
@example("!<")
@example("%YAML 9.9\n---\na: b")
def test_no_text_ever_raises_anything_but_a_config_error(text: str) -> None:
    try:
        assert isinstance(read(text), Config)
    except ConfigError as error:
        assert str(error)


EXAMPLE = """
moderator:
  base_url: http://localhost:8000/v1
  model: nemotron_moderator
  family: nemotron-3
  api_key: ${TURNGUARD_API_KEY:-}
  categories: always
  deadline: 2s
  attempt_timeout: null
  max_input_tokens: 2000
  max_windows: 32
  max_in_flight: 64
  max_waiting: 1024
  fallback: null
media:
  deadline: 15s
  max_pixels: 50MP
  max_requests: 16
  tiles: auto
  allow_urls: [https://cdn.example.com/]
  allow_private: []
stream: {window: 200, max_delay: 1s}
checks: {input: before, history: 0, trusted_roles: [system, developer]}
audit: {path: null, content: false}
policy:
  default: block
  categories:
    Profanity: flag
    PII/Privacy: {action: rewrite, with: redact}
    Needs Caution: review
    Guns and Illegal Weapons: {action: block, above: 0.85, otherwise: flag}
  stages:
    tool_result: {default: rewrite, categories: {Malware: block}}
    output: {unsafe_above: 0.35}
  on_failure: block
  on_uncheckable: block
  calibration: null
  messages:
    default: {en: "I can't help with that.", de: "Dabei kann ich nicht helfen."}
    Suicide and Self Harm: {en: "You are not alone."}
"""
