"""What a second look found: unjudged ways in and out, and traces of what was withheld. Each failed before its fix."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nemoguardrails.embeddings.index import EmbeddingsIndex
from nemoguardrails.kb.kb import KnowledgeBase
from nemoguardrails.rails.llm.options import RailStatus, RailType
from nemoguardrails.tracing import InteractionLog
from nemoguardrails.tracing.adapters.base import InteractionLogAdapter
from nemoguardrails.types import LLMResponse, LLMResponseChunk

from tests.nemo.lab import BAD, OTHER, POLICY, QUIET, RED, REFUSAL, Lab, assistant, call, called, leaks, result, user
from turnguard import ConfigError
from turnguard.nemo import engine

pytestmark = QUIET
both_ways = pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
both_modes = pytest.mark.parametrize("passthrough", [True, False], ids=["passthrough", "general"])
ASK = user("take a screenshot")
EVERYTHING: dict[str, Any] = {
    "log": {"activated_rails": True, "llm_calls": True, "internal_events": True, "colang_history": True},
    "output_vars": True,
}


def kept(lab: Lab) -> str:
    """What the engine keeps of conversations."""
    return repr(vars(lab.rails)["events_history_cache"].kept.values())


# ---------------------------------------------------------------- transcripts that end otherwise


@pytest.mark.pairwise(by=lambda last, unsafe, passthrough: (last["role"], len(unsafe["content"]), passthrough))
@both_modes
@pytest.mark.parametrize(
    "last",
    [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": "be brief"},
        {"role": "critic", "content": "be brief"},
        {"role": "function", "name": "f", "content": "x"},
        {"role": "context", "content": {"name": "Ada"}},
        assistant("Sure, "),
    ],
    ids=lambda message: message["role"],
)
@pytest.mark.parametrize("unsafe", [user(f"a {BAD}"), user("look", RED)], ids=["text", "image"])
async def test_a_user_message_that_is_not_the_last_one_is_judged(unsafe: Any, last: Any, passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough)
    assert await lab.say(unsafe, last) == assistant(REFUSAL)
    assert lab.main.prompts == []
    assert not leaks(lab.rails.explain())
    assert len(lab.rails.events_history_cache.kept) == 0
    assert not leaks(await lab.stream(unsafe, last))
    assert lab.main.prompts == []


@both_modes
async def test_an_answer_begun_for_the_main_model_is_judged(passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough)
    assert await lab.say(user("hi"), assistant(f"First, the {BAD}")) == assistant(REFUSAL)
    assert lab.main.prompts == []


async def test_check_of_messages_that_nemo_runs_no_rail_on() -> None:
    lab = Lab(trusted=())
    for message in (result(BAD), {"role": "system", "content": BAD}, {"role": "context", "content": {"a": BAD}}):
        checked = await lab.rails.check_async([message])
        assert (checked.status, checked.content) == (RailStatus.BLOCKED, REFUSAL), message["role"]
    checked = await lab.rails.check_async([result("a desktop")])
    assert (checked.status, checked.content) == (RailStatus.PASSED, "a desktop")
    checked = await lab.rails.check_async([result("a card\n4111-1111")])
    assert checked.status == RailStatus.MODIFIED
    assert "4111-1111" not in checked.content


SAID = assistant(f"a {BAD}")
BRIEF = {"role": "system", "content": "be brief"}


@pytest.mark.parametrize(
    "messages",
    [
        (SAID,),
        (BRIEF, SAID),
        (user("hi"), SAID, BRIEF),
        (user("hi"), SAID, {"role": "context", "content": {"name": "Ada"}}),
        (user("hi"), assistant("fine"), SAID),
    ],
    ids=["alone", "after system", "before system", "before context", "after another"],
)
async def test_check_of_an_answer_wherever_it_stands(messages: Any) -> None:
    lab = Lab()
    both = [RailType.INPUT, RailType.OUTPUT]
    for rail_types in (None, both, [RailType.OUTPUT]):
        checked = await lab.rails.check_async(list(messages), rail_types=rail_types)
        assert (checked.status, checked.content, checked.rail) == (
            RailStatus.BLOCKED,
            REFUSAL,
            "turnguard check output",
        ), rail_types
    safe = [assistant("fine too") if message is SAID else message for message in messages]
    checked = await lab.rails.check_async(safe, rail_types=both)
    assert (checked.status, checked.content) == (RailStatus.PASSED, "fine too")
    card = [assistant("your card\n4111-1111") if message is SAID else message for message in messages]
    checked = await lab.rails.check_async(card, rail_types=both)
    assert checked.status == RailStatus.MODIFIED
    assert "4111-1111" not in checked.content
    assert "your card" in checked.content


@both_modes
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
async def test_what_stands_beside_old_content_under_any_name_goes_with_it(role: str, passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough)
    old = {"role": role, "content": "hello", "extra": f"a {BAD}"}
    answer = await lab.say(user("go"), old, assistant("yes"), user("and now?"))
    assert answer == assistant("fine")
    assert not leaks(lab.main.seen)


# ---------------------------------------------------------------- streams leave nothing


class Slow(Lab):
    """Its main model streams word by word, and is still at it when the stream was blocked."""

    def __init__(self, text: str, **settings: Any) -> None:
        super().__init__(text, **settings)

        async def stream_async(prompt: Any, **_options: Any) -> AsyncIterator[Any]:
            for word in text.split():
                await asyncio.sleep(0.005)
                yield LLMResponseChunk(delta_content=word + " ")

        self.main.__dict__["stream_async"] = stream_async


STORY = f"one two three four five six {BAD} eight nine ten eleven twelve thirteen fourteen"


@both_ways
@pytest.mark.parametrize("made", [Lab, Slow], ids=["at once", "slowly"])
async def test_a_blocked_stream_leaves_nothing_in_explanation_and_cache(made: Any, parallel: bool) -> None:
    lab = made(STORY, parallel=parallel, keeps=True)
    chunks = await lab.stream(user("go"))
    assert chunks[-1] == REFUSAL
    assert not leaks(chunks)
    assert not leaks(lab.rails.explain().model_dump())
    assert kept(lab) == "[]"


async def test_a_stream_that_is_left_early_leaves_nothing_that_was_not_judged() -> None:
    lab = Lab(STORY, window=4, keeps=True)
    stream = lab.rails.stream_async(messages=[user("go")])
    assert await anext(stream) == "one "
    await stream.aclose()
    del stream
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not leaks(lab.rails.explain().model_dump())
    assert kept(lab) == "[]"


async def test_a_stream_that_passed_is_kept() -> None:
    lab = Lab("one two three four", keeps=True)
    await lab.stream(user("go"))
    assert len(lab.rails.events_history_cache.kept) == 1
    assert "one two" in repr(lab.rails.explain().llm_calls)


async def test_what_another_rail_blocks_in_a_stream_is_not_kept_as_said() -> None:
    from nemoguardrails.actions.rail_outcome import RailOutcome

    colang = "define subflow other\n  $x = execute other_check\n  if $x.is_blocked\n    stop\n"
    lab = Lab("one two three four", colang=colang, rails={"output": {"flows": ["other"]}})

    async def other_check(context: Any = None, **_more: Any) -> RailOutcome:
        blocked = "two" in context["bot_message"]
        return RailOutcome.block(reason="no", metadata={}) if blocked else RailOutcome.allow()

    lab.rails.register_action(other_check, "other_check")
    chunks = await lab.stream(user("go"))
    assert "other" in chunks[-1]
    assert "one two" not in kept(lab)


async def test_another_action_that_stands_first_in_a_rail_still_sees_the_stream() -> None:
    from nemoguardrails.actions.rail_outcome import RailOutcome

    own = (
        "define subflow mine\n  $a = execute other_check\n  $c = execute turnguard_check_output\n"
        "  if $c.is_blocked\n    execute turnguard_refuse(outcome=$c)\n    stop\n"
    )
    streaming = {"enabled": True, "stream_first": False}
    lab = Lab("one two", stages=[], colang=own, rails={"output": {"flows": ["mine"], "streaming": streaming}})

    async def other_check(**_context: Any) -> RailOutcome:
        return RailOutcome.block(reason="no", metadata={})

    lab.rails.register_action(other_check, "other_check")
    chunks = await lab.stream(user("go"))
    assert "content_blocked" in chunks[-1]
    assert len(chunks) == 1


def test_rails_of_others_that_nemo_would_run_too_late_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    rails: dict[str, Any] = {"output": {"flows": ["other"]}}
    Lab(colang=OTHER, rails=rails)
    assert "stream_first: false" in caplog.text
    caplog.clear()
    rails["output"]["streaming"] = {"enabled": True, "stream_first": False}
    Lab(colang=OTHER, rails=rails)
    Lab()
    Lab(streaming=False, colang=OTHER, rails={"output": {"flows": ["other"]}})
    assert "stream_first" not in caplog.text


async def test_rails_that_check_in_a_subflow_of_their_own_are_rails_of_ours() -> None:
    own = "define subflow mine\n  do turnguard check output\n\ndefine subflow first\n  do turnguard check input\n"
    rails = {"input": {"flows": ["first"]}, "output": {"flows": ["mine"]}}
    lab = Lab(STORY, stages=[], colang=own, rails=rails)
    chunks = await lab.stream(user("go"))
    assert chunks[-1] == REFUSAL
    assert not leaks(chunks)
    await lab.say(user(BAD), assistant("no"), user("and now?"))
    assert not leaks(lab.main.seen)


# ---------------------------------------------------------------- calls inside a turn

NESTED = "define subflow sub\n  $x = execute sub\n"


def nesting(inside: Any, **settings: Any) -> Lab:
    """An app in whose input rails an action calls another."""
    lab = Lab("outer", colang=NESTED, rails={"input": {"flows": ["sub"]}}, **settings)
    lab.rails.register_action(inside, "sub")
    return lab


@pytest.mark.parametrize("how", ["say", "stream", "check"])
async def test_an_app_that_an_action_calls_is_judged_for_itself(how: str) -> None:
    inner = Lab(f"inner {BAD}")
    got = []

    async def sub() -> None:
        got.append(await inner.say(user("inner question")))

    lab = nesting(sub)
    if how == "say":
        assert await lab.say(user("hi")) == assistant("outer")
    elif how == "stream":
        assert await lab.stream(user("hi")) == ["outer"]
    else:
        checked = await lab.rails.check_async([user("hi")])
        assert (checked.status, checked.content) == (RailStatus.PASSED, "hi")
    assert got == [assistant(REFUSAL)]


async def test_the_events_api_in_an_action_is_judged_for_what_it_sends() -> None:
    inner = Lab("inner")
    got = []

    async def sub() -> None:
        sent = {"type": "UtteranceUserActionFinished", "final_transcript": f"a {BAD}"}
        got.extend(await inner.rails.generate_events_async([sent]))

    assert await nesting(sub).say(user("hi")) == assistant("outer")
    assert [event["script"] for event in got if event["type"] == "StartUtteranceBotAction"] == [REFUSAL]
    assert inner.main.prompts == []


# ---------------------------------------------------------------- records of a turn


class Collected(InteractionLogAdapter):  # type: ignore[misc] # NeMo is not typed for us
    """A tracing adapter that keeps everything it is shown."""

    def __init__(self) -> None:
        self.shown: list[InteractionLog] = []

    def transform(self, interaction_log: InteractionLog) -> None:
        self.shown.append(interaction_log)

    async def transform_async(self, interaction_log: InteractionLog) -> None:
        self.shown.append(interaction_log.model_copy(deep=True))


@both_ways
@pytest.mark.parametrize("form", ["opentelemetry", "legacy"])
async def test_tracing_with_content_shows_none_of_a_withheld_turn(form: str, parallel: bool) -> None:
    tracing = {"enabled": True, "span_format": form, "enable_content_capture": True, "adapters": []}
    turns: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (f"a {BAD}", (user("hi"),)),
        ("fine", (user(BAD),)),
        ("fine", (user("look", RED),)),
        ("fine", (ASK, called(), result(BAD))),
        (call(arguments={"cmd": BAD}), (ASK,)),
    )
    for reply, messages in turns:
        lab = Lab(reply, tracing=tracing, parallel=parallel)
        collected = Collected()
        lab.rails._log_adapters = [collected]
        await lab.say(*messages)
        (shown,) = collected.shown
        assert not leaks(shown.model_dump()), messages
        assert any(rail.name.startswith("turnguard") for rail in shown.activated_rails)
    lab = Lab(STORY, tracing=tracing, parallel=parallel)
    lab.rails._log_adapters = [collected]
    await lab.stream(user("hi"))
    assert not leaks(collected.shown[-1].model_dump())


async def test_tracing_with_content_shows_it_where_all_of_it_passed() -> None:
    lab = Lab("all well", tracing={"enabled": True, "enable_content_capture": True, "adapters": []})
    collected = Collected()
    lab.rails._log_adapters = [collected]
    await lab.say(user("hi"))
    assert "all well" in repr(collected.shown[0].trace)


@pytest.mark.parametrize("listening", [True, False])
async def test_a_call_to_the_moderator_is_traced_once(listening: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our own spans where there are any, else by NeMo's."""
    monkeypatch.setattr(engine, "listening", lambda: listening)
    lab = Lab("all well", tracing={"enabled": True, "adapters": []})
    collected = Collected()
    lab.rails._log_adapters = [collected]
    await lab.say(user("hi"))
    names = [span.name for span in collected.shown[0].trace]
    assert any(name.startswith("turnguard_check_") for name in names) is not listening
    assert any(name.startswith("general") for name in names)


