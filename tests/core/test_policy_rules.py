"""Rules that can never fire, words of other tools, and what the defaults are: each mistake says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from turnguard import ConfigError, Guard, Policy, Step
from turnguard.config.document import Config, parse
from turnguard.core.step import KINDS, STAGES
from turnguard.core.verdict import Verdict
from turnguard.testing import FakeModerator


def read(text: str) -> Config:
    return parse(text, {}, "turnguard.yaml")


UNREACHABLE = {
    "moderator: {categories: never}\npolicy:\n  categories:\n    Malware: block\n": (
        r":4: policy.categories.Malware: this rule can never fire: .*'categories: always'"
    ),
    "moderator: {categories: never}\npolicy:\n  stages:\n    output: {categories: {Threat: flag}}\n": (
        r":4: policy.stages.output.categories.Threat: this rule can never fire"
    ),
    "policy:\n  default: allow\n  stages:\n    input: {unsafe_above: 0.3}\n": (
        r":4: policy.stages.input.unsafe_above: can never matter: the default of this stage is allow; use flag"
    ),
    "policy:\n  stages:\n    input: {unsafe_above: 0.3, default: allow}\n": r":3: policy.stages.input.unsafe_above",
    "policy:\n  default: {action: block, above: 0.8}\n  stages:\n    output: {unsafe_above: 0.3}\n": (
        r":4: policy.stages.output.unsafe_above: the default fires only above 0.8, .*without 'above'"
    ),
    "policy: {categories: {Sexual (minor): review}}": r"categories.Sexual \(minor\): .*never kept.*use 'block'",
    "policy: {categories: {Sexual (minor): {action: block, above: 0.9, otherwise: review}}}": r"use 'block'",
    "policy: {stages: {output: {categories: {sexual(minor): review}}}}": r"use 'block'",
    "policy: {on_uncheckable: trim}": r"write \{text: trim, document: trim\}",
    "policy: {on_uncheckable: {image: trim}}": r"on_uncheckable.image: it cannot be trimmed: write image: block",
    "policy: {stages: {input: {on_uncheckable: {other: trim}}}}": r"input.on_uncheckable.other: it cannot be trimmed",
    "policy: {on_failure: trim}": r"unknown value 'trim'",
    "policy: {categories: {Threat: {action: rewrite, with: trim}}}": r"with: unknown value 'trim'",
    "policy: {stages: {tools: {default: rewrite}}}": r"a tool's definition can only be rewritten with: redact",
}


@pytest.mark.parametrize("text", UNREACHABLE, ids=lambda text: repr(text[:70]))
def test_a_rule_that_can_never_fire_is_an_error_with_its_place(text: str, tmp_path: Path) -> None:
    path = tmp_path / "turnguard.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        Guard.from_yaml(path)
    assert re.search(UNREACHABLE[text], str(error.value)), str(error.value)
    assert len(error.value.problems) == 1


REACHABLE = [
    "{moderator: {categories: never, base_url: 'http://a/v1', fallback: {family: sandbox}}, policy: {categories: {Threat: flag}}}",
    "policy: {default: allow, stages: {input: {unsafe_above: 0.3, default: flag}}}",
    "policy: {default: allow, stages: {tools: {unsafe_above: 0.3}}}",
    "policy: {default: {action: block, above: 0.8}, stages: {output: {unsafe_above: 0.3, default: block}}}",
    "policy: {on_uncheckable: {text: trim, document: trim}, stages: {input: {on_uncheckable: {text: trim}}}}",
    "policy: {default: review}",
    "policy: {on_uncheckable: {encrypted: block}}",
]


@pytest.mark.parametrize("text", REACHABLE)
def test_what_can_fire_loads(text: str) -> None:
    assert read(text).policy.stages


MEANT = {
    "policy: {default: deny}": r"unknown value 'deny', did you mean 'block'\?",
    "policy: {default: warn}": r"did you mean 'flag'\?",
    "policy: {on_failure: closed}": r"did you mean 'block'\?",
    "policy: {categories: {Threat: {action: block, threshold: 0.9}}}": r"unknown key 'threshold', did you mean 'above'\?",
    "policy: {categories: {Threat: {action: block, above: 0.9, else: flag}}}": r"did you mean 'otherwise'\?",
    "policy: {categories: {PII/Privacy: redact}}": r"PII/Privacy: .*write \{action: rewrite, with: redact\}",
    "policy: {categories: {PII/Privacy: {action: mask}}}": r"PII/Privacy: .*write \{action: rewrite, with: redact\}",
    "policy: {stages: {tool_result: {default: drop}}}": r"default: .*write \{action: rewrite, with: drop\}",
    "policy:\n  categories: {}\n  Profanity: flag\n": r":3: policy.Profanity: 'Profanity' is a category: .*'categories'",
    "policy: {stages: {output: {threat: flag}}}": r"policy.stages.output.threat: 'Threat' is a category",
    "policy: {on_uncheckable: {text: truncate}}": r"did you mean 'trim'\?",
}


@pytest.mark.parametrize("text", MEANT)
def test_the_words_of_other_tools_lead_to_the_form_that_works(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert re.search(MEANT[text], str(error.value)), str(error.value)


# ---------------------------------------------------------------- defaults


def actions(policy: dict[str, Any]) -> dict[tuple[str, str], str]:
    made = Policy.from_dict(policy)
    return {
        (stage, kind): "trim" if rule.way == "trim" else rule.action
        for stage, own in made.stages.items()
        for kind, rule in own.on_uncheckable.items()
    }


def test_what_cannot_be_judged_has_a_default_for_each_stage_and_kind() -> None:
    for (stage, kind), action in actions({}).items():
        cut = kind in ("audio", "video") or (stage in ("tool_result", "retrieval") and kind in ("text", "document"))
        assert action == ("trim" if cut else "flag" if kind == "encrypted" else "block"), (stage, kind)


def test_a_scalar_sets_every_kind_and_a_mapping_only_what_it_names() -> None:
    assert set(actions({"on_uncheckable": "block"}).values()) == {"block"}
    assert set(actions({"on_uncheckable": "flag"}).values()) == {"flag"}
    named = actions({"on_uncheckable": {"audio": "flag", "text": "review"}})
    rest = actions({})
    for place, action in named.items():
        expected = {"audio": "flag", "text": "review"}.get(place[1], rest[place])
        assert action == expected, place


def test_a_stage_comes_before_the_general_setting_kind_by_kind() -> None:
    own = {"on_uncheckable": {"text": "flag"}, "stages": {"retrieval": {"on_uncheckable": {"image": "flag"}}}}
    made = actions(own)
    assert made["retrieval", "image"] == "flag"
    assert made["retrieval", "text"] == "flag"
    assert made["retrieval", "document"] == "trim"
    assert made["input", "image"] == "block"
    scalar = actions({"stages": {"retrieval": {"on_uncheckable": "block"}}})
    assert {action for (stage, _), action in scalar.items() if stage == "retrieval"} == {"block"}
    assert scalar["tool_result", "text"] == "trim"


def test_every_kind_and_stage_has_a_rule() -> None:
    assert len(actions({})) == len(KINDS) * len(STAGES)


# ---------------------------------------------------------------- content that is never kept


@pytest.mark.parametrize(
    ("names", "policy"),
    [
        (("Sexual (minor)",), {"default": "review"}),
        (("Sexual (minor)",), {"default": {"action": "review", "above": 0.9}}),
        (("Sexual (minor)", "Needs Caution"), {"categories": {"Needs Caution": "review", "Sexual (minor)": "flag"}}),
        (("Needs Caution", "Sexual (minor)"), {"categories": {"Needs Caution": "review", "Sexual (minor)": "allow"}}),
    ],
)
async def test_sexual_content_about_minors_is_blocked_where_a_review_would_hold_it(
    names: tuple[str, ...], policy: dict[str, Any]
) -> None:
    moderator = FakeModerator(script=lambda _: Verdict("unsafe", categories=names, p_user=0.95))
    async with Guard(Policy.from_dict(policy), moderator) as guard:
        decision = await guard.acheck(Step.input("planted"))
    assert (decision.action, decision.held, decision.content) == ("block", (), ())
    assert "planted" not in str(decision.to_dict(content=True))
