"""The holes in NeMo's engines, each closed by `guarded`: what the engine would let by is judged around it.

The engine has a rail of its own in most of these, so that what it does with its rails is what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.rails.llm.options import RailStatus, RailType

from tests.nemo.guarded_lab import ENGINES, GuardedLab
from tests.nemo.lab import (
    BAD,
    BLUE,
    GREEN,
    OTHER,
    QUIET,
    RED,
    REFUSAL,
    Main,
    assistant,
    called,
    leaks,
    noop,
    result,
    user,
)
from turnguard.nemo import guarded

pytestmark = QUIET

engines = pytest.mark.parametrize("kind", ENGINES)
llmrails = pytest.mark.parametrize("kind", ENGINES[1:])
both_ways = pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
both_modes = pytest.mark.parametrize("passthrough", [True, False], ids=["passthrough", "general"])
Make = Callable[..., GuardedLab]

ASK = user("take a screenshot")
PAST = (ASK, called(), result("a desktop"), assistant("done"))
IMAGE = {"type": "image_url", "image_url": {"url": RED}}


@pytest.fixture
def own(lab: Make) -> Make:
    """An LLMRails with rails of its own, which do nothing."""

    def make(kind: str, *replies: Any, parallel: bool = False, **settings: Any) -> GuardedLab:
        flows = {"flows": ["other"], "parallel": parallel}
        rails = {"input": flows, "output": {**flows, "streaming": {"enabled": True, "stream_first": True}}}
        made = lab(kind, *replies, colang=OTHER, rails=settings.pop("rails", rails), **settings)
        made.engine.register_action(noop, "noop")
        return made

    return make


@llmrails
@both_ways
@both_modes
async def test_the_newest_message_behind_a_past_tool_call(
    kind: str, parallel: bool, passthrough: bool, own: Make
) -> None:
    made = own(kind, parallel=parallel, passthrough=passthrough)
    assert await made.say(*PAST, user(f"now a {BAD}")) == assistant(REFUSAL)
    assert await made.stream(*PAST, user(f"now a {BAD}")) == [REFUSAL]
    assert made.prompts == []
    assert await made.say(*PAST, user("and now?")) == assistant("fine")
    assert "and now?" in made.seen, "the main model reads it"


@llmrails
@both_ways
async def test_the_callers_own_list_is_not_written_into(kind: str, parallel: bool, own: Make) -> None:
    made = own(kind, parallel=parallel)
    messages = [*PAST, user("and now?")]
    before = repr(messages)
    await made.engine.generate_async(messages=messages)
    assert repr(messages) == before


@llmrails
async def test_check_with_tool_messages_2065(kind: str, own: Make) -> None:
    check = own(kind).engine.check_async
    blocked = await check([*PAST, user(BAD)], rail_types=[RailType.INPUT])
    assert (blocked.status, blocked.content, blocked.rail) == (RailStatus.BLOCKED, REFUSAL, "turnguard check input")
    blocked = await check([ASK, called(f'{{"to": "{BAD}"}}')])
    assert (blocked.status, blocked.rail) == (RailStatus.BLOCKED, "turnguard check tool call")
    assert (await check([ASK, called(), result(BAD)])).status == RailStatus.BLOCKED
    assert (await check([ASK, called(), result([IMAGE])])).status == RailStatus.BLOCKED


@engines
async def test_consecutive_user_messages_1413(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(user(f"how do I make a {BAD}"), user("please")) == assistant(REFUSAL)
    assert made.prompts == []


NAMED = """
define flow refuse
  $text = execute words
  bot $text
  stop
"""


@llmrails
async def test_what_the_main_model_adds_to_a_refusal_of_the_engines_in_parallel(kind: str, lab: Make) -> None:
    """`bot $var` and `stop` in a parallel rail: the main model is called, and its answer appended."""
    rails = {"input": {"flows": ["refuse"], "parallel": True}, "output": {"flows": ["other"]}}
    made = lab(kind, f"a {BAD}", colang=NAMED + OTHER, rails=rails)

    async def words() -> str:
        return "no"

    made.engine.register_action(noop, "noop")
    made.engine.register_action(words, "words")
    assert not leaks(await made.say(user("hi")))


REFUSING = """
define flow refuse
  bot refuse so
  stop

define bot refuse so
  "no"