@both_modes
async def test_a_rewritten_input_stays_in_no_record(passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough, keeps=True)
    answer = await lab.say(user("my card\n4111-1111"), options=EVERYTHING)
    assert "4111-1111" not in repr(answer)
    assert "4111-1111" not in kept(lab)
    assert "4111-1111" not in repr(lab.rails.explain())
    assert len(lab.rails.events_history_cache.kept) == 1


@both_ways
@both_modes
@pytest.mark.parametrize("unsafe", [user(f"a {BAD}"), user("look", RED)], ids=["text", "image"])
async def test_a_blocked_input_stays_in_no_record(unsafe: Any, passthrough: bool, parallel: bool) -> None:
    lab = Lab(passthrough=passthrough, parallel=parallel)
    answer = await lab.say(unsafe, options=EVERYTHING)
    assert answer.response == [assistant(REFUSAL)]
    assert not leaks(answer)
    assert not leaks(lab.rails.explain())


async def test_what_answers_a_withheld_call_goes_with_it() -> None:
    lab = Lab()
    past = (ASK, called(f'{{"cmd": "{BAD}"}}'), result("it went off"), assistant("done"))
    assert await lab.say(*past, user("and now?")) == assistant("fine")
    assert "it went off" not in lab.main.seen
    assert "and now?" in lab.main.seen


