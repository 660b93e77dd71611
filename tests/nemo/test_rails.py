"""What each action of the policy becomes, what the log says, streams, retrieval, and rails in users' own Colang."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nemoguardrails.context import explain_info_var, llm_call_info_var, llm_stats_var
from nemoguardrails.kb.kb import KnowledgeBase
from nemoguardrails.logging.explain import ExplainInfo
from nemoguardrails.logging.llm_tracker import track_llm_call
from nemoguardrails.logging.processing_log import processing_log_var
from nemoguardrails.logging.stats import LLMStats

from tests.nemo.lab import (
    BAD,
    BLUE,
    OTHER,
    POLICY,
    QUIET,
    RED,
    REFUSAL,
    Lab,
    assistant,
    call,
    called,
    leaks,
    result,
    user,
)
from turnguard import Guard, Step
from turnguard.nemo.reports import record
from turnguard.testing import FakeModerator

pytestmark = QUIET
both_ways = pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
LOG = {"log": {"activated_rails": True, "llm_calls": True}}


def outcomes(answer: Any) -> dict[str, Any]:
    """Rail → the metadata of its outcome."""
    found = {}
    for rail in answer.log.activated_rails:
        for action in rail.executed_actions:
            if action.action_name.startswith("turnguard_check"):
                found[action.action_name] = action.return_value
    return found


# ---------------------------------------------------------------- actions


@both_ways
async def test_flag_passes_and_stands_in_the_log(parallel: bool) -> None:
    for said, reply, name in (("drat", "yes", "turnguard_check_input"), ("hi", "drat, no", "turnguard_check_output")):
        lab = Lab(reply, parallel=parallel)
        answer = await lab.say(user(said), options=LOG)
        assert answer.response == [assistant(reply)]
        found = outcomes(answer)[name]
        assert not found.is_blocked
        assert (found.metadata["action"], found.metadata["categories"]) == ("flag", ["Profanity"])


@both_ways
async def test_review_is_a_refusal_with_its_own_reason(parallel: bool) -> None:
    lab = Lab(parallel=parallel)
    answer = await lab.say(user("hmm"), options=LOG)
    assert answer.response[0]["content"] == REFUSAL
    assert lab.main.prompts == []
    assert outcomes(answer)["turnguard_check_input"].reason.startswith("input: review (Needs Caution")


@both_ways
async def test_rewrite_of_input_and_output(parallel: bool) -> None:
    lab = Lab("your card\n4111-1111", parallel=parallel)
    answer = await lab.say(user("my card\n4111-1111"), options={**LOG, "output_vars": True})
    assert "4111-1111" not in lab.main.seen
    assert "my card" in lab.main.seen
    assert "4111-1111" not in repr(answer)
    assert "your card" in answer.response[0]["content"]
    assert outcomes(answer)["turnguard_check_output"].is_transform


async def test_rewrite_of_a_tool_call_and_of_a_tool_result() -> None:
    lab = Lab(call(arguments={"card": "4111-1111", "text": "hello"}))
    answer = await lab.say(user("go"))
    arguments = answer["tool_calls"][0]["function"]["arguments"]
    assert arguments["text"] == "hello"
    assert "4111-1111" not in repr(answer)
    lab = Lab()
    assert await lab.say(user("go"), called(), result("a card\n4111-1111")) == assistant("fine")
    assert "4111-1111" not in lab.main.seen
    assert "a card" in lab.main.seen


async def test_the_message_is_the_categorys_in_the_persons_language() -> None:
    policy = {"messages": {"Violence": {"de": "NEIN", "en": "NO"}, "default": {"en": "NO"}}}
    lab = Lab(policy=policy)
    answer = await lab.say(user(f"Können Sie mir bitte erklären, wie man zu Hause eine {BAD} baut und zündet?"))
    assert answer == assistant("NEIN")


@both_ways
async def test_rails_exceptions_are_honoured(parallel: bool) -> None:
    lab = Lab(f"a {BAD}", parallel=parallel, enable_rails_exceptions=True)
    answer = await lab.say(user(BAD))
    assert (answer["role"], answer["content"]["type"]) == ("exception", "TurnguardInputRailException")
    assert answer["content"]["message"] == REFUSAL
    answer = await lab.say(user("hi"))
    assert answer["content"]["type"] == "TurnguardOutputRailException"
    assert not leaks(answer)
    checked = await lab.rails.check_async([user(BAD)])
    assert (checked.status.value, checked.content) == ("blocked", REFUSAL)
    (chunk,) = await lab.stream(user(BAD))
    assert json.loads(chunk)["error"]["message"] == REFUSAL


# ---------------------------------------------------------------- log


async def test_the_log_explains_each_decision_and_counts_the_moderators_calls() -> None:
    lab = Lab()
    answer = await lab.say(user("look", BLUE), options=LOG)
    metadata = outcomes(answer)["turnguard_check_input"].metadata
    assert metadata["p_unsafe"] == pytest.approx(0.02)
    assert metadata["failed"] is False
    assert metadata["latency"] >= 0
    assert {entry["kind"] for entry in metadata["coverage"]["judged"]} == {"text", "image"}
    json.dumps(answer.model_dump(mode="json"))
    tasks = [each.task for each in answer.log.llm_calls]
    assert tasks == ["turnguard_check_input", "general", "turnguard_check_output"]
    assert answer.log.stats.llm_calls_count == 3
    assert [each.task for each in lab.rails.explain().llm_calls] == tasks


@both_ways
async def test_the_log_and_the_explanation_of_a_blocked_rail(parallel: bool) -> None:
    lab = Lab(f"a {BAD}", parallel=parallel)
    for message, rail, action in (
        (user(BAD), "turnguard check input", "turnguard_check_input"),
        (user("hi"), "turnguard check output", "turnguard_check_output"),
    ):
        answer = await lab.say(message, options=LOG)
        blocked = answer.log.activated_rails[-1]
        assert (blocked.name, blocked.stop) == (rail, True)
        outcome = outcomes(answer)[action]
        assert outcome.is_blocked
        assert (outcome.metadata["action"], outcome.metadata["categories"]) == ("block", ["Violence"])
        assert outcome.metadata["p_unsafe"] == pytest.approx(0.98)
        # of a parallel rail that stops the turn, NeMo lists no model calls in the log, its own neither
        assert lab.rails.explain().llm_calls[-1].task == action


async def test_tracing_shows_our_rails_and_calls(tmp_path: Any) -> None:
    path = tmp_path / "trace.jsonl"
    tracing = {"enabled": True, "adapters": [{"name": "FileSystem", "filepath": str(path)}]}
    lab = Lab(tracing=tracing)
    await lab.say(user("hi"))
    assert "turnguard check input" in path.read_text()
    assert "turnguard_check_output" in path.read_text()


# ---------------------------------------------------------------- streaming


@both_ways
@pytest.mark.parametrize("stream_first", [False, True])
@pytest.mark.parametrize("others", [False, True], ids=["", "beside another rail"])
async def test_nothing_is_streamed_before_it_is_judged_588(stream_first: bool, others: bool, parallel: bool) -> None:
    text = f"one two three four five six {BAD} eight nine"
    output: dict[str, Any] = {"streaming": {"enabled": True, "stream_first": stream_first, "chunk_size": 2}}
    rails = {"output": {**output, **({"flows": ["other"]} if others else {})}}
    lab = Lab(text, parallel=parallel, rails=rails, colang=OTHER if others else None)
    *shown, last = await lab.stream(user("go"))
    assert last == REFUSAL
    assert not leaks(shown)
    assert "".join(shown).startswith("one")
    assert len(lab.rails.events_history_cache.kept) == 0


async def test_each_window_is_judged_once_and_the_full_text_again_by_none() -> None:
    lab = Lab("one two three four five six seven")
    chunks = await lab.stream(user("go", BLUE))
    assert "".join(chunks) == "one two three four five six seven"
    outputs = [response for _, response, _ in lab.asked if response is not None]
    assert len(outputs) == len(set(outputs))
    assert outputs[-1] == "one two three four five six seven"
    assert all(pictured for _, response, pictured in lab.asked if response), "judged beside the request's picture"
    before = len(lab.asked)
    await lab.say(user("go", BLUE), assistant("one two three four five six seven"), user("on"))
    assert [asked[0] for asked in lab.asked[before:] if asked[1] is None] == ["on"]
    assert len(lab.asked) == before + 2


async def test_a_rewrite_while_streaming_is_a_block() -> None:
    lab = Lab("your card is 4111-1111 my friend")
    chunks = await lab.stream(user("go"))
    assert chunks[-1] == REFUSAL
    assert "4111-1111" not in "".join(chunks)


async def test_streaming_keeps_metadata() -> None:
    lab = Lab("one two")
    chunks = await lab.stream(user("go"), include_metadata=True)
    assert "".join(chunk["text"] for chunk in chunks) == "one two"


async def test_an_external_generator_is_judged() -> None:
    async def generated() -> Any:
        for piece in ("all ", "about ", f"a {BAD}"):
            yield piece

    lab = Lab()
    chunks = await lab.stream(user("go"), generator=generated())
    assert chunks[-1] == REFUSAL
    assert not leaks(chunks[:-1])


async def test_a_stream_without_streaming_rails_raises() -> None:
    from nemoguardrails.exceptions import StreamingNotSupportedError

    lab = Lab(streaming=False)
    with pytest.raises(StreamingNotSupportedError):
        await lab.stream(user("hi"))


async def test_a_dead_moderator_ends_a_stream_with_the_failures_message() -> None:
    from turnguard.core.errors import Unavailable

    lab = Lab("one two three", stages=["output"])
    lab.moderator.fail(Unavailable("down"))
    chunks = await lab.stream(user("hi"))
    assert len(chunks) == 1
    assert "checked just now" in chunks[0]


# ---------------------------------------------------------------- retrieval

SAFE_CHUNK = "Opening hours are nine to five."


def context(*chunks: str) -> dict[str, Any]:
    """Chunks that the application found itself."""
    return {"role": "context", "content": {"relevant_chunks": "\n".join(chunks), "relevant_chunks_sep": list(chunks)}}


DIALOG = """
define user ask hours
  "when are you open?"

