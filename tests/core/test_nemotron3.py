"""The family's two functions: what is sent, and what is read. Whatever is not exactly a verdict is unparseable."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asked import request, verdict

from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange, Picture
from turnguard.core.verdict import Verdict
from turnguard.moderators.vllm import encode

RECORDED = Path(__file__).parents[2] / "../shared/data/nemo_recorded_verdicts/recorded.json"
ASKED = Exchange("a question")
ANSWERED = Exchange("a question", response="an answer")


def reply(content: Any, finish_reason: Any = "stop", **extra: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason, **extra}]
    }


# ---------------------------------------------------------------- request


def test_text_alone() -> None:
    body = request(ASKED, "nemotron_moderator", True)
    assert body["messages"] == [{"role": "user", "content": "a question"}]
    assert body["chat_template_kwargs"] == {"request_categories": "/categories"}
    assert (body["model"], body["temperature"], body["logprobs"]) == ("nemotron_moderator", 0.0, True)
    assert body["top_logprobs"] <= 5
    assert body["max_tokens"] <= 100
    assert "extra_body" not in body


def test_labels_only_asks_for_fewer_tokens() -> None:
    body = request(ANSWERED, "m", False)
    assert body["chat_template_kwargs"] == {"request_categories": "/no_categories"}
    assert body["max_tokens"] < request(ANSWERED, "m", True)["max_tokens"]


def test_the_image_stands_before_the_text_and_never_alone() -> None:
    picture = Picture.of(b"\x89PNG bytes", "image/png")
    body = request(Exchange("\n\nlook", picture, "an answer"), "m", True)
    user, assistant = body["messages"]
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][0]["image_url"]["url"] == picture.data_uri
    assert user["content"][1]["text"] == "look"
    assert assistant == {"role": "assistant", "content": "an answer"}
    alone = request(Exchange("", picture), "m", True)
    assert alone["messages"][0]["content"][1]["text"].strip()


def test_a_response_without_a_request_still_has_a_user_turn() -> None:
    body = request(Exchange("", response="an answer"), "m", True)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant"]
    assert body["messages"][0]["content"].strip()


@given(st.text(), st.none() | st.text(), st.none() | st.binary())
def test_the_spliced_body_is_the_body(prompt: str, response: str | None, image: bytes | None) -> None:
    picture = Picture.of(image, "image/png") if image is not None else None
    exchange = Exchange(prompt, picture, response)
    plain = request(exchange, "m", True)
    assert json.loads(encode(request(exchange, "m", True), exchange)) == json.loads(json.dumps(plain))


def test_content_that_looks_like_the_splice_changes_nothing() -> None:
    exchange = Exchange('{"url":""} "url":""', Picture.of(b"x", "image/png"), '"url":""')
    body = json.loads(encode(request(exchange, "m", True), exchange))
    assert body["messages"][0]["content"][1]["text"] == '{"url":""} "url":""'
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


# ---------------------------------------------------------------- reply

LEGAL = {
    "User Safety: safe": Verdict("safe"),
    "user  safety :SAFE\n": Verdict("safe"),
    "\n  User Safety:   Unsafe  \r\n\r\nSafety Categories: Violence , malware": Verdict(
        "unsafe", categories=("Violence", "Malware")
    ),
    "User Safety: unsafe\nSafety Categories: Violence, Time Travel, violence": Verdict(
        "unsafe", categories=("Violence",), unknown_categories=("Time Travel",)
    ),
    "User Safety: unsafe\nSafety Categories:": Verdict("unsafe"),
    "User Safety: unsafe": Verdict("unsafe"),
    "User Safety: safe\nSafety Categories: Violence": Verdict("safe"),
    "<think>User Safety: safe</think>User Safety: unsafe": Verdict("unsafe"),
    "<think>\nlong\nUser Safety: unsafe\n</think>\n\nUser Safety: safe": Verdict("safe"),
}


@pytest.mark.parametrize("content", LEGAL)
def test_legal_replies(content: str) -> None:
    found = verdict(reply(content), ASKED)
    expected = LEGAL[content]
    assert (found.user, found.response) == (expected.user, expected.response)
    assert (found.categories, found.unknown_categories) == (expected.categories, expected.unknown_categories)


def test_both_sides() -> None:
    found = verdict(reply("User Safety: unsafe\nResponse Safety: safe\nSafety Categories: PII/Privacy"), ANSWERED)
    assert (found.user, found.response, found.categories) == ("unsafe", "safe", ("PII/Privacy",))


ILLEGAL: list[tuple[Any, Exchange]] = [
    ("", ASKED),
    ("safe", ASKED),
    ("User Safety", ASKED),
    ("User Safety:", ASKED),
    ("User Safety: maybe", ASKED),
    ("User Safety: safe.", ASKED),
    ("User Safety: safe unsafe", ASKED),
    ("User Safety: unsafe or safe", ASKED),
    ("User Safety: safe\nUser Safety: safe", ASKED),
    ("User Safety: safe\nUser Safety: unsafe", ASKED),
    ("User Safety: safe\nResponse Safety: safe", ASKED),
    ("User Safety: safe", ANSWERED),
    ("Response Safety: safe", ANSWERED),
    ("User Safety: safe\nResponse Safety: safe\nResponse Safety: unsafe", ANSWERED),
    ("The verdict is:\nUser Safety: safe", ASKED),
    ("User Safety: safe\nHope this helps!", ASKED),
    ("User Safety: unsafe\nSafety Categories: Violence\nSafety Categories: Malware", ASKED),
    ("Safety Categories: Violence", ASKED),
    ("**User Safety**: safe", ASKED),
    ("<think>User Safety: safe", ASKED),
    ("<think>hm</think>", ASKED),
    ("<think>hm</think><think>User Safety: safe</think>", ASKED),
    ("it is fine</think>User Safety: safe", ASKED),
    ("User Safety: safe</think>", ASKED),
    ("User Safety: safe\u2028User Safety: unsafe", ASKED),
    ("User Safety: safe\x0bUser Safety: unsafe", ASKED),
    ("User Safеty: safe", ASKED),  # a Cyrillic letter
    (None, ASKED),
    (["User Safety: safe"], ASKED),
    (7, ASKED),
]


@pytest.mark.parametrize(("content", "exchange"), ILLEGAL)
def test_whatever_is_not_exactly_a_verdict_is_unparseable(content: Any, exchange: Exchange) -> None:
    with pytest.raises(Unparseable):
        verdict(reply(content), exchange)


@pytest.mark.parametrize("reason", ["length", "abort", "content_filter", "tool_calls", "banana", None, 3])
def test_a_reply_that_did_not_stop_by_itself_is_unparseable(reason: Any) -> None:
    with pytest.raises(Unparseable, match="finish_reason"):
        verdict(reply("User Safety: safe", reason), ASKED)


@pytest.mark.parametrize(
    "choices", [None, [], {}, "x", [None], [1], [{}], [{"finish_reason": "stop"}], [{"message": "x"}]]
)
def test_malformed_choices_are_unparseable(choices: Any) -> None:
    with pytest.raises(Unparseable):
        verdict({"choices": choices}, ASKED)
    with pytest.raises(Unparseable):
        verdict({}, ASKED)


def test_two_choices_are_no_verdict() -> None:
    twice = reply("User Safety: safe")["choices"] * 2
    with pytest.raises(Unparseable):
        verdict({"choices": twice}, ASKED)


def test_category_names_cannot_carry_control_characters_or_grow() -> None:
    found = verdict(
        reply("User Safety: unsafe\nSafety Categories: a\x1b[31m\x07b, " + "x" * 5000 + ", " + "y," * 500), ASKED
    )
    assert all(name.isprintable() and len(name) <= 80 for name in found.unknown_categories)
    assert len(found.unknown_categories) <= 48


@settings(max_examples=500)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                "User Safety: safe",
                "User Safety: unsafe",
                "Response Safety: safe",
                "<think>",
                "</think>",
                "Safety Categories: Violence",
                "\n",
                " ",
                "x",
                "\u2028",
            ]
        )
    ).map("".join)
)
def test_no_text_breaks_the_parser_and_safe_means_that_a_line_said_so(text: str) -> None:
    for exchange in (ASKED, ANSWERED):
        try:
            found = verdict(reply(text), exchange)
        except Unparseable:
            continue
        lines = [
            " ".join(line.split()).casefold().replace(" :", ":") for line in text.rpartition("</think>")[2].split("\n")
        ]
        assert any(line.replace(": ", ":") == f"user safety:{found.user}" for line in lines)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "finish_reason", "logprobs", "top_logprobs", "token", "logprob"]
                ),
                inner,
            )
        ),
    )
)
def test_no_json_breaks_the_parser(data: Any) -> None:
    for shape in (data, {"choices": data}, {"choices": [data]}, reply("User Safety: safe", logprobs=data)):
        if isinstance(shape, dict):
            try:
                verdict(shape, ASKED)
            except Unparseable:
                pass


def test_the_recorded_exchanges() -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded verdicts are not on this machine")
    records = json.loads(RECORDED.read_text())
    read: dict[str, Verdict | Unparseable] = {}
    for record in records:
        answered = any(message["role"] == "assistant" for message in record["request"]["messages"])
        answer = reply(record["message"]["content"], record["finish_reason"])
        try:
            read[record["name"]] = verdict(answer, ANSWERED if answered else ASKED)
        except Unparseable as error:
            read[record["name"]] = error
    assert len(records) == 8
    assert [type(found) for found in read.values()].count(Unparseable) == 1
    assert isinstance(read["input_fails_closed_on_truncated_verdict"], Unparseable)
    refusal = read["output_allows_safe_refusal_to_unsafe_user_message"]
    assert isinstance(refusal, Verdict)
    assert (refusal.user, refusal.response) == ("unsafe", "safe")


# ---------------------------------------------------------------- P(unsafe)


def token(text: str, **alternatives: float) -> dict[str, Any]:
    top = [{"token": name.replace("_", " "), "logprob": math.log(p), "bytes": None} for name, p in alternatives.items()]
    return {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": top}


def p_of(content: str, tokens: list[dict[str, Any]], exchange: Exchange = ASKED) -> tuple[float | None, float | None]:
    found = verdict(reply(content, logprobs={"content": tokens}), exchange)
    return found.p_user, found.p_response


def test_p_is_read_at_each_label() -> None:
    tokens = [
        token("User"), token(" Safety"), token(":"), token(" unsafe", _unsafe=0.9, _safe=0.1), token("\n"),
        token("Response"), token(" Safety:"), token(" safe", _safe=0.8, _unsafe=0.2), token("\n"), token("Safety"),
        token(" Categories:"), token(" unsafe", _unsafe=1.0),
    ]  # fmt: skip
    content = "User Safety: unsafe\nResponse Safety: safe\nSafety Categories: Violence"
    p_user, p_response = p_of(content, tokens, ANSWERED)
    assert p_user == pytest.approx(0.9)
    assert p_response == pytest.approx(0.2)


def test_a_label_in_two_tokens_and_spaces_of_their_own() -> None:
    tokens = [token("User Safety:"), token(" "), token("un", un=0.7, safe=0.2, s=0.1), token("safe", safe=1.0)]
    assert p_of("User Safety: unsafe", tokens)[0] == pytest.approx(0.7)


def test_alternatives_in_other_cases_count_and_repeats_do_not() -> None:
    entry = token(" safe", _safe=0.5, Safe=0.3, unsafe=0.2)
    entry["top_logprobs"].append(dict(entry["top_logprobs"][2]))
    assert p_of("User Safety: safe", [token("User Safety:"), entry])[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "broken", [None, {}, {"content": None}, {"content": [{}]}, {"content": [{"token": 3}]}, {"content": []}]
)
def test_without_usable_logprobs_there_is_no_p(broken: Any) -> None:
    found = verdict(reply("User Safety: unsafe", logprobs=broken), ASKED)
    assert (found.user, found.p_user) == ("unsafe", None)


def test_a_p_that_contradicts_the_label_is_not_relied_on() -> None:
    tokens = [token("User Safety:"), token(" unsafe", _safe=0.99, _unsafe=0.01)]
    assert p_of("User Safety: unsafe", tokens)[0] is None