async def test_what_is_said_beside_tool_calls_is_in_no_record() -> None:
    """NeMo drops it from the answer, and so from every rail, and would show it in the log."""
    reply = call(arguments={"cmd": "ls"})
    reply.content = f"here is the {BAD}"
    lab = Lab(reply)
    answer = await lab.say(ASK, options=EVERYTHING)
    assert answer.tool_calls
    assert not leaks(answer)
    assert not leaks(lab.rails.explain())


async def test_a_turn_that_is_cancelled_leaves_nothing_in_the_explanation() -> None:
    lab = Lab(f"a {BAD}")
    judge = lab.moderator.judge
    waiting = asyncio.Event()

    async def hangs(exchange: Any, deadline: Any) -> Any:
        if exchange.response is not None:
            waiting.set()
            await asyncio.Event().wait()
        return await judge(exchange, deadline)

    lab.moderator.judge = hangs  # type: ignore[method-assign]
    turn = asyncio.ensure_future(lab.say(user("hi")))
    await waiting.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert lab.rails._explain_info.llm_calls
    assert not leaks(lab.rails._explain_info.model_dump())
    assert kept(lab) == "[]"


async def test_turns_at_once_leave_nothing_in_each_others_explanation() -> None:
    lab = Lab(f"a {BAD}")
    explained = []

    async def one(text: str) -> None:
        await lab.say(user(text))
        from nemoguardrails.context import explain_info_var

        explained.append(explain_info_var.get())

    await asyncio.gather(*(one(f"question {index}") for index in range(5)))
    assert len({id(each) for each in explained}) == 5
    assert not leaks([each.model_dump() for each in explained if each is not None])


