"""`turnguard policy lint` says what loading says, with file and line, and warns of what is legal but odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from turnguard import ConfigError, Guard

URL = "http://localhost:1/v1"


def write(folder: Path, text: str, **others: str) -> Path:
    for name, other in others.items():
        (folder / f"{name}.yaml").write_text(other, encoding="utf-8")
    file = folder / "turnguard.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("moderator:\n  base_url: https://judge/v1\n  tls: {ca: nowhere.pem}\n", ":3: moderator.tls.ca: there is no file"),
        (f"moderator: {{base_url: {URL}}}\nmedia:\n  allow_urls: [nonsense]\n", ":3: media.allow_urls: "),
        (f"moderator: {{base_url: {URL}}}\nmedia:\n  allow_private: [x]\n", ":3: media.allow_private: 'x' is not"),
        ("moderator:\n  base_url: http://localhost:99999/v1\n", ":2: moderator.base_url: "),
        (
            f"moderator:\n  base_url: {URL}\n  second_look:\n    between: [0.2, 0.8]\n",
            ":3: moderator.second_look: second_look asks the same model",
        ),
        (f"moderator:\n  base_url: {URL}\n  family: nemotron-9\n", ":3: moderator.family: unknown family 'nemotron-9'"),
        (f"moderator: {{base_url: {URL}, family: qwen3guard}}\npolicy:\n  custom:\n    X: {{definition: y, action: flag}}\n",
         ":3: policy.custom: the family 'qwen3guard' takes no categories"),
        (f"moderator: {{base_url: {URL}}}\npolicies: {{a: gone.yaml}}\n", "gone.yaml: cannot be read"),
        (f"moderator: {{base_url: {URL}}}\npolicies: {{a: team.yaml}}\n", "team.yaml:2: policy.defalt: unknown key"),
        (f"moderator: {{base_url: {URL}}}\npolicy:\n  shadow: team.yaml\n", ":3: policy.shadow: team.yaml:2: policy.defalt"),
    ],
)  # fmt: skip
def test_lint_says_what_loading_says(run: Run, tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, text, team="policy:\n  defalt: block\n")
    with pytest.raises(ConfigError) as caught:
        Guard.from_yaml(file)
    assert told in str(caught.value)
    ran = run("policy", "lint", file)
    assert ran.code == 2
    assert told in ran.out
    assert run("policy", "lint", "--json", file).data["problems"] == list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"moderator: {{base_url: {URL}, family: llama-guard-4}}\npolicy:\n  categories:\n    Profanity: flag\n",
            "turnguard.yaml:4: policy.categories.Profanity: the family 'llama-guard-4' never names this category",
        ),
        (
            f"moderator: {{base_url: {URL}}}\npolicy:\n  stages:\n    output: {{categories: {{Economic Harm: flag}}}}\n",
            "turnguard.yaml:4: policy.stages.output.categories.Economic Harm: the family 'nemotron-3' never names",
        ),
        (
            f"moderator:\n  base_url: {URL}\n  family: qwen3guard\n",
            "turnguard.yaml:3: moderator.family: the family 'qwen3guard' judges no pictures",
        ),
        (
            f"moderator: {{base_url: {URL}}}\npolicy:\n  shadow: same.yaml\n",
            "turnguard.yaml:3: policy.shadow: the shadow decides everything as this policy does",
        ),
        (
            f"moderator: {{base_url: {URL}}}\npolicies: {{a: open.yaml}}\n",
            "open.yaml:2: policy.on_failure: while the moderator is down, everything goes on unjudged",
        ),
        (
            f"moderator: {{base_url: {URL}}}\npolicy: {{shadow: open.yaml}}\n",
            "open.yaml:2: policy.on_failure: while the moderator is down, everything goes on unjudged",
        ),
        (
            (
                f"moderator:\n  base_url: {URL}\n  family: nemotron-3.5\n"
                "  second_look:\n    unsafe: true\n    reasoning: always\n"
            ),
            "turnguard.yaml:6: moderator.second_look.reasoning: reasoning takes seconds, and moderator.deadline is 2s",
        ),
        (
            (
                f"moderator:\n  base_url: {URL}\n  second_look:\n    base_url: http://localhost:2/v1\n"
                "    family: llama-guard-4\n    between: [0.2, 0.8]\n    decides: second\n"
            ),
            "turnguard.yaml:7: moderator.second_look.decides: the family 'llama-guard-4' names no",
        ),
        (
            (
                f"moderator:\n  base_url: {URL}\n  second_look: {{base_url: 'http://localhost:2/v1', family: nemotron-3.5, "
                "unsafe: true}\npolicy:\n  custom: {X: {definition: y, action: flag}}\n"
            ),
            "turnguard.yaml:5: policy.custom: only the second look is told about them",
        ),
        (
            (
                f"moderator:\n  base_url: {URL}\n  second_look: {{base_url: 'http://localhost:2/v1', family: nemotron-3.5, "
                "unsafe: true}\npolicy:\n  custom_policy: Be kind.\n"
            ),
            "turnguard.yaml:5: policy.custom_policy: only the second look is told about it",
        ),
        (
            (
                f"moderator: {{base_url: '{URL}', family: nemotron-3.5}}\npolicy:\n  custom_policy: Be kind.\n"
                "  categories: {Violence: flag}\n"
            ),
            "turnguard.yaml:4: policy.categories: the model judges by custom_policy",
        ),
        (
            f"moderator:\n  base_url: {URL}\n  family: qwen3guard\npolicy: {{default: flag}}\n",
            "turnguard.yaml:3: moderator.family: the family 'qwen3guard' never names 'Sexual (minor)'",
        ),
    ],
)
def test_lint_warns_and_strict_makes_it_an_error(run: Run, tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, text, same="policy: {default: block}\n", open="policy:\n  on_failure: allow\n")
    ran = run("policy", "lint", file)
    assert ran.code == 0
    assert "warning  " in ran.out
    assert told in ran.out
    strict = run("policy", "lint", "--strict", file)
    assert strict.code == 2
    assert "error    " in strict.out
    assert told in strict.out
    assert told in str(run("policy", "lint", "--strict", "--json", file).data["problems"])


def test_one_yaml_moves_between_families_by_two_lines_and_lint_names_each_idle_rule(run: Run, tmp_path: Path) -> None:
    text = (
        f"moderator:\n  base_url: {URL}\n  model: nemotron_moderator\n  family: nemotron-3\n"
        "policy:\n  categories: {Violence: block, Profanity: flag, Malware: review, Harassment: flag}\n"
    )
    file = write(tmp_path, text)
    assert "sound\n" in run("policy", "lint", "--strict", file).out
    write(tmp_path, text.replace("nemotron_moderator", "guard").replace("nemotron-3", "llama-guard-4"))
    ran = run("policy", "lint", file)
    assert ran.code == 0
    idle = [line for line in ran.out.splitlines() if "can never fire" in line]
    assert [line.split("policy.categories.")[1].split(":")[0] for line in idle] == ["Profanity", "Harassment"]


def test_a_strict_lint_of_what_is_sound_is_code_0(run: Run, tmp_path: Path) -> None:
    assert run("policy", "lint", "--strict", write(tmp_path, f"moderator: {{base_url: {URL}}}")).code == 0


# ---------------------------------------------------------------- diff


def test_the_same_policy_differs_in_nothing(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "policy: {}", one="policy: {default: block}", two="policy: {stages: {output: {default: block}}}")
    ran = run("policy", "diff", tmp_path / "one.yaml", tmp_path / "two.yaml")
    assert ran.code == 0
    assert "decides as" in ran.out


def test_only_what_differs_is_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        f"moderator: {{base_url: {URL}}}\npolicy: {{categories: {{Profanity: flag}}, on_failure: block}}\n",
        next="policy: {categories: {Profanity: review}, on_failure: review, stages: {output: {unsafe_above: 0.3}}}\n",
    )
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("policy", "diff", "turnguard.yaml", "next.yaml")
    assert ran.code == 1
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    for said in ("Profanity", "flag", "review", "moderator failed", "unsafe by", "P > 0.3"):
        assert said in ran.out
    assert "Violence" not in ran.out
    data = run("policy", "diff", "--json", "turnguard.yaml", "next.yaml").data
    assert data["differs"]
    cells = {(cell["stage"], cell["what"]): (cell["before"], cell["after"]) for cell in data["differences"]}
    assert cells["input", "Profanity"] == ("flag", "review")
    assert cells["output", "unsafe by"] == ("label", "P > 0.3")
    assert ("input", "unsafe by") not in cells


def test_messages_and_definitions_count_as_differences(run: Run, tmp_path: Path) -> None:
    one = "policy: {messages: {default: {en: No.}}, custom: {X: {definition: y, action: flag}}}\n"
    write(tmp_path, "policy: {}", one=one, two=one.replace("No.", "Nein.").replace("definition: y", "definition: z"))
    ran = run("policy", "diff", "one.yaml", "two.yaml")
    assert ran.code == 1
    assert "message default (en): 'No.' → 'Nein.'" in ran.out
    assert "custom X: defined → defined otherwise" in ran.out


def test_a_file_that_cannot_be_used_is_code_2(run: Run, tmp_path: Path) -> None:
    write(tmp_path, "policy: {defalt: flag}")
    assert run("policy", "diff", "turnguard.yaml", "gone.yaml").code == 2


# ---------------------------------------------------------------- show


@pytest.mark.parametrize(
    "family", ["nemotron-3", "nemotron-3.5", "nemotron-safety-guard-8b-v3", "llama-guard-4", "qwen3guard"]
)
def test_show_maps_a_familys_names_to_ours(run: Run, family: str) -> None:
    from turnguard.core.families import FAMILIES

    assert run("policy", "show", "--family", family, "--json").data["categories"] == dict(FAMILIES[family].categories)
    assert run("policy", "show", "--family", family).code == 0


def test_show_of_an_unknown_family_or_policy_is_code_2(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, f"moderator: {{base_url: {URL}}}")
    assert run("policy", "show", "--family", "gpt").code == 2
    assert run("policy", "show", file, "--policy", "team").code == 2


def test_show_has_own_categories_and_named_policies(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "A rather long name of a category of our own that must wrap somewhere"
    file = write(
        tmp_path,
        f"moderator: {{base_url: {URL}, family: nemotron-3.5}}\npolicies: {{team: team.yaml}}\n"
        f"policy: {{custom: {{{own}: {{definition: y, action: review}}}}}}\n",
        team="policy: {default: flag}\n",
    )
    assert run("policy", "show", "--json", file).data["stages"]["input"]["categories"][own]["action"] == "review"
    team = run("policy", "show", "--json", file, "--policy", "team").data["stages"]["input"]["categories"]
    assert {rule["action"] for rule in team.values()} == {"flag"}
    monkeypatch.setenv("COLUMNS", "80")
    out = run("policy", "show", file).out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert " ".join(out.split()).count("review") >= 6


# ---------------------------------------------------------------- check


def test_check_decides_by_a_named_policy_and_shows_shadow_and_second_look(run: Run, tmp_path: Path) -> None:
    from turnguard.testing import FakeVLLM

    with FakeVLLM() as small, FakeVLLM(model="large") as large:
        small.when("damn", user="unsafe", categories=["Profanity"], p=0.6)
        write(
            tmp_path,
            f"moderator:\n  base_url: {small.base_url}\n"
            f"  second_look: {{base_url: '{large.base_url}', model: large, between: [0.2, 0.8]}}\n"
            "policy: {shadow: open.yaml}\npolicies: {team: team.yaml}\n",
            open="policy: {default: flag}\n",
            team="policy: {categories: {Profanity: allow}}\n",
        )
        ran = run("check", "a damn question")
        assert ran.code == 1
        assert "unsafe, then safe; the stricter counts" in ran.out
        assert "flag (policy.default)" in ran.out
        assert run("check", "a damn question", "--policy", "team").code == 0
        unknown = run("check", "a damn question", "--policy", "teem")
        assert unknown.code == 2
        assert "did you mean 'team'" in unknown.out + unknown.err


def test_the_schema_takes_own_names_where_a_policy_defines_them() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the nemo extra")

    from turnguard.cli.policy.schema import json_schema

    valid = jsonschema.Draft202012Validator(json_schema()).is_valid
    rules = {"stages": {"output": {"categories": {"Mine": "block"}}}, "messages": {"Mine": {"en": "No."}}}
    assert valid({"policy": {**rules, "custom": {"Mine": {"definition": "x", "action": "flag"}}}})
    assert not valid({"policy": rules})
    assert not valid({"policy": {**rules, "custom": {}}})
