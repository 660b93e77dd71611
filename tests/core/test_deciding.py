"""Deciding is a pure function: tested exhaustively against a second, naive reading of the design."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from turnguard.core.action import ACTIONS, SEVERITY, Action
from turnguard.core.decide import decide
from turnguard.core.policy import Policy
from turnguard.core.step import STAGES, Kind, Stage
from turnguard.core.taxonomy import CATEGORIES, MINOR
from turnguard.core.verdict import Coverage, Covered, Judgement, Label, Side, Verdict

RESPONSE_STAGES = ("tool_call", "output")
TEXT = Coverage((Covered(0, "text"),))


def judged(
    user: Label | None = "safe",
    response: Label | None = None,
    categories: tuple[str, ...] = (),
    p: float | None = None,
    decides: Side = "user",
    part: int = 0,
    unknown: tuple[str, ...] = (),
) -> Judgement:
    p_user = p if decides == "user" else None
    p_response = p if decides == "response" else None
    verdict = Verdict(user, response, categories, unknown, p_user, p_response)
    return Judgement(verdict, decides, (part,))


def failed(failure: Any = "timeout", part: int = 0) -> Judgement:
    return Judgement(Verdict(failure=failure, cause="planted"), "user", (part,))


def act(
    judgements: list[Judgement], policy: dict[str, Any], stage: Stage = "input", coverage: Coverage = TEXT
) -> Action:
    return decide(judgements, coverage, Policy.from_dict(policy), stage).action


def side_of(stage: Stage) -> Side:
    return "response" if stage in RESPONSE_STAGES else "user"


def side(stage: Stage, label: Label, categories: tuple[str, ...] = (), p: float | None = None) -> Judgement:
    if side_of(stage) == "response":
        return judged("safe", label, categories, p, "response")
    return judged(label, None, categories, p)


@pytest.mark.pairwise
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("label", ["safe", "unsafe"])
@pytest.mark.parametrize("category", [None, "not in the taxonomy", *CATEGORIES])
@pytest.mark.parametrize("level", ["default", "stage default", "category", "stage category"])
def test_every_stage_label_category_and_action(stage: Stage, label: Label, category: str | None, level: str) -> None:
    for action in ACTIONS:
        redact = {"action": action, "with": "redact"} if action == "rewrite" else {"action": action}
        other = "review" if action != "review" else "flag"
        policy: dict[str, Any] = {"default": other}
        if level == "default":
            policy = {"default": redact}
        elif level == "stage default":
            policy["stages"] = {stage: {"default": redact}}
        elif category == MINOR and action == "review":
            continue  # an error at load
        elif category in CATEGORIES:
            where = policy if level == "category" else policy.setdefault("stages", {}).setdefault(stage, {})
            where["categories"] = {category: redact}
        names = (category,) if category in CATEGORIES and category is not None else ()
        unknown = (category,) if category is not None and category not in CATEGORIES else ()
        judgement = side(stage, label, names)
        if unknown:
            verdict = Verdict(judgement.verdict.user, judgement.verdict.response, (), unknown)
            judgement = Judgement(verdict, judgement.decides, (0,))
        reaches = level in ("default", "stage default") or category in CATEGORIES
        if stage == "tools" and (level == "default" or not reaches):
            reaches, other = False, "flag"  # the default of this stage is its own
        expected = "allow" if label == "safe" else action if reaches else other
        if category == MINOR and expected == "review":
            expected = "block"  # never kept for a reviewer
        outcome = decide([judgement], TEXT, Policy.from_dict(policy), stage)
        assert outcome.action == expected
        assert not outcome.failed
        if label == "unsafe":
            assert outcome.reasons[0].category == ("unknown" if unknown else category)
            assert outcome.reasons[0].rule.startswith("policy.")


@pytest.mark.pairwise
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("failure", ["unparseable", "unavailable", "timeout", "rejected"])
@pytest.mark.parametrize("action", ["block", "review", "flag", "allow"])
@pytest.mark.parametrize("per_stage", [False, True])
def test_every_failure_takes_the_failure_rule(stage: Stage, failure: str, action: Action, per_stage: bool) -> None:
    policy: dict[str, Any] = {"stages": {stage: {"on_failure": action}}} if per_stage else {"on_failure": action}
    outcome = decide([failed(failure)], TEXT, Policy.from_dict(policy), stage)
    assert (outcome.action, outcome.failed) == (action, True)
    assert outcome.reasons[0].failure == failure


def test_a_failure_gives_way_to_something_stricter_and_to_nothing_else() -> None:
    lax = Policy.from_dict({"on_failure": "allow", "default": "flag"})
    outcome = decide([failed(part=0), judged("unsafe", part=1)], TEXT, lax, "input")
    assert (outcome.action, outcome.failed) == ("flag", False)
    outcome = decide([failed(part=0), judged("safe", part=1)], TEXT, lax, "input")
    assert (outcome.action, outcome.failed) == ("allow", True)
    closed = Policy.from_dict({})
    outcome = decide([failed(part=0), judged("unsafe", part=1)], TEXT, closed, "input")
    assert (outcome.action, outcome.failed) == ("block", True)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_strictest_of_several_exchanges_wins(size: int) -> None:
    names = CATEGORIES[: len(ACTIONS)]
    rules = dict(zip(names, ACTIONS, strict=True))
    policy = Policy.from_dict({"categories": rules})
    for chosen in itertools.product(range(len(ACTIONS)), repeat=size):
        judgements = [judged("unsafe", None, (names[index],), part=n) for n, index in enumerate(chosen)]
        outcome = decide(judgements, TEXT, policy, "input")
        assert outcome.action == max((ACTIONS[index] for index in chosen), key=SEVERITY.__getitem__)
        assert {reason.action for reason in outcome.decisive} == {outcome.action}


def test_several_categories_of_one_verdict_take_the_strictest() -> None:
    policy = {"categories": {"Profanity": "flag", "Malware": "review"}}
    assert act([judged("unsafe", None, ("Profanity", "Malware"))], policy) == "review"


def test_a_safe_refusal_of_an_unsafe_request_is_a_safe_output() -> None:
    judgement = judged("unsafe", "safe", ("Violence",), decides="response")
    outcome = decide([judgement], TEXT, Policy.from_dict({}), "output")
    assert (outcome.action, outcome.escalates, outcome.reasons) == ("allow", True, ())


def test_a_shared_category_list_cannot_lower_the_action() -> None:
    policy = {"default": "block", "categories": {"Profanity": "flag"}}
    both = judged("unsafe", "unsafe", ("Profanity",), decides="response")
    alone = judged("safe", "unsafe", ("Profanity",), decides="response")
    assert act([both], policy, "output") == "block"
    assert act([alone], policy, "output") == "flag"
    strict = {"default": "flag", "categories": {"Profanity": "block"}}
    assert act([both], strict, "output") == "block"


# ---------------------------------------------------------------- thresholds


@pytest.mark.parametrize(
    ("p", "expected"), [(0.84, "flag"), (0.85, "flag"), (0.8501, "block"), (1.0, "block"), (None, "block")]
)
def test_above_fires_when_p_is_greater_or_absent(p: float | None, expected: str) -> None:
    policy = {"categories": {"Malware": {"action": "block", "above": 0.85, "otherwise": "flag"}}}
    assert act([judged("unsafe", None, ("Malware",), p)], policy) == expected


def test_above_without_otherwise_leaves_a_flag() -> None:
    assert (
        act([judged("unsafe", None, ("Malware",), 0.6)], {"categories": {"Malware": {"action": "block", "above": 0.9}}})
        == "flag"
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("p", "expected"), [(0.35, "allow"), (0.36, "review")])
def test_unsafe_above_makes_a_safe_label_unsafe_without_a_category(stage: Stage, p: float, expected: str) -> None:
    own = {"unsafe_above": 0.35, "default": "review"}
    policy = {"default": "review", "categories": {"Violence": "allow"}, "stages": {stage: own}}
    outcome = decide([side(stage, "safe", ("Violence",), p)], TEXT, Policy.from_dict(policy), stage)
    assert outcome.action == expected
    assert all(reason.category is None for reason in outcome.reasons)


def test_unsafe_above_without_logprobs_is_a_failed_verdict_unless_the_label_already_blocks() -> None:
    policy = Policy.from_dict({"on_failure": "flag", "stages": {"input": {"unsafe_above": 0.2}}})
    outcome = decide([judged("safe")], TEXT, policy, "input")
    assert (outcome.action, outcome.failed, outcome.reasons[0].cause) == ("flag", True, "no_logprobs")
    assert decide([judged("unsafe")], TEXT, policy, "input").action == "block"


def test_a_side_that_was_not_rated_has_not_been_judged() -> None:
    outcome = decide([judged("safe", None, decides="response")], TEXT, Policy.from_dict({}), "output")
    assert (outcome.action, outcome.failed) == ("block", True)


# ---------------------------------------------------------------- coverage


@pytest.mark.parametrize("kind", ["text", "image", "document", "audio", "video", "other"])
@pytest.mark.parametrize("action", ["block", "review", "flag", "allow"])
def test_what_cannot_be_judged_follows_its_own_rule(kind: Kind, action: Action) -> None:
    coverage = Coverage((Covered(0, "text"),), (Covered(1, kind, cause="planted"),))
    safe = [judged("safe")]
    assert act(safe, {"on_uncheckable": action}, coverage=coverage) == action
    assert act(safe, {"on_uncheckable": {kind: action}}, coverage=coverage) == action
    others: Kind = "audio" if kind != "audio" else "video"
    assert act(safe, {"on_uncheckable": {others: action}}, coverage=coverage) == "block"
    per_stage = {"on_uncheckable": "block", "stages": {"input": {"on_uncheckable": {kind: action}}}}
    assert act(safe, per_stage, coverage=coverage) == action
    assert act(safe, per_stage, "retrieval", coverage) == "block"


def test_what_needs_no_judgement_is_listed_and_decides_nothing() -> None:
    coverage = Coverage((), (Covered(0, "text", cause="empty", counts=False),))
    assert act([], {}, coverage=coverage) == "allow"


def test_silence_is_never_an_allow() -> None:
    outcome = decide([], Coverage(), Policy.from_dict({}), "input")
    assert (outcome.action, outcome.uncheckable) == ("block", True)


# ---------------------------------------------------------------- rewriting rules


def test_on_a_tool_call_a_general_rewrite_other_than_redact_blocks() -> None:
    policy = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "replace"}}}
    judgement = judged("safe", "unsafe", ("PII/Privacy",), decides="response")
    assert act([judgement], policy, "tool_call") == "block"
    assert act([judgement], policy, "output") == "rewrite"
    redact = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}
    assert act([judgement], redact, "tool_call") == "rewrite"


def test_the_strictest_way_of_rewriting_a_part_wins() -> None:
    policy = Policy.from_dict(
        {
            "categories": {
                "Profanity": {"action": "rewrite", "with": "redact"},
                "Harassment": {"action": "rewrite", "with": "replace"},
                "Malware": {"action": "rewrite", "with": "drop"},
            }
        }
    )
    judgements = [judged("unsafe", None, ("Profanity", "Harassment")), judged("unsafe", None, ("Malware",), part=1)]
    assert decide(judgements, TEXT, policy, "input").ways() == {0: "replace", 1: "drop"}
