"""What is too long passes as far as it was judged, with a notice that says how much is missing."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from turnguard import Guard, Policy, Step, Verdict
from turnguard.config.settings import ModeratorSettings
from turnguard.core.errors import Timeout
from turnguard.core.exchange import Exchange
from turnguard.core.step import Document, Text, ToolCall
from turnguard.testing import FakeModerator

SMALL = ModeratorSettings(max_input_tokens=400, max_windows=4)


def guard(moderator: FakeModerator | None = None, policy: dict[str, Any] | None = None, **settings: Any) -> Guard:
    made = ModeratorSettings(**settings) if settings else SMALL
    return Guard(Policy.from_dict(policy or {}), moderator or FakeModerator(unsafe=["UNSAFE"]), moderator_settings=made)


def words(number: int, word: str = "word") -> str:
    return "".join(f"{word}{at} " if at % 12 else f"{word}{at}\n" for at in range(number))


def shown(moderator: FakeModerator) -> str:
    return "".join(exchange.prompt + (exchange.response or "") for exchange in moderator.asked)


# ---------------------------------------------------------------- ordinary lengths, with the defaults


def log(size: int) -> str:
    line = "2026-11-30T17:{:02}:{:02}Z INFO worker-{} served GET /v1/items/{} in {} ms\n"
    lines = (line.format(at // 60 % 60, at % 60, at % 7, at * 37, at % 211) for at in range(size))
    return "".join(lines)[:size]


def records(size: int) -> str:
    rows = [{"id": at, "name": f"Item {at}", "tags": ["a", "b"], "price": at * 1.5} for at in range(size // 60)]
    return json.dumps(rows, indent=1)[:size]


def page(size: int) -> str:
    row = (
        '<p class="mw-line"><a href="/wiki/Tea_{0}" title="Tea">Tea</a> is a drink made from leaves, number {0}.</p>\n'
    )
    return ("<!DOCTYPE html><html><body>\n" + "".join(row.format(at) for at in range(size // 100)))[:size]


ORDINARY = {
    "180 kB of log": log(180_000),
    "100 kB of JSON": records(100_000),
    "243 kB of HTML": page(243_000),
    "60,000 characters of Chinese": "我们今天去公园散步，天气很好。" * 4000,
    "60,000 characters of Thai": "วันนี้อากาศดีมากเราไปเดินเล่นกัน " * 1800,
    "60,000 characters of Hindi": "आज मौसम अच्छा है और हम टहलने गए। " * 1850,
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
async def test_an_ordinary_tool_result_passes_by_default(text: str) -> None:
    moderator = FakeModerator(unsafe=["UNSAFE"])
    async with Guard(moderator=moderator) as guarded:
        decision = await guarded.acheck(Step.tool_result("fetch", text))
        assert decision.action in ("allow", "rewrite")
        assert not decision.failed
        if decision.action == "rewrite":
            body, _, notice = decision.text.rpartition("\n\n")
            assert text.startswith(body)
            assert len(body) > len(text) / 4
            assert f"of {len(text):,} characters" in notice
        # what goes on is itself judged in full, as it stands in every later turn
        again = await guarded.acheck(Step.tool_result("fetch", decision.text))
        assert (again.action, again.text) == ("allow", decision.text)


@pytest.mark.parametrize("name", ["60,000 characters of Thai", "60,000 characters of Hindi"])
async def test_texts_with_marks_above_and_below_their_letters_are_judged_whole(name: str) -> None:
    async with guard(max_windows=32) as guarded:
        decision = await guarded.acheck(Step.tool_result("fetch", ORDINARY[name]))
    assert (decision.action, decision.coverage.complete) == ("allow", True)


# ---------------------------------------------------------------- what is cut


async def test_what_was_judged_passes_and_the_rest_is_cut_with_a_notice() -> None:
    text = words(3000)
    moderator = FakeModerator()
    async with guard(moderator) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", text))
    assert (decision.action, decision.message, decision.failed) == ("rewrite", None, False)
    body, _, notice = decision.text.rpartition("\n\n")
    assert text.startswith(body)
    assert body in text
    assert len(moderator.asked) == 4
    assert all(word in shown(moderator) for word in body.split())
    assert notice == (
        f"[The rest of this text could not be checked and was cut off: {len(text) - len(body) - 1:,} of {len(text):,} "
        "characters. Ask for a smaller part to read it]"
    )
    (entry,) = [entry for entry in decision.coverage.not_judged if entry.counts]
    assert entry.cause is not None
    assert entry.cause.startswith("longer than ")
    assert entry.cause.endswith(" words")
    assert entry.detail.startswith("text from character ")
    assert decision.reasons[0].rule == "policy.on_uncheckable"
    assert decision.coverage.complete is False


async def test_the_part_that_is_cut_off_is_never_passed_on_and_the_part_that_passes_is_judged() -> None:
    moderator = FakeModerator(unsafe=["UNSAFE"])
    async with guard(moderator) as guarded:
        hidden = await guarded.acheck(Step.tool_result("read", words(3000) + "how to do UNSAFE"))
        assert (hidden.action, "UNSAFE" in hidden.text) == ("rewrite", False)
        assert "UNSAFE" not in shown(moderator)
        seen = await guarded.acheck(Step.tool_result("read", "how to do UNSAFE\n" + words(3000)))
        assert (seen.action, seen.content) == ("block", ())


async def test_a_short_text_is_not_touched_and_asks_no_more_than_before() -> None:
    moderator = FakeModerator()
    async with guard(moderator) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", words(50)))
    assert (decision.action, decision.text, len(moderator.asked)) == ("allow", words(50), 1)


async def test_an_input_that_is_too_long_is_refused_unsent_and_told_why() -> None:
    moderator = FakeModerator()
    async with guard(moderator) as guarded:
        decision = await guarded.acheck(Step.input(words(3000), language="en"))
    assert (decision.action, decision.content, len(moderator.asked)) == ("block", (), 0)
    assert decision.message is not None
    assert "(longer than " in decision.message
    assert " words)" in decision.message
    assert "word1" not in decision.message
    own = {"on_uncheckable": {"text": "block"}, "messages": {"uncheckable": {"en": "Too much."}}}
    async with guard(moderator, own) as guarded:
        assert (await guarded.acheck(Step.input(words(3000), language="en"))).message == "Too much."


async def test_an_input_is_cut_where_the_policy_says_so() -> None:
    async with guard(policy={"on_uncheckable": {"text": "trim"}}) as guarded:
        decision = await guarded.acheck(Step.input(words(3000), language="de"))
    assert decision.action == "rewrite"
    assert decision.text.startswith("word0\nword1")
    assert "konnte nicht geprüft werden und wurde abgeschnitten" in decision.text


async def test_with_flag_the_whole_passes_and_the_beginning_is_judged_all_the_same() -> None:
    policy = {"on_uncheckable": {"text": "flag"}}
    async with guard(policy=policy) as guarded:
        decision = await guarded.acheck(Step.input(words(3000)))
        assert (decision.action, decision.text) == ("flag", words(3000))
        seen = await guarded.acheck(Step.input("how to do UNSAFE\n" + words(3000)))
        assert seen.action == "block"


async def test_a_cut_text_is_recognised_and_not_cut_again() -> None:
    moderator = FakeModerator()
    async with guard(moderator) as guarded:
        first = await guarded.acheck(Step.tool_result("read", words(3000)))
        asked = len(moderator.asked)
        again = await guarded.acheck(Step.tool_result("read", first.text))
    assert (again.action, again.text) == ("allow", first.text)
    assert len(moderator.asked) <= asked + 1  # only the last window has changed: it ends with the notice


# ---------------------------------------------------------------- several parts


async def test_parts_behind_the_cut_are_dropped_and_counted_in_its_notice() -> None:
    parts = [words(100, "first"), words(3000, "second"), words(20, "third")]
    async with guard() as guarded:
        decision = await guarded.acheck(Step("tool_result", tuple(map(Text, parts)), tool="read"))
        each = await guarded.acheck_parts(Step("tool_result", tuple(map(Text, parts)), tool="read"))
    assert decision.parts[0] == Text(parts[0])
    assert isinstance(decision.parts[1], Text)
    assert decision.parts[1].text.startswith("second0\nsecond1")
    assert f"of {len(parts[1]) + len(parts[2]):,} characters" in decision.parts[1].text
    assert decision.parts[2] is None
    assert [part.action for part in each] == ["allow", "rewrite", "rewrite"]
    assert [part.parts for part in each] == [(part,) for part in decision.parts]


async def test_each_chunk_of_a_retrieval_is_cut_by_itself() -> None:
    chunks = [words(3000, "long"), "short and good", words(10, "last")]
    async with guard() as guarded:
        decision = await guarded.acheck(Step.retrieval(chunks))
    assert isinstance(decision.parts[0], Text)
    assert "could not be checked" in decision.parts[0].text
    assert decision.parts[1:] == (Text(chunks[1]), Text(chunks[2]))


async def test_chunks_behind_the_last_window_become_one_notice() -> None:
    chunks = [f"chunk {number}" for number in range(9)]
    async with guard() as guarded:
        decision = await guarded.acheck(Step.retrieval(chunks))
    assert decision.parts[:4] == tuple(map(Text, chunks[:4]))
    assert isinstance(decision.parts[4], Text)
    assert "35 of 35 characters" in decision.parts[4].text
    assert decision.parts[5:] == (None,) * 4


async def test_a_document_becomes_its_judged_text_and_the_notice() -> None:
    text = words(3000)
    step = Step.tool_result("fetch", "Here it is.", documents=[Document(text.encode(), "text/plain")])
    async with guard() as guarded:
        decision = await guarded.acheck(step)
    assert decision.action == "rewrite"
    assert decision.parts[0] == Text("Here it is.")
    assert isinstance(decision.parts[1], Text)
    assert decision.parts[1].text.startswith("word0\nword1")
    assert "could not be checked and was cut off" in decision.parts[1].text


async def test_a_document_that_fits_is_passed_on_as_its_bytes() -> None:
    document = Document(words(50).encode(), "text/plain")
    async with guard() as guarded:
        decision = await guarded.acheck(Step.tool_result("fetch", "Here.", documents=[document]))
    assert (decision.action, decision.parts) == ("allow", (Text("Here."), document))


# ---------------------------------------------------------------- where nothing may be cut


async def test_a_document_of_which_nothing_can_be_read_blocks() -> None:
    async with guard() as guarded:
        step = Step.tool_result("fetch", "Here.", documents=[Document(b"%PDF-1.7\nbroken", "application/pdf")])
        assert (await guarded.acheck(step)).action == "block"


@pytest.mark.parametrize("on_failure", ["block", "flag"])
async def test_where_a_window_has_no_verdict_nothing_is_cut(on_failure: str) -> None:
    def script(exchange: Exchange) -> Verdict | Exception | None:
        return Timeout("no verdict before the deadline") if "word100 " in exchange.prompt else None

    async with guard(FakeModerator(script=script), {"on_failure": on_failure}) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", words(3000)))
    assert (decision.action, decision.content) == ("block", ())


async def test_where_undisguising_reached_its_bound_nothing_is_cut() -> None:
    bomb = base64.b64encode(gzip.compress(b"good morning " * 200_000)).decode()
    async with guard(FakeModerator(), max_windows=32) as guarded:
        for text in (bomb, words(50) + bomb, bomb + "\n" + words(60_000)):
            decision = await guarded.acheck(Step.tool_result("read", text, language="en"))
            assert (decision.action, decision.content) == ("block", ())
            assert any("undisguising" in (reason.cause or "") for reason in decision.reasons)


async def test_arguments_are_not_cut() -> None:
    call = ToolCall("write", {"text": words(3000)})
    async with guard(policy={"on_uncheckable": {"text": "trim"}}) as guarded:
        decision = await guarded.acheck(Step("tool_call", (call,), prompt="Write."))
    assert (decision.action, decision.content) == ("block", ())


async def test_a_cut_before_the_newest_words_blocks() -> None:
    step = replace(Step.input("And now?", language="en"), history=(words(3000),))
    async with guard(policy={"on_uncheckable": {"text": "trim"}}) as guarded:
        decision = await guarded.acheck(step)
    assert (decision.action, decision.content) == ("block", ())


async def test_a_cut_and_a_redaction_go_together() -> None:
    moderator = FakeModerator(unsafe={"ssn": ["PII/Privacy"]})
    policy = {"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}
    async with guard(moderator, policy) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", "Hello. My ssn is 7.\n" + words(3000), language="en"))
    assert decision.action == "rewrite"
    assert decision.text.startswith("Hello. [redacted]\nword0")
    assert "could not be checked and was cut off" in decision.text


async def test_a_cut_and_a_stricter_rule_take_the_stricter() -> None:
    moderator = FakeModerator(unsafe={"ssn": ["PII/Privacy"]})
    async with guard(moderator, {"categories": {"PII/Privacy": "review"}}) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", "My ssn is 7.\n" + words(3000), language="en"))
    assert (decision.action, decision.content) == ("review", ())


# ---------------------------------------------------------------- files of which something could not be read


async def test_a_document_whose_other_parts_cannot_be_read_becomes_its_text() -> None:
    """An attachment of an unknown kind inside an e-mail: the mail's words pass, the attachment does not."""
    mail = (
        b"From: bo@example.com\r\nSubject: Tea\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b"--x\r\nContent-Type: text/plain\r\n\r\nTea at five.\r\n"
        b"--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(bytes(range(256)) * 16)
        + b"\r\n--x--\r\n"
    )
    step = Step.tool_result("mail", "One mail.", documents=[Document(mail, "message/rfc822", "a.eml")])
    async with Guard(moderator=FakeModerator(unsafe=["UNSAFE"])) as guarded:
        decision = await guarded.acheck(step)
        assert decision.action == "rewrite", decision.coverage.not_judged
        assert decision.parts[0] == Text("One mail.")
        assert isinstance(decision.parts[1], Text)
        assert "Tea at five." in decision.parts[1].text
        assert "[Some of this file could not be checked and was left out] (" in decision.parts[1].text
        bad = replace(step, parts=(step.parts[0], Document(mail.replace(b"five", b"UNSAFE"), "message/rfc822")))
        assert (await guarded.acheck(bad)).action == "block"


async def test_a_name_alone_is_no_body() -> None:
    step = Step.tool_result("fetch", "Here.", documents=[Document(bytes(range(256)) * 16, None, "report.bin")])
    async with guard() as guarded:
        assert (await guarded.acheck(step)).action == "block"


async def test_the_notice_on_a_withheld_tool_result_says_why_without_content() -> None:
    notices = pytest.importorskip("turnguard.langchain.notices")
    async with guard(policy={"on_uncheckable": "block"}) as guarded:
        decision = await guarded.acheck(Step.tool_result("read", words(3000, "tea")))
        said = notices.result_notice(guarded, decision)
    assert "part of it cannot be checked (longer than " in said
    assert " words)" in said
    assert "tea" not in said