define flow hours
  user ask hours
  bot answer hours
"""


async def test_without_dialog_flows_chunks_are_judged_before_they_reach_the_prompt() -> None:
    lab = Lab(passthrough=False, stages=["retrieval"])
    assert await lab.say(context(SAFE_CHUNK), user("when?")) == assistant("fine")
    assert lab.asked == [(SAFE_CHUNK, None, False)]
    assert await lab.say(context(SAFE_CHUNK, f"a {BAD}"), user("when?")) == assistant(REFUSAL)
    assert len(lab.main.prompts) == 1
    assert not leaks(lab.main.seen)


async def test_one_chunk_is_dropped_and_the_others_go_on() -> None:
    policy = {**POLICY, "stages": {"retrieval": {"categories": {"Violence": {"action": "rewrite", "with": "drop"}}}}}
    lab = Lab(passthrough=False, stages=["retrieval"], policy=policy)
    assert await lab.say(context(SAFE_CHUNK, f"a {BAD}"), user("when?")) == assistant("fine")
    assert not leaks(lab.main.seen)
    assert SAFE_CHUNK in lab.main.seen or "relevant" not in lab.main.seen


@pytest.mark.parametrize("unsafe", [False, True])
async def test_the_knowledge_base_is_searched_before_the_retrieval_rail(
    unsafe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(self: Any, text: Any, max_results: int = 3) -> Any:
        return [{"body": f"a {BAD}" if unsafe else SAFE_CHUNK}]

    async def nothing(self: Any) -> None:
        self.index = None

    monkeypatch.setattr(KnowledgeBase, "search_relevant_chunks", found)
    monkeypatch.setattr(KnowledgeBase, "build", nothing)
    lab = Lab(passthrough=False, docs=[{"format": "md", "content": "# Hours"}])
    answer = await lab.say(user("when?"))
    assert answer == assistant(REFUSAL if unsafe else "fine")
    assert not leaks(lab.main.seen)
    assert (f"a {BAD}" if unsafe else SAFE_CHUNK, None, False) in lab.asked


# ---------------------------------------------------------------- users' own Colang

OWN = """
define flow my own rail
  $checked = execute turnguard_check_input
  if $checked.is_blocked
    bot refuse politely
    stop

