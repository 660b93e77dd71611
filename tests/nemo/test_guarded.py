"""`guarded`: every message of a turn judged, over IORails, a `Guardrails` that fell back, and LLMRails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.exceptions import InvalidStateError, StreamingNotSupportedError
from nemoguardrails.rails.llm.options import GenerationOptions, RailStatus, RailType

from tests.nemo.guarded_lab import ENGINES, GuardedLab
from tests.nemo.lab import (
    BAD,
    BLUE,
    OTHER,
    POLICY,
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
from turnguard import ConfigError, Guard
from turnguard.core.errors import Unavailable
from turnguard.nemo import guarded
from turnguard.testing import FakeModerator, FakeVLLM

pytestmark = QUIET

engines = pytest.mark.parametrize("kind", ENGINES)
llmrails = pytest.mark.parametrize("kind", ENGINES[1:])
Make = Callable[..., GuardedLab]
CARD = "Tea is served at five.\nThe card is 4111-1111.\nIt rains today."
IMAGE = {"type": "image_url", "image_url": {"url": RED}}
ASK = user("take a screenshot")


@engines
async def test_a_safe_turn_is_what_the_engine_makes_of_it(kind: str, lab: Make) -> None:
    made = lab(kind, "Paris")
    ask = user("the capital of France?")
    assert await made.say(ask) == await made.bare.generate_async(messages=[ask]) == assistant("Paris")
    assert await made.engine.generate_async(prompt="and?") == await made.bare.generate_async(prompt="and?")
    assert "".join(await made.stream(ask)).strip() == "Paris"
    first, second = made.prompts[:2]
    assert first == second, "the main model is sent the same"


@engines
async def test_an_unsafe_input_never_reaches_the_main_model(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(user(BAD)) == assistant(REFUSAL)
    assert await made.say(user("look", RED)) == assistant(REFUSAL)
    expected = assistant(REFUSAL) if kind == "IORails" else REFUSAL
    assert await made.engine.generate_async(prompt=BAD) == expected
    assert await made.stream(user(BAD)) == [REFUSAL]
    assert await made.stream(user("look", RED), include_metadata=True) == [{"text": REFUSAL}]
    assert (await made.engine.check_async([user(BAD)])).status == RailStatus.BLOCKED
    assert made.prompts == []


@engines
async def test_a_safe_picture_passes(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(user("look", BLUE)) == assistant("fine")
    assert BLUE in made.seen
    checked = await made.engine.check_async([user("look", BLUE)])
    assert (checked.status, checked.content) == (RailStatus.PASSED, "look")


@engines
async def test_an_unsafe_output_is_refused(kind: str, lab: Make) -> None:
    made = lab(kind, f"this is a {BAD}, as you asked, with much more text")
    assert await made.say(user("hi")) == assistant(REFUSAL)
    options = {"log": {"activated_rails": True, "llm_calls": True}, "llm_output": True}
    answer = await made.say(user("hi"), options=options)
    assert answer.response == [assistant(REFUSAL)]
    assert not leaks(answer.model_dump_json())
    shown = await made.stream(user("hi"))
    assert shown[-1] == REFUSAL
    assert not leaks("".join(shown))


@engines
async def test_a_review_is_a_refusal(kind: str, lab: Make) -> None:
    made = lab(kind, "fine")
    answer = await made.say(user("hmm"))
    assert answer["content"] != "fine"
    assert made.prompts == []


@engines
async def test_a_flag_passes_and_stands_in_the_log(kind: str, lab: Make) -> None:
    made = lab(kind, "oh drat")
    answer = await made.say(user("hi"), options={"log": {"activated_rails": True, "llm_calls": True}})
    assert answer.response == [assistant("oh drat")]
    ours = {rail.name: rail for rail in answer.log.activated_rails if rail.name.startswith("turnguard")}
    assert set(ours) == {"turnguard check input", "turnguard check output"}
    metadata = ours["turnguard check output"].executed_actions[0].return_value
    assert (metadata["action"], metadata["categories"]) == ("flag", ["Profanity"])
    assert [call.task for call in answer.log.llm_calls if call.llm_provider_name == "turnguard"] == [
        "turnguard_check_input",
        "turnguard_check_output",
    ]
    assert answer.log.stats.llm_calls_count == 3
    answer.log.print_summary()


@engines
async def test_a_refused_turn_is_logged_too(kind: str, lab: Make) -> None:
    answer = await lab(kind).say(user(BAD), options=GenerationOptions(log={"activated_rails": True}))
    assert answer.response == [assistant(REFUSAL)]
    (rail,) = answer.log.activated_rails
    assert (rail.type, rail.name, rail.stop) == ("input", "turnguard check input", True)


@engines
async def test_a_rewrite_keeps_the_pictures(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(user(CARD, BLUE)) == assistant("fine")
    assert "4111-1111" not in made.seen
    assert BLUE in made.seen
    assert "Tea is served" in made.seen


@engines
async def test_an_output_is_rewritten(kind: str, lab: Make) -> None:
    made = lab(kind, CARD)
    answer = await made.say(user("hi"))
    assert answer["content"].startswith("Tea is served")
    assert "4111-1111" not in answer["content"]
    answer = await made.say(user("hi"), options={"log": {"activated_rails": True, "llm_calls": True}})
    assert "4111-1111" not in answer.model_dump_json()
    assert answer.response[0]["content"].startswith("Tea is served")
    shown = await made.stream(user("hi"))  # a rewrite cannot be carried out on half a text
    assert "4111-1111" not in "".join(shown)


@engines
async def test_tool_calls_are_judged(kind: str, lab: Make) -> None:
    made = lab(kind, called(f'{{"cmd": "{BAD}"}}'))
    assert await made.say(ASK) == assistant(REFUSAL)
    answer = await made.say(ASK, options={"llm_params": {}})
    assert (answer.response, answer.tool_calls) == ([assistant(REFUSAL)], None)
    assert not leaks(repr(await made.stream(ASK)))
    made = lab(kind, called('{"cmd": "ls"}'))
    answer = await made.say(ASK)
    assert answer["tool_calls"][0]["function"]["name"] == "shot"
    made = lab(kind, called('{"card": "4111-1111"}'))
    answer = await made.say(ASK)
    assert "4111-1111" not in repr(answer)


async def test_a_tool_call_at_the_end_of_a_stream(lab: Make) -> None:
    made = lab("IORails", called('{"cmd": "ls"}'))
    (chunk,) = await made.stream(ASK)
    assert json.loads(chunk)["tool_calls"][0]["function"]["arguments"] == '{"cmd": "ls"}'
    assert [each.stage for each in made.moderator.asked] == ["input", "tool_call"]
    made = lab("IORails", called(f'{{"cmd": "{BAD}"}}'))
    assert await made.stream(ASK) == [REFUSAL]


@engines
async def test_tool_results_are_judged(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert await made.say(ASK, called(), result(f"a {BAD}")) == assistant(REFUSAL)
    assert await made.say(ASK, called(), result([IMAGE])) == assistant(REFUSAL)
    assert await made.stream(ASK, called(), result([IMAGE])) == [REFUSAL]
    checked = await made.engine.check_async([ASK, called(), result([IMAGE])])
    assert (checked.status, checked.rail) == (RailStatus.BLOCKED, "turnguard check tool result")
    assert made.prompts == []


async def test_a_tool_result_is_rewritten(lab: Make) -> None:
    made = lab("IORails")
    shot = [{"type": "text", "text": CARD}, {"type": "image_url", "image_url": {"url": BLUE}}]
    assert await made.say(ASK, called(), result(shot)) == assistant("fine")
    assert "4111-1111" not in made.seen
    assert BLUE in made.seen
    (sent,) = made.prompts
    assert sent["messages"][-1]["tool_call_id"] == "c1"


@engines
async def test_history_is_judged_and_what_is_unsafe_in_it_taken_out(kind: str, lab: Make) -> None:
    made = lab(kind)
    pasts = (
        (user(BAD), assistant("no")),
        (user("look", RED), assistant("seen")),
        (user("hi"), assistant(BAD)),
        (ASK, called(f'{{"cmd": "{BAD}"}}'), result("ok"), assistant("done")),
        (ASK, called(), result([IMAGE]), assistant("done")),
    )
    for past in pasts:
        answer = await made.say(*past, user("and now?"))
        assert answer == assistant("fine"), past
        assert not leaks(made.seen), past
        assert not leaks(repr(await made.stream(*past, user("and now?")))), past
        assert not leaks(made.seen), past


@engines
async def test_retrieved_chunks_in_context_are_judged(kind: str, lab: Make) -> None:
    made = lab(kind, passthrough=False)

    def context(*chunks: str) -> dict[str, Any]:
        return {"role": "context", "content": {"relevant_chunks": "\n".join(chunks), "relevant_chunks_sep": [*chunks]}}

    assert await made.say(context("fine", f"a {BAD}"), user("hi")) == assistant(REFUSAL)
    assert await made.stream(context(f"a {BAD}"), user("hi")) == [REFUSAL]
    assert made.prompts == []
    assert await made.say(context("Paris is a city", CARD), user("hi")) == assistant("fine")
    assert "4111-1111" not in made.seen
    assert [each.stage for each in made.moderator.asked].count("retrieval") >= 3


@engines
async def test_context_variables_and_events_are_judged(kind: str, lab: Make) -> None:
    made = lab(kind, passthrough=False)
    assert await made.say({"role": "context", "content": {"name": f"a {BAD}"}}, user("hi")) == assistant(REFUSAL)
    event = {"type": "UserMessage", "text": BAD}
    assert await made.say({"role": "event", "event": event}, user("hi")) == assistant(REFUSAL)
    assert made.prompts == []


@engines
async def test_reasoning_is_judged(kind: str, lab: Make) -> None:
    made = lab(kind, {**assistant("fine"), "reasoning_content": f"they want a {BAD}"})
    assert await made.say(user("hi")) == assistant(REFUSAL)
    answer = await made.say(user("hi"), options={"llm_params": {}})
    assert (answer.response, answer.reasoning_content) == ([assistant(REFUSAL)], None)
    made = lab(kind, {**assistant("fine"), "reasoning_content": "they want tea"})
    assert (await made.say(user("hi"))) == assistant("<think>they want tea</think>\nfine")


@engines
async def test_options_switch_the_engines_rails_and_never_ours(kind: str, lab: Make) -> None:
    made = lab(kind, BAD)
    off = {"rails": {"input": False, "output": False, "tool_input": False, "tool_output": False}}
    assert (await made.say(user(BAD), options=off)).response == [assistant(REFUSAL)]
    assert (await made.say(user("hi"), options=off)).response == [assistant(REFUSAL)]


@engines
async def test_check_judges_the_answer_that_it_is_asked_about(kind: str, lab: Make) -> None:
    check = lab(kind).engine.check_async
    result = await check([user("hi"), assistant(f"a {BAD}")])
    assert (result.status, result.content, result.rail) == (RailStatus.BLOCKED, REFUSAL, "turnguard check output")
    assert (await check([user("hi"), assistant("fine")])).content == "fine"
    result = await check([user("hi"), assistant(CARD)])
    assert result.status == RailStatus.MODIFIED
    assert "4111-1111" not in result.content
    assert (await check([user(BAD), assistant("no"), user("hi")])).status == RailStatus.PASSED
    assert (await check([{"role": "tool", "content": BAD}])).status == RailStatus.BLOCKED


@llmrails
async def test_check_with_input_rails_alone_tells_about_the_person_s_message(kind: str, lab: Make) -> None:
    made = lab(kind, colang=OTHER, rails={"input": {"flows": ["other"]}, "output": {"flows": ["other"]}})
    made.engine.register_action(noop, "noop")
    for check in (made.bare.check_async, made.engine.check_async):
        about_input = await check([user("hello"), assistant("fine")], rail_types=[RailType.INPUT])
        assert (about_input.status, about_input.content) == (RailStatus.PASSED, "hello")
        about_output = await check([user("hello"), assistant("fine")], rail_types=[RailType.OUTPUT])
        assert (about_output.status, about_output.content) == (RailStatus.PASSED, "fine")
    blocked = await made.engine.check_async([user("hello"), assistant(f"a {BAD}")], rail_types=[RailType.INPUT])
    assert blocked.status == RailStatus.BLOCKED


OWN = """
define flow no tea
  if "tea" in $user_message
    bot refuse tea
    stop