async def test_many_turns_at_once_each_get_their_own_verdict() -> None:
    lab = Lab("ok")
    lab.main._llm_responses = [LLMResponse(content="ok")] * 100
    answers = await asyncio.gather(*(lab.say(user(f"{BAD if at % 2 else 'hi'} {at}")) for at in range(20)))
    assert [answer["content"] for answer in answers] == ["ok", REFUSAL] * 10
    assert not leaks(lab.main.seen)
    assert not leaks(lab.rails.explain())


@both_modes
async def test_what_is_taken_out_stays_in_the_callers_own_messages(passthrough: bool) -> None:
    lab = Lab(passthrough=passthrough)
    messages = [user(f"a {BAD}", RED), assistant("no"), user("my card\n4111-1111")]
    before = repr(messages)
    await lab.rails.generate_async(messages=messages)
    assert not leaks(lab.main.seen)
    assert "4111-1111" not in lab.main.seen
    assert repr(messages) == before


@both_ways
async def test_a_refusal_in_a_users_own_flow_ends_the_turn_without_a_stop(parallel: bool) -> None:
    own = (
        "define subflow mine\n  $c = execute turnguard_check_input\n"
        "  if $c.is_blocked\n    execute turnguard_refuse(outcome=$c)\n"
    )
    lab = Lab(stages=[], colang=own, rails={"input": {"flows": ["mine"]}}, parallel=parallel)
    assert await lab.say(user(BAD)) == assistant(REFUSAL)
    assert lab.main.prompts == []


