"""What a decision is made from survives as text, and nothing that a model wrote at length goes with it."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnguard import Policy, Verdict
from turnguard.core.verdict import Coverage, Covered, Judgement, Looks, Reduced, looked_twice
from turnguard.records.evidence import Evidence

SAID = Verdict(
    user="unsafe",
    categories=("Profanity",),
    unknown_categories=("planted name",),
    p_user=0.7,
    raw="planted raw",
    reasoning="planted reasoning",
    identity="planted identity",
)


def test_what_a_model_wrote_is_left_out_of_both_looks() -> None:
    second = replace(SAID, user="safe", p_user=0.1)
    for decides in ("first", "second", "both"):
        shown = looked_twice(Looks(SAID, second, decides))
        evidence = Evidence((Judgement(shown, "user", (0,)),))
        text = evidence.dump()
        assert "planted" not in text
        for policy in (Policy.from_dict({"default": "flag"}), Policy.from_dict({"categories": {"Profanity": "allow"}})):
            again, live = Evidence.load(text).decide(policy, "input"), evidence.decide(policy, "input")
            assert (again.action, again.reasons) == (live.action, live.reasons)


def test_every_field_of_a_verdict_is_kept_or_named_as_left_out() -> None:
    left_out = {"raw", "reasoning", "tokens", "identity", "latency", "remembered"}
    full = Verdict(
        user="unsafe",
        response="safe",
        categories=("Threat",),
        unknown_categories=("unknown",),
        p_user=0.5,
        p_response=0.25,
        failure="timeout",
        cause="a cause",
        model="m",
        native=("S1",),
        block_only=True,
    )
    kept = Evidence.load(Evidence((Judgement(full, "user", (0,)),)).dump()).judgements[0].verdict
    for field in fields(Verdict):
        if field.name not in left_out:
            assert getattr(kept, field.name) == getattr(full, field.name), field.name


@given(st.floats(0.0, 1.0))
def test_a_probability_is_kept_to_the_last_bit(p: float) -> None:
    evidence = Evidence((Judgement(Verdict(user="safe", p_user=p), "user", (0,)),))
    assert Evidence.load(evidence.dump()).judgements[0].verdict.p_user == p


def test_what_is_no_probability_is_kept_as_none() -> None:
    evidence = Evidence((Judgement(Verdict(user="safe", p_user=math.nan), "user", (0,)),))
    assert Evidence.load(evidence.dump()).judgements[0].verdict.p_user is None


def test_coverage_is_kept() -> None:
    coverage = Coverage(
        (Covered(0, "text"),), (Covered(1, "audio", cause="ünïcode"),), (Reduced(0, "image", "p", 0.5),)
    )
    assert Evidence.load(Evidence((), coverage, "de").dump()) == Evidence((), coverage, "de")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"judgements":[{}]}', '{"judgements":1}'])
def test_half_of_a_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Evidence.load(text)