define bot refuse tea
  "No tea here."
"""


@llmrails
async def test_the_engines_own_rails_stand(kind: str, lab: Make) -> None:
    made = lab(kind, "tea for you", colang=OWN, rails={"input": {"flows": ["no tea"]}})
    assert await made.say(user("a cup of tea")) == assistant("No tea here.")
    assert await made.say(user("coffee")) == assistant("tea for you")
    checked = await made.engine.check_async([user("a cup of tea")], rail_types=[RailType.INPUT])
    assert (checked.status, checked.content) == (RailStatus.BLOCKED, "No tea here.")
    assert (await made.engine.check_async([user(BAD)], rail_types=[RailType.INPUT])).content == REFUSAL
    assert await made.say(user(BAD)) == assistant(REFUSAL)


async def test_iorails_own_rails_stand(lab: Make) -> None:
    found = {"regex_detection": {"input": {"patterns": ["tea"]}}}
    made = lab("IORails", rails={"input": {"flows": ["regex check input"]}, "config": found})
    assert (await made.say(user("a cup of tea")))["content"] == "I'm sorry, I can't respond to that."
    assert await made.say(user("coffee")) == assistant("fine")
    assert await made.say(user(BAD)) == assistant(REFUSAL)
    assert (await made.engine.check_async([user("tea")])).status == RailStatus.BLOCKED


@llmrails
async def test_variables_state_and_explain(kind: str, lab: Make) -> None:
    made = lab(kind, f"a {BAD} indeed")
    everything = {"log": {"internal_events": True, "colang_history": True, "llm_calls": True}, "output_vars": True}
    answer = await made.say(user("hi"), options=everything, state={})
    assert answer.response == [assistant(REFUSAL)]
    assert answer.state == {}
    assert not leaks(answer.model_dump())
    assert not leaks(repr(made.engine.explain()))
    made = lab(kind, CARD)
    answer = await made.say(user("hi"), options=everything, state={})
    assert "4111-1111" not in repr(answer.model_dump())
    assert "Tea is served" in repr(answer.state), "the turn stays in the state, rewritten"
    assert "4111-1111" not in repr(made.engine.explain())
    answer = await made.say(user("and?"), options={}, state=answer.state)
    assert "Tea is served" in answer.response[0]["content"]


@llmrails
async def test_what_only_the_log_holds_is_judged_too(kind: str, lab: Make) -> None:
    """NeMo drops what the main model says beside its tool calls, and keeps it in its log."""
    made = lab(kind, {**called('{"cmd": "ls"}'), "content": f"first a {BAD}"})
    answer = await made.say(ASK, options={"log": {"llm_calls": True}})
    assert answer.tool_calls
    assert not leaks(repr(answer))


@engines
async def test_where_clients_write_the_requests_none_sends_a_state(kind: str, lab: Make) -> None:
    made = lab(kind, checks={"trusted_roles": ()})
    with pytest.raises(InvalidStateError):
        await made.say(user("hi"), state={"events": [{"type": "UserMessage", "text": BAD}]})
    assert await made.say({"role": "system", "content": BAD}, user("hi")) == assistant(REFUSAL)
    assert made.prompts == []


@engines
async def test_beside_hides_the_check_behind_the_call(kind: str, lab: Make) -> None:
    made = lab(kind, checks={"input": "beside"})
    assert await made.say(user("hi")) == assistant("fine")
    assert "".join(await made.stream(user("hi"))).strip() == "fine"
    before = len(made.prompts)
    assert await made.say(user(BAD)) == assistant(REFUSAL)
    assert await made.stream(user(BAD)) == [REFUSAL]
    assert await made.say(user(CARD)) == assistant("fine")
    # IORails may still be sending the first request when the second one is there
    again = [sent for sent in made.prompts if "Tea is served" in repr(sent) and "4111-1111" not in repr(sent)]
    assert again, "a rewritten input is sent again"
    assert len(made.prompts) > before


LAX = {"categories": {"Violence": "flag"}}
STRICT = {"default": "block", "messages": {"default": {"en": "STRICTLY NO"}}}


@engines
async def test_a_policy_by_its_name(kind: str, lab: Make) -> None:
    made = lab(kind, f"a {BAD}, as you asked", policies={"lax": LAX, "strict": STRICT}, choose="lax")
    assert await made.say(user("hi")) == assistant(f"a {BAD}, as you asked")
    strict = guarded(made.bare, made.guard, policy="strict")
    assert await strict.generate_async(messages=[user("drat")]) == assistant("STRICTLY NO")
    shown = [chunk async for chunk in strict.stream_async(messages=[user("hi")])]
    assert shown[-1] == "STRICTLY NO"
    assert (await strict.check_async([user("drat")])).content == "STRICTLY NO"
    with pytest.raises(ConfigError, match="lax"):
        guarded(made.bare, made.guard, policy="lacks")


@engines
async def test_a_policy_that_a_function_chooses(kind: str, lab: Make) -> None:
    def choose(messages: list[Any], options: Any) -> str | None:
        params = (options or {}).get("llm_params") or {}
        return params.get("tenant") or ("lax" if messages[0]["content"].startswith("team") else None)

    made = lab(kind, policies={"lax": LAX, "strict": STRICT}, choose=choose)
    assert await made.say(user(f"team {BAD}")) == assistant("fine")
    assert await made.say(user(BAD)) == assistant(REFUSAL)
    answer = await made.say(user("drat"), options={"llm_params": {"tenant": "strict"}})
    assert answer.response == [assistant("STRICTLY NO")]
    before = len(made.moderator.asked)
    with pytest.raises(ConfigError, match="lacks"):
        await made.say(user("hello"), options={"llm_params": {"tenant": "lacks"}})
    assert len(made.moderator.asked) == before


def offer(name: str, description: str) -> dict[str, Any]:
    """The definition of a tool."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}