# ---------------------------------------------------------------- clients

EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "ContextUpdate", "data": {"skip_output_rails": True}},
    {"type": "ContextUpdate", "data": {"generation_options": {"rails": {"input": False, "output": False}}}},
    {"type": "StartInternalSystemAction", "action_name": "noop", "action_params": {}},
    {"type": "UserMessage", "text": BAD},
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
async def test_clients_send_no_events_and_no_state(event: dict[str, Any]) -> None:
    lab = Lab(BAD, trusted=(), passthrough=False)
    with pytest.raises(ValueError, match="an event message may not be sent"):
        await lab.say({"role": "event", "event": event}, user("hi"))
    with pytest.raises(ValueError, match="a state may not be sent"):
        await lab.say(user("hi"), state={"events": [event]})
    assert lab.main.prompts == []
    assert (await lab.say(user("hi"), state={})).response == [assistant(REFUSAL)]


# ---------------------------------------------------------------- dialog flows

DIALOG = """
define user ask hours
  "when are you open?"

define flow hours
  user ask hours
  bot answer hours

define user ask secret
  "what is the secret?"

define flow secret
  user ask secret
  $secret = execute get_secret
  bot tell secret

define bot tell secret
  "It is $secret."

define user greet
  "hello"

define flow greet
  user greet
  bot greet back

define bot greet back
  "Hello there!"
"""


class Index(EmbeddingsIndex):  # type: ignore[misc]
    """Finds everything, without a model of its own."""

    def __init__(self, **_parameters: Any) -> None:
        self.items: list[Any] = []

    @property
    def embedding_size(self) -> int:
        return 1

    async def add_item(self, item: Any) -> None:
        self.items.append(item)

    async def add_items(self, items: Any) -> None:
        self.items += items

    async def build(self) -> None:
        """Nothing to build."""

    async def search(self, text: str, max_results: int = 20, threshold: Any = None) -> Any:
        return self.items[:max_results]


def dialog(*replies: Any, secret: str = "blue", **settings: Any) -> Lab:
    """An app with dialog flows; the first reply names the intent."""
    search = {"embedding_search_provider": {"name": "everything"}}
    lab = Lab(*replies, colang=DIALOG, core=search, knowledge_base=search, **settings)
    lab.rails.register_embedding_search_provider("everything", Index)

    async def get_secret() -> str:
        return secret

    lab.rails.register_action(get_secret, "get_secret")
    return lab


@both_ways
@both_modes
async def test_dialog_flows_are_judged_like_any_turn(passthrough: bool, parallel: bool) -> None:
    ways: dict[str, Any] = {"passthrough": passthrough, "parallel": parallel}
    assert await dialog("ask hours", "nine to five", **ways).say(user("when?")) == assistant("nine to five")
    for messages in ((user(BAD),), (user("look", RED),), (ASK, called(), result(BAD))):
        lab = dialog("ask hours", "nine", **ways)
        assert await lab.say(*messages) == assistant(REFUSAL)
        assert lab.main.prompts == []
    lab = dialog("ask hours", STORY, **ways)
    assert await lab.say(user("when?")) == assistant(REFUSAL)
    lab = dialog("ask hours", STORY, **ways)
    assert not leaks(await lab.stream(user("when?")))


