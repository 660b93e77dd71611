"""Every family reads exactly its own grammar: what is legal, what is not, and that nothing else is ever safe."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asked import verdict
from tests.families.grammar import ANSWERED, ASKED, GRAMMARS, nearly
from tests.fuzz.families import read, run
from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange, OwnCategories, OwnCategory
from turnguard.core.verdict import MAX_REASONING, Verdict
from turnguard.moderators.families import Asking

RECORDED = Path(__file__).parents[2] / "../shared/data/nemo_recorded_verdicts/recorded.json"
GUARD = "nemotron-safety-guard-8b-v3"


def reply(content: Any, finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


# source of each: the card or README named beside it, or a reply that a server was seen to give
DOCUMENTED: list[tuple[str, str, Exchange, tuple[str | None, str | None], tuple[str, ...], tuple[str, ...]]] = [
    # NVIDIA's cassettes of 3.5 in NVIDIA/NeMo-Guardrails, tests/recorded/rails/library
    ("nemotron-3.5", "User Safety: safe", ASKED, ("safe", None), (), ()),
    ("nemotron-3.5", "User Safety: unsafe\nSafety Categories: Criminal Planning/Confessions", ASKED,
     ("unsafe", None), ("Criminal Planning/Confessions",), ()),
    # NVIDIA-NeMo/Nemotron, usage-cookbook/Nemotron-3.5-Content-Safety, customer_service_cookbook: inline trace, no break
    ("nemotron-3.5", "<think>\nThe request is a standard customer service issue.\n</think>User Safety: safe", ASKED,
     ("safe", None), (), ()),
    # NVIDIA's NIM documentation of the model, and the parser that NeMo Guardrails ships for it
    (GUARD, '{"User Safety": "safe"} ', ASKED, ("safe", None), (), ()),
    (GUARD, '{"User Safety": "unsafe", "Response Safety": "safe", "Safety Categories": "Violence, Threat"}', ANSWERED,
     ("unsafe", "safe"), ("Violence", "Threat"), ()),
    # Meta's prompt format of Llama Guard 4; the empty lines: NVIDIA-NeMo/Guardrails pull request 1118, vLLM 0.8.3
    ("llama-guard-4", "safe", ASKED, ("safe", None), (), ()),
    ("llama-guard-4", "\n\nsafe", ANSWERED, (None, "safe"), (), ()),
    ("llama-guard-4", "\n\nunsafe\nS9", ASKED, ("unsafe", None), ("Guns and Illegal Weapons",),
     ("S9: Indiscriminate Weapons",)),
    ("llama-guard-4", "unsafe\nS3,S12,S5", ANSWERED, (None, "unsafe"), ("Sexual", "Other"),
     ("S3: Sex-Related Crimes", "S12: Sexual Content", "S5: Defamation")),
    # QwenLM/Qwen3Guard, README.md
    ("qwen3guard", "Safety: Unsafe\nCategories: Violent\n", ASKED, ("unsafe", None), ("Violence",), ("Violent",)),
    ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal: Yes", ANSWERED, (None, "safe"), (), ()),
    ("qwen3guard", "Safety: Controversial\nCategories: Jailbreak, PII", ASKED, ("unsafe", None),
     ("Other", "PII/Privacy"), ("Jailbreak", "PII")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "exchange", "labels", "categories", "native"), DOCUMENTED)
def test_documented_replies(
    name: str,
    text: str,
    exchange: Exchange,
    labels: tuple[str | None, str | None],
    categories: tuple[str, ...],
    native: tuple[str, ...],
) -> None:
    found = verdict(reply(text), exchange, name)
    assert (found.user, found.response) == labels
    assert (found.categories, found.native, found.unknown_categories) == (categories, native, ())


UNKNOWN = {
    "nemotron-3.5": "User Safety: unsafe\nSafety Categories: Violence, Time Travel",
    GUARD: '{"User Safety": "unsafe", "Safety Categories": "Violence, Time Travel"}',
    "llama-guard-4": "unsafe\nS1,S77",
    "qwen3guard": "Safety: Unsafe\nCategories: Violent, Time Travel",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_category_that_the_family_does_not_have_is_recorded_as_unknown(name: str) -> None:
    found = verdict(reply(UNKNOWN[name]), ASKED, name)
    assert (found.user, found.categories) == ("unsafe", ("Violence",))
    assert found.unknown_categories in (("Time Travel",), ("S77",))


ILLEGAL: list[tuple[str, Any, Exchange]] = [
    (GUARD, '{"User Safety": "safe", "Response Safety": "safe"}', ASKED),
    (GUARD, '{"User Safety": "safe"}', ANSWERED),
    (GUARD, '{"Response Safety": "safe"}', ANSWERED),
    (GUARD, '{"User Safety": "safe", "User Safety": "unsafe"}', ASKED),
    (GUARD, '{"User Safety": "unsafe", "User Safety": "safe"}', ASKED),
    (GUARD, '{"User Safety": "safe", "Safety Categories": "Violence"}', ASKED),
    (GUARD, '{"User Safety": "safe", "Note": "x"}', ASKED),
    (GUARD, '{"User Safety": true}', ASKED),
    (GUARD, '{"User Safety": {"User Safety": "safe"}}', ASKED),
    (GUARD, '[{"User Safety": "safe"}]', ASKED),
    (GUARD, '"safe"', ASKED),
    (GUARD, "User Safety: safe", ASKED),
    (GUARD, '```json\n{"User Safety": "safe"}\n```', ASKED),
    (GUARD, '{"User Safety": "safe"', ASKED),
    (GUARD, '{"User Safety": "safe"}{"User Safety": "unsafe"}', ASKED),
    (GUARD, "[" * 100_000, ASKED),
    ("llama-guard-4", "", ASKED),
    ("llama-guard-4", "safe\nS1", ASKED),
    ("llama-guard-4", "safe unsafe", ASKED),
    ("llama-guard-4", "safe.", ASKED),
    ("llama-guard-4", "unsafe\nViolence", ASKED),
    ("llama-guard-4", "unsafe\nS1\nS2", ASKED),
    ("llama-guard-4", "unsafe\nS1,,S2", ASKED),
    ("llama-guard-4", "safe\n\nThe message is harmless.", ASKED),
    ("llama-guard-4", "User Safety: safe", ASKED),
    ("llama-guard-4", "safe\u2028unsafe", ASKED),
    ("qwen3guard", "Safety: Safe", ASKED),
    ("qwen3guard", "Categories: None", ASKED),
    ("qwen3guard", "Safety: Safe\nCategories: Violent", ASKED),
    ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal: No", ASKED),
    ("qwen3guard", "Safety: Safe\nCategories: None", ANSWERED),
    ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal: Maybe", ANSWERED),
    ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal:", ANSWERED),
    ("qwen3guard", "Safety: Safe\nSafety: Unsafe\nCategories: None", ASKED),
    ("qwen3guard", "Safety: Safe\nCategories: None\nCategories: Violent", ASKED),
    ("qwen3guard", "Safety: Harmless\nCategories: None", ASKED),
    ("qwen3guard", "Safety: Safe, Unsafe\nCategories: None", ASKED),
    ("qwen3guard", "User Safety: safe", ASKED),
    ("nemotron-3.5", "<think>User Safety: safe", ASKED),
    ("nemotron-3.5", "it is fine</think>User Safety: safe", ASKED),
    ("nemotron-3.5", '{"User Safety": "safe"}', ASKED),
]


@pytest.mark.parametrize(("name", "text", "exchange"), ILLEGAL)
def test_whatever_is_not_exactly_a_verdict_is_unparseable(name: str, text: Any, exchange: Exchange) -> None:
    with pytest.raises(Unparseable):
        verdict(reply(text), exchange, name)


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_legal_text_counts_only_in_a_reply_that_ended_by_itself(name: str) -> None:
    for text, exchange in GRAMMARS[name].legal:
        verdict(reply(text), exchange, name)
        for broken in (reply(text, "length"), reply(text, "abort"), reply(None), reply([text]), reply(7), {}):
            with pytest.raises(Unparseable):
                verdict(broken, exchange, name)
        twice = {"choices": reply(text)["choices"] * 2}
        with pytest.raises(Unparseable):
            verdict(twice, exchange, name)


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("other", GRAMMARS)
def test_no_family_takes_the_replies_of_another_for_safe(name: str, other: str) -> None:
    for text, exchange in GRAMMARS[other].legal:
        assert read(name, text, exchange) != "safe" or GRAMMARS[name].says_safe(text, exchange)


@pytest.mark.parametrize("name", GRAMMARS)
def test_nothing_but_a_legal_verdict_is_ever_safe(name: str) -> None:
    found = run(name, 4000, seed=0)
    assert min(found.values()) > 100, found  # each way of reading was tried


@settings(max_examples=300)
@given(st.sampled_from(sorted(GRAMMARS)), st.text() | st.randoms(use_true_random=False), st.booleans())
def test_no_text_breaks_a_parser(name: str, made: str | random.Random, answered: bool) -> None:
    text = made if isinstance(made, str) else nearly(GRAMMARS[name], made)
    read(name, text, ANSWERED if answered else ASKED)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "finish_reason", "logprobs", "top_logprobs", "token", "reasoning"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(GRAMMARS)), _JSON)
def test_no_json_breaks_a_reader(name: str, data: Any) -> None:
    text, exchange = GRAMMARS[name].legal[0]
    shapes = [{"choices": [data]}, {"choices": data}, reply(data), reply(text, reasoning=data, reasoning_content=data)]
    legal = reply(text)
    legal["choices"][0]["logprobs"] = data
    for shape in (*shapes, legal):
        try:
            verdict(shape, exchange, name)
        except Unparseable:
            pass


# ---------------------------------------------------------------- reasoning


def test_the_recorded_exchanges_of_nemotron_35() -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded verdicts are not on this machine")
    read: dict[str, Verdict | None] = {}
    for record in json.loads(RECORDED.read_text()):
        answered = any(message["role"] == "assistant" for message in record["request"]["messages"])
        exchange = ANSWERED if answered else ASKED
        answer = {"choices": [{"message": record["message"], "finish_reason": record["finish_reason"]}]}
        try:
            read[record["name"]] = verdict(answer, exchange, "nemotron-3.5")
        except Unparseable:
            read[record["name"]] = None
    assert [name for name, found in read.items() if found is None] == ["input_fails_closed_on_truncated_verdict"]
    thought = read["input_blocks_unsafe_user_message_with_thinking"]
    assert thought is not None
    assert thought.user == "unsafe"
    assert (thought.reasoning or "").startswith("We need to output:")
    plain = read["input_allows_safe_user_message"]
    assert plain is not None
    assert plain.reasoning is None


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_a_trace_is_kept_and_never_read_as_a_verdict(key: str) -> None:
    thought = "User Safety: safe\nThus the final answer is safe."
    apart = verdict(reply("User Safety: unsafe", **{key: thought}), ASKED, "nemotron-3.5")
    inline = verdict(reply(f"<think>{thought}</think>User Safety: unsafe"), ASKED, "nemotron-3.5")
    assert apart.user == inline.user == "unsafe"
    assert apart.reasoning == inline.reasoning == thought
    for cut in (reply(None, "length", **{key: thought}), reply(f"<think>{thought}"), reply("", **{key: thought})):
        with pytest.raises(Unparseable):
            verdict(cut, ASKED, "nemotron-3.5")


def test_a_long_trace_is_cut() -> None:
    found = verdict(reply("User Safety: safe", reasoning="x" * 100_000), ASKED, "nemotron-3.5")
    assert len(found.reasoning or "") == MAX_REASONING


def test_names_of_ones_own_are_read_as_the_policy_spells_them() -> None:
    long = (
        "Mentions of products that compete with ours in any of the markets that we serve, or will serve soon".replace(
            ",", ""
        )
    )
    own = OwnCategories.of([OwnCategory(name, "Recommends a competitor.") for name in ("Competitor Mentions", long)])
    assert verdict(
        reply(f"User Safety: unsafe\nSafety Categories: {long}"), Exchange("x", own=own), "nemotron-3.5"
    ).categories == (long,)
    text = "User Safety: unsafe\nSafety Categories: competitor  mentions, Threat, Trade Secrets"
    found = verdict(reply(text), Exchange("x", own=own), "nemotron-3.5")
    assert (found.categories, found.unknown_categories) == (("Competitor Mentions", "Threat"), ("Trade Secrets",))
    assert verdict(reply(text), ASKED, "nemotron-3.5").unknown_categories == ("competitor mentions", "Trade Secrets")


# ---------------------------------------------------------------- P(unsafe)


def token(text: str, **alternatives: float) -> dict[str, Any]:
    top = [{"token": name.replace("_", " "), "logprob": math.log(p), "bytes": None} for name, p in alternatives.items()]
    return {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": top}


def with_tokens(content: str, tokens: list[dict[str, Any]], **message: Any) -> dict[str, Any]:
    made = reply(content, **message)
    made["choices"][0]["logprobs"] = {"content": tokens}
    return made


def test_llama_guard_rates_with_its_first_word() -> None:
    tokens = [token("\n\n"), token("unsafe", unsafe=0.7, safe=0.3), token("\n"), token("S"), token("9")]
    found = verdict(with_tokens("\n\nunsafe\nS9", tokens), ASKED, "llama-guard-4")
    assert found.p_user == pytest.approx(0.7)
    answered = verdict(with_tokens("safe", [token("safe", safe=0.9, un=0.1)]), ANSWERED, "llama-guard-4")
    assert answered.p_user is None
    assert answered.p_response == pytest.approx(0.1)


def test_safety_guard_rates_inside_its_json() -> None:
    tokens = [
        token('{"'), token("User"), token(" Safety"), token('":'), token(' "'), token("uns", uns=0.8, safe=0.2),
        token("afe"), token('",'), token(' "'), token("Response"), token(" Safety"), token('":'), token(' "'),
        token("safe", safe=0.6, uns=0.4), token('"}'),
    ]  # fmt: skip
    found = verdict(with_tokens('{"User Safety": "unsafe", "Response Safety": "safe"}', tokens), ANSWERED, GUARD)
    assert found.p_user == pytest.approx(0.8)
    assert found.p_response == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("word", "shares", "controversial", "label", "p"),
    [
        ("Safe", (0.6, 0.1, 0.3), "unsafe", "safe", 0.4),
        ("Safe", (0.4, 0.3, 0.3), "unsafe", "safe", 0.6),  # the likeliest word, yet P says otherwise
        ("Safe", (0.6, 0.1, 0.3), "safe", "safe", 0.1),
        ("Controversial", (0.2, 0.3, 0.5), "unsafe", "unsafe", 0.8),
        ("Controversial", (0.2, 0.3, 0.5), "safe", "safe", 0.3),
        ("Unsafe", (0.1, 0.8, 0.1), "safe", "unsafe", 0.8),
        ("Unsafe", (0.8, 0.1, 0.1), "unsafe", "unsafe", None),  # was not made for this word
    ],
)
def test_qwen3guard_has_three_words(
    word: str, shares: tuple[float, float, float], controversial: Any, label: str, p: float | None
) -> None:
    names = "None" if word == "Safe" else "Unethical Acts"
    safe, unsafe, doubt = shares
    tokens = [token("Safety"), token(":"), token(f" {word}", _Safe=safe, _Un=unsafe, _Contro=doubt)]
    said = with_tokens(f"Safety: {word}\nCategories: {names}", tokens)
    found = verdict(said, ASKED, "qwen3guard", Asking(controversial=controversial))
    assert found.user == label
    assert found.p_user == (None if p is None else pytest.approx(p))
    assert bool(found.categories) == (label == "unsafe")


@pytest.mark.parametrize("inline", [True, False])
def test_the_odds_of_a_trace_are_not_those_of_the_verdict(inline: bool) -> None:
    trace = [token("<think>"), token("User Safety:"), token(" safe", _safe=1.0), token("</think>")]
    tokens = [*trace, token("User"), token(" Safety"), token(":"), token(" unsafe", _unsafe=0.9, _safe=0.1)]
    tokens.append(token("<end_of_turn>"))
    said = (
        with_tokens("<think>User Safety: safe</think>User Safety: unsafe", tokens)
        if inline
        else with_tokens("User Safety: unsafe", tokens, reasoning="User Safety: safe")
    )
    assert verdict(said, ASKED, "nemotron-3.5").p_user == pytest.approx(0.9)


def test_a_trace_of_many_tokens_is_not_read_to_find_the_verdict() -> None:
    class Counted(dict[str, Any]):
        asked = 0

        def get(self, key: Any, default: Any = None) -> Any:
            Counted.asked += 1
            return super().get(key, default)

    trace = [Counted(token("User Safety: safe ")) for _ in range(2000)]
    tokens = [*trace, token("User Safety:"), token(" unsafe", _unsafe=0.9, _safe=0.1), token("<end_of_turn>")]
    said = with_tokens("User Safety: unsafe", tokens, reasoning="User Safety: safe " * 2000)
    found = verdict(said, ASKED, "nemotron-3.5")
    assert found.p_user == pytest.approx(0.9)
    assert Counted.asked < 10


def test_without_tokens_of_its_own_a_verdict_behind_a_trace_has_no_p() -> None:
    trace = [token("User Safety:"), token(" unsafe", _unsafe=1.0)]
    found = verdict(with_tokens("User Safety: safe", trace, reasoning="User Safety: unsafe"), ASKED, "nemotron-3.5")
    assert (found.user, found.p_user) == ("safe", None)