@pytest.mark.parametrize("checks", [{"trusted_roles": ()}, {"tools": "all"}, {}], ids=["clients", "all", "own"])
async def test_a_tool_that_does_not_pass_is_not_offered(checks: Any, lab: Make) -> None:
    made = lab("IORails", checks=checks, policy={**POLICY, "stages": {"tools": {"default": "block"}}})
    tools = [offer("look", "Looks at the screen."), offer("shell", f"Builds a {BAD}.")]
    options = {"llm_params": {"tools": tools}}
    assert (await made.say(user("hi"), options=options)).response == [assistant("fine")]
    (sent,) = made.prompts
    assert sent["tools"] == (tools if not checks else tools[:1])
    assert ("tools" in [each.stage for each in made.moderator.asked]) is bool(checks)
    if checks:
        rest = GenerationOptions(llm_params={"tools": tools[1:], "tool_choice": "auto"})
        await made.say(user("hi"), options=rest)
        assert "tools" not in made.prompts[-1]
        assert "tool_choice" not in made.prompts[-1]


@engines
async def test_a_stream_is_shown_as_it_is_judged(kind: str, lab: Make) -> None:
    words = "one two three four five six seven eight nine ten"
    made = lab(kind, words)
    shown = await made.stream(user("count"))
    assert "".join(shown).strip() == words
    assert len(shown) > 1
    windows = [each.response for each in made.moderator.asked if each.response is not None]
    assert windows[-1] is not None
    assert windows[-1].strip() == words, "the last check is of the full text"


