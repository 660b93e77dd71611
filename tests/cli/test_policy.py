"""`turnguard policy` and `turnguard init`: lint, show, schema, and the starters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from turnguard.cli.policy.schema import json_schema
from turnguard.config.starters import STYLES, starter
from turnguard.config.yaml import read_yaml
from turnguard.core.errors import ConfigError
from turnguard.core.families import FAMILIES
from turnguard.core.step import STAGES
from turnguard.core.taxonomy import CATEGORIES

EXAMPLES = Path(__file__).resolve().parents[2] / "config_examples"


def write(folder: Path, text: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return file


# ---------------------------------------------------------------- lint


def test_lint_names_every_mistake_with_its_line_and_remedy(run: Run, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "policy:\n"
        "  categories:\n"
        "    Violense: block\n"
        "    Profanity: {action: block, otherwise: flag}\n"
        "    profanity: flag\n"
        "  stages:\n"
        "    output: {unsafe_above: 0.7}\n",
    )
    ran = run("policy", "lint", file)
    assert ran.code == 2
    for said in (
        f"{file}:3: policy.categories.Violense: unknown category 'Violense'; did you mean 'Violence'?",
        f"{file}:4: policy.categories.Profanity.otherwise: 'otherwise' can never apply without 'above'",
        f"{file}:5: policy.categories.profanity: category 'Profanity' is given twice",
        f"{file}:7: policy.stages.output.unsafe_above: 0.5 or more can never matter",
        "4 mistakes",
    ):
        assert said in ran.out
    data = run("policy", "lint", "--json", file).data
    assert (data["ok"], len(data["problems"])) == (False, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("moderator: {base_url: 'http://judge.example.com/v1'}", ":1: moderator.base_url: everything that is judged"),
        ("moderator:\n  api_key: sk-1", ":2: moderator.api_key: a key in a file"),
        ("audit: {key: abc}", "audit.key: a key in a file ends up in version control; write ${TURNGUARD_AUDIT_KEY:-}"),
        ("moderator: {attempt_timeout: 5s}", "moderator.attempt_timeout: the deadline passes first"),
        ("policy: {on_failure: allow}", "policy.on_failure: while the moderator is down"),
        ("policy:\n  stages:\n    output: {on_failure: flag}", ":3: policy.stages.output.on_failure: while"),
        ("policy: {on_uncheckable: {audio: allow}}", "policy.on_uncheckable.audio: audio content that cannot"),
        ("policy: {default: allow}", "policy.default: unsafe content goes on without a trace"),
        ("checks: {trusted_roles: [system, tool]}", "checks.trusted_roles: messages of the role 'tool'"),
        ("audit: {path: a.jsonl, content: true}", "audit.content: the audit file will hold"),
        ("media: {tiles: never}", "media.tiles: small print"),
    ],
)
def test_lint_warns_of_what_is_legal_but_hardly_meant(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    ran = run("policy", "lint", file)
    assert ran.code == 0
    assert said in ran.out
    assert "1 warning" in ran.out
    assert run("policy", "lint", "--json", file).data["warnings"] == [ran.out.splitlines()[0].removeprefix("warning  ")]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "10.0.0.7", "judge", "judge.svc", "[::1]:8000"])
def test_lint_says_nothing_about_plain_http_inside(run: Run, tmp_path: Path, host: str) -> None:
    ran = run("policy", "lint", write(tmp_path, f"moderator: {{base_url: 'http://{host}/v1'}}"))
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"{tmp_path / 'policy.yaml'} is sound")


def test_lint_and_show_of_a_missing_file_are_code_2(run: Run) -> None:
    for command in ("lint", "show"):
        ran = run("policy", command)
        assert ran.code == 2
        assert "turnguard.yaml: cannot be read" in ran.out + ran.err


# ---------------------------------------------------------------- show


def test_show_has_the_effective_rule_of_every_stage_and_category(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        tmp_path,
        "policy:\n"
        "  categories:\n"
        "    Threat: {action: block, above: 0.85, otherwise: flag}\n"
        "    PII/Privacy: {action: rewrite, with: redact}\n"
        "  stages:\n"
        "    output: {default: review, categories: {threat: flag}, unsafe_above: 0.3, on_failure: review}\n"
        "  on_uncheckable: {audio: flag}\n",
    )
    stages = run("policy", "show", "--json", file).data["stages"]
    assert all(set(own["categories"]) == set(CATEGORIES) for own in stages.values())
    assert stages["input"]["categories"]["Threat"] == {
        "action": "block",
        "rule": "policy.categories.Threat",
        "above": 0.85,
        "otherwise": {"action": "flag", "rule": "policy.categories.Threat.otherwise"},
    }
    assert stages["output"]["categories"]["Threat"]["rule"] == "policy.stages.output.categories.threat"
    assert stages["output"]["categories"]["Violence"]["rule"] == "policy.stages.output.default"
    assert stages["input"]["categories"]["PII/Privacy"]["with"] == "redact"
    assert (stages["output"]["unsafe_above"], stages["output"]["on_failure"]["action"]) == (0.3, "review")
    assert stages["input"]["on_uncheckable"]["audio"]["action"] == "flag"
    monkeypatch.setenv("COLUMNS", "120")
    out = run("policy", "show", file).out
    for said in (*CATEGORIES, *STAGES, "redact", ">0.85", "else", "P > 0.3", "uncheckable audio, encrypted", "trim"):
        assert said in out
    monkeypatch.setenv("COLUMNS", "80")
    out = run("policy", "show", file).out
    assert all(said in out for said in (*STAGES, "P > 0.3"))


# ---------------------------------------------------------------- init and the starters


@pytest.mark.parametrize("style", STYLES)
def test_init_writes_a_starter_that_loads_and_lints(run: Run, tmp_path: Path, style: str) -> None:
    ran = run("init", "--style", style)
    assert ran.code == 0
    assert (tmp_path / "turnguard.yaml").read_text(encoding="utf-8") == starter(style)
    lint = run("policy", "lint")
    assert lint.code == 0
    assert ("warning" in lint.out) == (style == "observe-only")


def test_init_never_overwrites(run: Run, tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text("mine")
    for target in ([], [tmp_path], ["turnguard.yaml"]):
        ran = run("init", *target)
        assert ran.code == 2
        assert "left as it is" in ran.err
    assert (tmp_path / "turnguard.yaml").read_text() == "mine"


def test_init_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    assert "One of: strict, balanced, observe-only, full" in run("init", "--style", "lax").err
    ran = run("init", "no/such/folder/policy.yaml")
    assert ran.code == 2
    assert "No such file" in ran.err


def test_what_the_styles_promise(run: Run, tmp_path: Path) -> None:
    run("init", "--style", "observe-only", "observe.yaml")
    run("init", "--style", "strict", "strict.yaml")
    observed = run("policy", "show", "--json", "observe.yaml").data["stages"]
    assert {rule["action"] for own in observed.values() for rule in own["categories"].values()} == {"flag"}
    assert {own["on_failure"]["action"] for own in observed.values()} == {"flag"}
    strict = run("policy", "show", "--json", "strict.yaml").data["stages"]
    assert strict.pop("tools")["default"]["action"] == "flag"
    assert {rule["action"] for own in strict.values() for rule in own["categories"].values()} == {"block", "review"}


def test_the_examples_are_the_starters() -> None:
    files = {"strict": "strict", "balanced": "balanced", "observe-only": "observe_only", "full": "turnguard"}
    assert set(files) == set(STYLES)
    for style, name in files.items():
        assert (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8") == starter(style)


def test_the_full_starter_shows_every_key() -> None:
    from turnguard.config.document import Document

    data, _ = read_yaml(starter("full"), "full")
    assert set(data) == set(Document.model_fields)
    for section, field in Document.model_fields.items():
        if section != "policies":  # whose keys are names of one's own
            keys = {inner.alias or name for name, inner in field.annotation.model_fields.items()}  # type: ignore[union-attr]
            assert set(data[section]) == keys, section


# ---------------------------------------------------------------- schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the nemo extra")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_is_printed(run: Run, schema: dict[str, Any]) -> None:
    assert run("policy", "schema").data == schema
    compact = run("policy", "schema", "--compact")
    assert compact.data == schema
    assert len(compact.out.splitlines()) == 1


def test_every_key_of_the_schema_is_explained(schema: dict[str, Any]) -> None:
    silent = [
        f"{name}.{key}"
        for name, node in schema["$defs"].items()
        for key, value in node.get("properties", {}).items()
        if not value.get("description")
    ]
    assert silent == []
    moderator = schema["$defs"]["ModeratorSettings"]["properties"]
    assert moderator["fallback"]["description"].endswith("it may never allow.")


def test_categories_are_offered_for_completion(schema: dict[str, Any]) -> None:
    for node in ("PolicySettings", "StageSettings"):
        assert list(schema["$defs"][node]["properties"]["categories"]["properties"]) == list(CATEGORIES)


SOUND = [
    "moderator: {deadline: 500ms, attempt_timeout: 1, base_url: ['http://a/v1', 'http://b/v1']}",
    "moderator: {deadline: '${SECONDS_FOR_IT:-2s}', max_windows: '${WINDOWS:-3}'}",
    "media: {max_pixels: 20MP, max_bytes: 5MB, tiles: never}",
    "policy: {default: {action: rewrite, with: drop}}",
    "policy: {categories: {'pii / privacy': flag, SEXUAL (MINOR): block}}",
    "policy: {categories: {Threat: {action: block, above: 0.85, otherwise: {action: flag}}}}",
    "policy: {on_uncheckable: {audio: flag}, stages: {output: {unsafe_above: 0.2}}}",
    "policy: {messages: {default: {en: no, de: nein}, threat: {en: stop}}}",
    "checks: {history: 0, trusted_roles: []}",
]

WRONG = [
    "policy: {defalt: block}",
    "polcy: {}",
    "policy: {default: blok}",
    "policy: {categories: {Violense: block}}",
    "policy: {categories: {Threat: {action: block, above: 0.3}}}",
    "policy: {categories: {Threat: {action: block, otherwise: flag}}}",
    "policy: {stages: {outptu: {}}}",
    "policy: {stages: {output: {unsafe_above: 0.5}}}",
    "policy: {stages: {output: {categories: {Violense: block}}}}",
    "policy: {on_failure: rewrite}",
    "policy: {on_uncheckable: {sound: flag}}",
    "policy: {messages: {Violense: {en: x}}}",
    "moderator: {deadline: fast}",
    "moderator: {deadline: 0}",
    "moderator: {max_windows: -1}",
    "moderator: {fallback: {authority: all, base_url: 'http://a'}}",
    "media: {max_pixels: 50 parsecs}",
    "media: {tiles: yes please}",
    "checks: {history: -1}",
]


@pytest.mark.parametrize("text", [*(starter(style) for style in STYLES), *SOUND])
def test_schema_takes_what_the_loader_takes(validator: Any, text: str) -> None:
    from turnguard.config.document import parse

    parse(text, {}, "x")
    assert _complaints(validator, text) == []


@pytest.mark.parametrize("text", WRONG)
def test_schema_refuses_what_the_loader_refuses(validator: Any, text: str) -> None:
    from turnguard.config.document import parse

    with pytest.raises(ConfigError):
        parse(text, {}, "x")
    assert _complaints(validator, text) != []


def _complaints(validator: Any, text: str) -> list[str]:
    return [error.message for error in validator.iter_errors(read_yaml(text, "x")[0])]


# ---------------------------------------------------------------- families


@pytest.mark.parametrize("name", FAMILIES)
def test_show_maps_a_familys_categories(run: Run, name: str) -> None:
    can = FAMILIES[name]
    ran = run("policy", "show", "--family", name)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert all(native in ran.out for native in can.categories)
    assert ("uncheckable" in ran.out) is not can.images
    told = run("policy", "show", "--family", name, "--json").data
    assert told["categories"] == dict(can.categories)
    assert set(told["never"]) | can.reaches == set(CATEGORIES)


def test_show_of_an_unknown_family_names_the_nearest(run: Run) -> None:
    ran = run("policy", "show", "--family", "lama-guard")
    assert ran.code == 2
    assert "did you mean 'llama-guard-4'?" in ran.err