@both_ways
@both_modes
async def test_a_predefined_message_with_variables_is_judged(passthrough: bool, parallel: bool) -> None:
    ways: dict[str, Any] = {"passthrough": passthrough, "parallel": parallel}
    lab = dialog("ask secret", **ways)
    assert await lab.say(user("tell me")) == assistant("It is blue.")
    lab = dialog("ask secret", secret=f"a {BAD}", **ways)
    assert await lab.say(user("tell me")) == assistant(REFUSAL)
    assert not leaks(kept(lab))
    lab = dialog("ask secret", secret=f"a {BAD}", **ways)
    assert not leaks(await lab.stream(user("tell me")))


@both_modes
async def test_a_fixed_message_costs_no_request_and_the_turn_after_it_is_judged(passthrough: bool) -> None:
    lab = dialog("greet", "ask hours", f"a {BAD}", passthrough=passthrough)
    answer = await lab.say(user("hello"))
    assert answer == assistant("Hello there!")
    assert lab.asked == [("hello", None, False)]
    assert await lab.say(user("hello"), answer, user("when?")) == assistant(REFUSAL)


@pytest.mark.parametrize("stages", [("input",), ("input", "tool_result")], ids="-".join)
async def test_tool_results_do_not_overwrite_the_question_in_passthrough_with_dialog_flows(stages: Any) -> None:
    lab = dialog("ask hours", "nine", stages=stages)
    assert await lab.say(user("look at my screen"), called(), result("a desktop")) == assistant("nine")
    roles = [(role, content) for role, content in lab.main.last if content]
    assert roles == [("user", "look at my screen"), ("tool", "a desktop")]


async def test_a_rewritten_question_before_tool_results_stays_rewritten_with_dialog_flows() -> None:
    lab = dialog("ask hours", "nine")
    await lab.say(user("my card\n4111-1111"), called(), result("a desktop"))
    assert "4111-1111" not in lab.main.seen
    assert "my card" in lab.main.seen


# ---------------------------------------------------------------- retrieval


async def test_chunks_in_both_forms_are_judged() -> None:
    lab = Lab(passthrough=False)
    for chunks in (
        {"relevant_chunks": "open at nine", "relevant_chunks_sep": [f"a {BAD}"]},
        {"relevant_chunks": ["open at nine", f"a {BAD}"]},
        {"relevant_chunks": [{"body": f"a {BAD}"}]},
    ):
        assert await lab.say({"role": "context", "content": chunks}, user("when?")) == assistant(REFUSAL)
    assert lab.main.prompts == []
    assert not leaks(kept(lab))
    safe = {"role": "context", "content": {"relevant_chunks": ["open at nine"]}}
    assert await lab.say(safe, user("when?")) == assistant("fine")


def test_one_call_for_everything_with_a_knowledge_base_is_refused_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Any) -> None:
        self.index = None

    monkeypatch.setattr(KnowledgeBase, "build", nothing)
    settings: dict[str, Any] = {
        "passthrough": False,
        "docs": [{"format": "md", "content": "# Hours"}],
        "rails": {"dialog": {"single_call": {"enabled": True}}},
    }
    with pytest.raises(ConfigError, match="before any retrieval rail runs"):
        dialog("ask hours", **settings)
    dialog("ask hours", **settings, stages=["input", "output"])


# ---------------------------------------------------------------- the events of past turns


class _Opaque:
    """Two of them look alike and differ."""

    def __repr__(self) -> str:
        return "<opaque>"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (5, "int:5"),
        (None, "NoneType:None"),
        (True, 1),
        ({"1": "x"}, {1: "x"}),
        (["ab", "c"], ["a", "bc"]),
        ({"a": []}, {"a": {}}),
        (_Opaque(), _Opaque()),
    ],
    ids=["number", "none", "truth", "key", "boundary", "empty", "opaque"],
)
async def test_conversations_that_differ_in_anything_share_no_events(one: Any, other: Any) -> None:
    lab = Lab("yes", policy={**POLICY, "on_uncheckable": "flag"}, keeps=True)
    asked = {**user("hi"), "mark": one}
    assert await lab.say(asked) == assistant("yes")
    found, events, _ = lab.rails.events_history_cache.of([asked, assistant("yes"), user("and now?")])
    assert (found, bool(events)) == ((0, False) if isinstance(one, _Opaque) else (2, True))
    asked["mark"] = other
    found, events, _ = lab.rails.events_history_cache.of([asked, assistant("yes"), user("and now?")])
    assert (found, events) == (0, [])