@engines
async def test_a_stream_that_nobody_reads_to_its_end(kind: str, lab: Make) -> None:
    made = lab(kind, "one two three four five six seven eight nine ten")
    stream = made.engine.stream_async(messages=[user("count")])
    assert await anext(stream)
    await stream.aclose()
    left = [task for task in asyncio.all_tasks() if "Pumped" in repr(task) or "Released" in repr(task)]
    assert left == []
    assert await made.say(user("hi")) is not None


@engines
async def test_cancelling_a_turn_is_no_allow(kind: str, lab: Make) -> None:
    made = lab(kind)
    made.moderator.delay = 5.0
    task = asyncio.ensure_future(made.say(user("hi")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.prompts == []


@engines
async def test_many_turns_at_once(kind: str, lab: Make) -> None:
    made = lab(kind)
    turns = [made.say(user(f"{number} {BAD if number % 3 == 0 else 'tea'}")) for number in range(30)]
    answers = await asyncio.gather(*turns)
    assert [answer["content"] for answer in answers] == [REFUSAL if at % 3 == 0 else "fine" for at in range(30)]
    assert not leaks(made.seen)


@engines
def test_synchronous_code(kind: str, main_model: Any) -> None:
    made = GuardedLab(kind, main_model, "fine")
    assert made.engine.generate(messages=[user("hi")]) == assistant("fine")
    assert made.engine.generate(messages=[user(BAD)]) == assistant(REFUSAL)
    assert made.engine.check([user("hi")]).status == RailStatus.PASSED
    assert made.engine.check([user(BAD)]).status == RailStatus.BLOCKED
    made.server.replies, made.main._llm_responses = [assistant(BAD)], [made.main._llm_responses[0]]
    asyncio.run(made.aclose())


@llmrails
def test_several_threads_with_a_loop_each(kind: str, main_model: Any) -> None:
    labs = [GuardedLab(kind, main_model, "fine") for _ in range(3)]
    answers: list[Any] = []

    async def talk(made: GuardedLab) -> None:
        for _ in range(5):
            answers.append((await made.say(user("hi")))["content"])
            answers.append((await made.say(user(BAD)))["content"])
        await made.aclose()

    # one after the other: plain LLMRails fail in `ast.parse` with several threads at once (cpython#106905)
    for made in labs:
        thread = threading.Thread(target=lambda made=made: asyncio.run(talk(made)))
        thread.start()
        thread.join(60)
    assert answers == ["fine", REFUSAL] * 15


@engines
async def test_bad_input_is_the_engines_error_or_closed(kind: str, lab: Make) -> None:
    made = lab(kind)
    with pytest.raises(ValueError, match=r"(?i)neither|either"):
        await made.engine.generate_async()
    if kind != "LLMRails":
        with pytest.raises(ValueError, match="Neither"):
            made.engine.stream_async()
    for wrong in (BAD, {"role": "user", "content": BAD}):
        with pytest.raises(TypeError, match="messages must be a list"):
            await made.engine.generate_async(messages=wrong)
        with pytest.raises(TypeError, match="messages must be a list"):
            made.engine.stream_async(messages=wrong)
    assert await made.say(user("hi"), {"role": f"wizard {BAD}", "content": "hi"}) == assistant(REFUSAL)
    assert await made.say({"role": "wizard", "content": BAD}, user("hi")) == assistant(REFUSAL)
    assert await made.say({"role": "tool", "content": BAD}) == assistant(REFUSAL)
    assert (await made.say(user("hi"), BAD))["content"] != "fine"  # type: ignore[arg-type]
    with pytest.raises(StreamingNotSupportedError):
        await made.say(user("hi"), streaming_handler=object())
    assert made.prompts == []


async def test_an_engine_that_raises_raises(lab: Make) -> None:
    made = lab("IORails")
    made.server.status = 400
    with pytest.raises(Exception, match="400"):
        await made.say(user("hi"))
    chunks = await made.stream(user("hi"))
    assert "error" in chunks[-1]


@engines
async def test_a_moderator_that_is_down_closes(kind: str, lab: Make) -> None:
    made = lab(kind, policy={})
    made.moderator.fail(Unavailable("down"))
    assert (await made.say(user("hi")))["content"] != "fine"
    assert "fine" not in "".join(await made.stream(user("hi")))
    assert made.prompts == []


def test_what_is_no_engine() -> None:
    for wrong in ("x", object(), None):
        with pytest.raises(TypeError, match="Guardrails or LLMRails"):
            guarded(wrong, "turnguard.yaml")


@engines
async def test_the_rest_of_the_engine_is_passed_on(kind: str, lab: Make) -> None:
    made = lab(kind)
    assert made.engine.config is made.bare.config
    assert made.engine.engine is made.bare
    for name in ("generate_events_async", "process_events_async", "generate_events", "process_events"):
        if hasattr(made.bare, name):
            with pytest.raises(NotImplementedError, match="past Turnguard"):
                getattr(made.engine, name)([])
    with pytest.raises(AttributeError):
        made.engine.nonsense  # noqa: B018
    if kind != "IORails":
        assert made.engine.register_action(lambda: None, "nothing") is made.engine, "chaining stays guarded"
        made.engine.events_history_cache = {}
        assert made.bare.events_history_cache == {}
    if kind != "LLMRails":
        async with made.engine as same:
            assert same is made.engine
            assert await same.generate_async(messages=[user(BAD)]) == assistant(REFUSAL)


def test_a_knowledge_base_that_nobody_could_judge_is_refused() -> None:
    guard = Guard(moderator=FakeModerator())
    rails = LLMRails(RailsConfig.from_content(yaml_content="models: []"), llm=Main("fine"))
    rails.config.docs = [{"format": "md", "content": "# Tea\n\nTea is a drink."}]
    with pytest.raises(ConfigError, match="knowledge base"):
        guarded(rails, guard)
    rails.config.passthrough = True  # the engine writes no prompt then
    guarded(rails, guard)


@engines
async def test_the_moderators_tokens_are_counted(kind: str, lab: Make) -> None:
    with FakeVLLM() as server:
        made = lab(kind)
        guard = Guard.from_dict({"moderator": {"base_url": server.base_url}})
        wanted = {"activated_rails": True, "llm_calls": True}
        bare = await made.bare.generate_async(messages=[user("hi")], options={"log": wanted})
        answer = await guarded(made.bare, guard).generate_async(messages=[user("hi")], options={"log": wanted})
        ours = [call for call in answer.log.llm_calls if call.llm_provider_name == "turnguard"]
        assert len(ours) == 2
        assert all(call.prompt_tokens > 0 and call.completion_tokens > 0 for call in ours)
        added = answer.log.stats.llm_calls_total_tokens - (bare.log.stats.llm_calls_total_tokens or 0)
        assert added == sum(call.total_tokens for call in ours)
        await guard.aclose()


async def test_what_a_later_engine_takes_in_check_reaches_it(lab: Make) -> None:
    """NeMo Guardrails 0.25 checks tool calls against definitions: `check(messages, rail_types, tools=...)`."""
    found = {"regex_detection": {"input": {"patterns": ["tea"]}}}
    made = lab("IORails", rails={"input": {"flows": ["regex check input"]}, "config": found})
    given: list[Any] = []
    check = made.bare.check_async

    async def later(messages: list[Any], rail_types: Any = None, *, tools: Any = None) -> Any:
        given.append(tools)
        return await check(messages, rail_types)

    made.bare.check_async = later
    tools = [offer("look", "Looks at the screen.")]
    assert (await made.engine.check_async([user("hi")], tools=tools)).status == RailStatus.PASSED
    assert (await made.engine.check_async([user(BAD)], tools=tools)).content == REFUSAL
    assert given == [tools]