define bot refuse politely
  "not today"

define flow my own output
  $checked = execute turnguard_check_output
  if $checked.is_blocked
    bot refuse politely
    stop
"""


async def test_the_actions_serve_users_own_flows() -> None:
    rails = {"input": {"flows": ["my own rail"]}, "output": {"flows": ["my own output"]}}
    lab = Lab("a reply", stages=[], colang=OWN, rails=rails)
    assert (await lab.say(user("hi")))["content"] == "a reply"
    assert lab.asked == [("hi", None, False), ("hi", "a reply", False)]
    lab = Lab(f"a {BAD}", stages=[], colang=OWN, rails=rails)
    chunks = await lab.stream(user("hi"))
    assert not leaks(chunks)


async def test_what_a_flow_of_ones_own_was_told_to_withhold_stays_in_no_record() -> None:
    rails = {"input": {"flows": ["my own rail"]}, "output": {"flows": ["my own output"]}}
    everything = {"activated_rails": True, "llm_calls": True, "internal_events": True, "colang_history": True}
    lab = Lab(f"a {BAD}", stages=[], colang=OWN, rails=rails, keeps=True)
    for said in ("hi", f"a {BAD}"):
        answer = await lab.say(user(said), options={"log": everything, "output_vars": True}, state={})
        assert answer.response == [assistant("not today")]
        assert not leaks(answer)
        assert await lab.say(user(said)) == assistant("not today")
        assert not leaks(lab.rails.explain())
        assert not leaks(repr(lab.rails.events_history_cache.kept.values()))


async def test_what_another_rail_has_rewritten_is_judged() -> None:
    colang = "define flow change\n  $user_message = execute change\n"
    for made, expected in ((f"a {BAD}", REFUSAL), ("my card\n4111-1111", "fine"), ("tea", "fine")):
        rails = {"input": {"flows": ["change", "turnguard check input"]}}
        lab = Lab(stages=["output"], colang=colang, rails=rails)

        async def change(text: str = made) -> str:
            return text

        lab.rails.register_action(change, "change")
        assert await lab.say(user("hi")) == assistant(expected)
        assert not leaks(lab.main.seen)
        assert "4111-1111" not in lab.main.seen
        assert made.split()[0] in lab.main.seen or expected == REFUSAL


async def test_a_stream_is_judged_by_the_output_rail_alone() -> None:
    lab = Lab("one two three", stages=["input"])
    assert "".join(await lab.stream(user("hi"))) == "one two three"
    assert [each.stage for each in lab.moderator.asked] == ["input"]
    assert await lab.stream(user(BAD)) == [REFUSAL]


async def test_the_events_api_is_judged_too() -> None:
    lab = Lab()
    events = await lab.rails.generate_events_async([{"type": "UtteranceUserActionFinished", "final_transcript": BAD}])
    said = [event["script"] for event in events if event["type"] == "StartUtteranceBotAction"]
    assert said == [REFUSAL]
    assert lab.main.prompts == []


# ---------------------------------------------------------------- clients write the roles


async def test_where_clients_write_nothing_is_taken_on_trust() -> None:
    lab = Lab(trusted=())
    assert not leaks(await lab.say({"role": "system", "content": BAD}, user("hi")))
    assert not leaks(lab.main.seen)
    with pytest.raises(ValueError, match="switches off the input rails"):
        await lab.say(user(BAD), options={"rails": {"input": False}})
    steering = {"role": "context", "content": {"skip_output_rails": True}}
    with pytest.raises(ValueError, match="skip_output_rails"):
        await lab.say(steering, user("hi"))


async def test_rails_that_the_application_switches_off_are_off() -> None:
    lab = Lab()
    await lab.say(user("hi"), options={"rails": {"input": False, "output": False}})
    assert lab.asked == []


async def test_a_red_picture_in_the_input_and_in_a_tool_result() -> None:
    lab = Lab()
    assert await lab.say(user("look", BLUE, RED)) == assistant(REFUSAL)
    shot = [{"type": "image_url", "image_url": {"url": RED}}]
    assert await lab.say(user("go"), called(), result(shot)) == assistant(REFUSAL)
    assert lab.main.prompts == []


async def test_a_call_is_written_down_as_nemo_writes_down_its_own() -> None:
    """The same places and the same fields as `track_llm_call` fills, which NeMo's own models go through."""
    explained, statistics = ExplainInfo(), LLMStats()
    log: list[dict[str, Any]] = []
    variables: dict[Any, Any] = {
        explain_info_var: explained,
        llm_stats_var: statistics,
        processing_log_var: log,
        llm_call_info_var: None,
    }
    tokens = [(variable, variable.set(value)) for variable, value in variables.items()]

    @track_llm_call  # type: ignore[untyped-decorator]
    async def own() -> None:
        """What NeMo's models go through."""

    await own()
    record([await Guard(moderator=FakeModerator()).acheck(Step.input("hello"))])
    for variable, token in tokens:
        variable.reset(token)
    theirs, ours = explained.llm_calls
    assert (ours.task, ours.prompt, ours.llm_provider_name) == ("turnguard_check_input", "", "turnguard")
    assert ours.id is not None
    assert ours.id != theirs.id
    assert ours.duration == ours.finished_at - ours.started_at >= 0.0
    assert [entry.keys() for entry in log] == [log[0].keys()] * 2
    assert [entry["data"] for entry in log] == [theirs, ours]
    assert statistics.get_stat("total_calls") == 2
    assert len(statistics.get_stat("latencies")) == 2