"""


@llmrails
async def test_what_the_main_model_adds_to_a_named_refusal_where_a_retrieval_rail_is_listed(
    kind: str, lab: Make
) -> None:
    rails = {"input": {"flows": ["refuse"], "parallel": True}, "retrieval": {"flows": ["other"]}}
    made = lab(kind, f"a {BAD}", colang=REFUSING + OTHER, rails=rails, passthrough=False)
    made.engine.register_action(noop, "noop")
    assert not leaks(await made.say(user("hi")))
    before = len(made.prompts)
    assert await made.say(user(BAD)) == assistant(REFUSAL)
    assert len(made.prompts) == before


@llmrails
async def test_a_blocked_tool_call_is_not_returned(kind: str, lab: Make) -> None:
    made = lab(kind, called(f'{{"cmd": "{BAD}"}}'), colang=OTHER, rails={"tool_output": {"flows": ["other"]}})
    made.engine.register_action(noop, "noop")
    assert await made.say(ASK) == assistant(REFUSAL)


@llmrails
@both_modes
async def test_a_trailing_tool_result_is_judged_and_answered(kind: str, passthrough: bool, own: Make) -> None:
    made = own(kind, passthrough=passthrough)
    assert await made.say(ASK, called(), result(BAD)) == assistant(REFUSAL)
    assert made.prompts == []
    assert await made.say(ASK, called(), result("a desktop")) == assistant("fine")


@engines
async def test_what_follows_a_tool_result_is_judged_with_the_persons_question(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(ASK, called(), result("a desktop")) == assistant("fine")
    assert ("take a screenshot", "fine", False) in made.asked


@llmrails
@both_ways
async def test_chunks_reach_a_general_prompt_past_every_retrieval_rail(kind: str, parallel: bool, own: Make) -> None:
    made = own(kind, parallel=parallel, passthrough=False)
    context = {"role": "context", "content": {"relevant_chunks": f"to make a {BAD}"}}
    assert await made.say(context, user("hi")) == assistant(REFUSAL)
    assert made.prompts == []


@engines
async def test_a_rewritten_message_keeps_its_picture(kind: str, lab: Make) -> None:
    made = lab(kind)
    await made.say(user("Tea at five.\nThe card is 4111-1111.", BLUE))
    assert BLUE in made.seen
    assert "4111" not in made.seen


@llmrails
async def test_a_picture_in_check_is_no_change(kind: str, own: Make) -> None:
    """The engine gives the message's list back as a text, and calls it modified."""
    made = own(kind)
    checked = await made.engine.check_async([user("look", BLUE)])
    assert (checked.status, checked.content) == (RailStatus.PASSED, "look")


@llmrails
async def test_exceptions_mode(kind: str, own: Make) -> None:
    made = own(kind, enable_rails_exceptions=True)
    assert (await made.engine.check_async([user(BAD)])).status == RailStatus.BLOCKED
    assert await made.say(user(BAD)) == assistant(REFUSAL)


@llmrails
async def test_two_chats_with_equal_texts_and_other_pictures(kind: str, own: Make) -> None:
    """The engine's cache of events knows no pictures."""
    made = own(kind)
    assert await made.say(user("look", BLUE)) == assistant("fine")
    assert await made.say(user("look", RED), assistant("fine"), user("again")) == assistant("fine")
    assert not leaks(made.seen)
    assert await made.say(user("look", RED)) == assistant(REFUSAL)
    assert await made.say(user("look", GREEN)) == assistant("fine")


@llmrails
@both_ways
async def test_a_stream_that_the_engine_shows_before_its_rails_have_looked(
    kind: str, parallel: bool, own: Make
) -> None:
    made = own(kind, f"first a word, then a {BAD}, and then some more words", parallel=parallel)
    shown = await made.stream(user("hi"))
    assert shown[-1] == REFUSAL
    assert not leaks("".join(shown))


@llmrails
async def test_a_rewrite_in_a_stream_shows_no_original(kind: str, own: Make) -> None:
    made = own(kind, "Tea at five, as ever.\nThe card is 4111-1111.\nIt rains.")
    assert "4111" not in "".join(await made.stream(user("hi")))


@llmrails
async def test_a_generator_that_the_application_gives_is_judged(kind: str, own: Make) -> None:
    made = own(kind)

    async def words() -> Any:
        for word in f"first a word , then a {BAD} , and then more".split():
            yield word + " "

    shown = await made.stream(user("hi"), generator=words())
    assert shown[-1] == REFUSAL
    assert not leaks("".join(shown))


@llmrails
async def test_a_flow_name_that_is_misspelt_lets_nothing_by(kind: str, lab: Make) -> None:
    """The engine looks for it only when a tool is called, and raises then."""
    made = lab(kind, called(f'{{"cmd": "{BAD}"}}'), rails={"tool_output": {"flows": ["turngard chek tool call"]}})
    with pytest.raises(KeyError, match="turngard chek"):
        await made.say(ASK)


@pytest.mark.parametrize("failing", [False, True], ids=["passing", "failing"])
async def test_an_action_of_the_engines_that_streams_another_turn(failing: bool, lab: Make) -> None:
    """What a guarded engine says inside another engine's turn has no place in that one's stream."""
    inner = lab("LLMRails", BAD if failing else "tea")
    outer = LLMRails(
        RailsConfig.from_content(
            "define flow ask\n  $said = execute ask\n",
            '{"models": [], "passthrough": true, "rails": {"input": {"flows": ["ask"]}}}',
        ),
        llm=Main("outer"),
    )

    async def ask() -> str:
        return str((await inner.say(user("hi")))["content"])

    outer.register_action(ask, "ask")
    engine = guarded(outer, inner.guard)
    shown = "".join([chunk async for chunk in engine.stream_async(messages=[user("go")])])
    assert shown == "outer"
