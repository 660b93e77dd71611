"""The engine goes on from where it stood, and decides what it decides when it works everything out anew."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.colang.v1_0.runtime import flows as engine_flows
from nemoguardrails.colang.v1_0.runtime import runtime as engine_runtime
from nemoguardrails.testing import FakeLLMModel

from tests.nemo.lab import QUIET, REFUSAL, Lab, comparable, user
from turnguard.nemo.stepping import Steps, can_go_on

pytestmark = QUIET

COLANG = """
define user ask
  "what"

define flow
  user ask
  $count = 0
  while $count < 2
    execute look(at=$count)
    $count = $count + 1
  if $found
    bot answer
  else
    bot refuse
    stop

define subflow help out
  execute help
  bot answer

define flow
  user need help
  do help out
  user ask
  bot answer again

define extension flow
  user greet
  bot greet back

define parallel flow watch
  event UtteranceUserActionFinished(final_transcript="...")
  $heard = $event["final_transcript"]
  create event Heard(text=$heard)

define parallel flow break
  event Broken
  $never = $event["nothing"]
"""

_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "UtteranceUserActionFinished", "final_transcript": "what"},
    {"type": "UserMessage", "text": "what"},
    {"type": "UserIntent", "intent": "ask"},
    {"type": "UserIntent", "intent": "need help"},
    {"type": "UserIntent", "intent": "greet"},
    {"type": "BotIntent", "intent": "answer"},
    {"type": "BotIntent", "intent": "greet back"},
    {"type": "BotIntent", "intent": "stop"},
    {"type": "StartUtteranceBotAction", "script": "yes"},
    {"type": "ContextUpdate", "data": {"found": True}},
    {"type": "ContextUpdate", "data": {"count": 5}},
    {"type": "start_flow", "flow_id": "help out", "params": {"found": "x"}},
    {"type": "StartInternalSystemAction", "action_name": "look", "action_params": {}, "action_result_key": None},
    {"type": "InternalSystemActionFinished", "action_name": "look", "status": "success"},
    {"type": "InternalSystemActionFinished", "action_name": "help", "status": "success"},
    {"type": "InternalSystemActionFinished", "action_name": "create_event", "status": "success"},
    {"type": "Heard", "text": "what"},
    {"type": "Listen"},
    {"type": "hide_prev_turn"},
)
_EVENT = st.sampled_from(_EVENTS).map(lambda event: dict(event))  # noqa: PLW0108 - mypy cannot see that dict is enough
_RUNS = st.lists(st.lists(_EVENT, min_size=1, max_size=4), min_size=1, max_size=8)


@pytest.fixture
async def app() -> LLMRails:
    return LLMRails(RailsConfig.from_content(COLANG, "models: []"), llm=FakeLLMModel(llm_responses=[]))


def _whole(app: LLMRails, history: list[Any]) -> Any:
    flows = app.runtime.flow_configs
    try:
        return comparable(engine_flows.compute_next_steps(history, flows, app.config, []))
    except Exception as error:  # noqa: BLE001 - what the engine raises is part of what it does
        return repr(error)


def _gone_on(app: LLMRails, steps: Steps, history: list[Any]) -> Any:
    try:
        return comparable(steps(history, app.runtime.flow_configs, rails_config=app.config, processing_log=[]))
    except Exception as error:  # noqa: BLE001 - what the engine raises is part of what it does
        return repr(error)


@given(runs=_RUNS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_in_any_pieces_gives_the_steps_that_all_of_it_gives(app: LLMRails, runs: list[Any]) -> None:
    history: list[Any] = [{"type": "UtteranceUserActionFinished", "final_transcript": "first"}]
    steps = Steps(engine_flows.compute_next_steps)
    for more in runs:
        history = [*history, *more]
        assert _gone_on(app, steps, history) == _whole(app, history)


@given(runs=_RUNS, beside=_RUNS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_within_a_run_leaves_the_outer_one_as_it_was(app: LLMRails, runs: list[Any], beside: list[Any]) -> None:
    history: list[Any] = [{"type": "UtteranceUserActionFinished", "final_transcript": "first"}]
    outer = Steps(engine_flows.compute_next_steps)
    for more, within in zip(runs, beside, strict=False):
        history = [*history, *more]
        assert _gone_on(app, outer, history) == _whole(app, history)
        forked = [*history, *within]
        assert _gone_on(app, Steps(engine_flows.compute_next_steps, outer), forked) == _whole(app, forked)


def test_what_a_run_within_a_run_sets_is_its_own(app: LLMRails) -> None:
    looked = {"type": "InternalSystemActionFinished", "action_name": "look", "status": "success"}
    history: list[Any] = [{"type": "UserIntent", "intent": "ask"}, looked]
    outer = Steps(engine_flows.compute_next_steps)
    assert _gone_on(app, outer, history) == _whole(app, history)
    within = Steps(engine_flows.compute_next_steps, outer)
    forked = [*history, {"type": "ContextUpdate", "data": {"found": True}}, looked.copy()]
    assert _gone_on(app, within, forked)[-1]["intent"] == "answer"
    history = [*history, looked.copy()]
    assert _gone_on(app, outer, history)[-1]["intent"] == "refuse"


def test_after_an_error_the_engine_starts_over(app: LLMRails) -> None:
    steps = Steps(engine_flows.compute_next_steps)
    history: list[Any] = [{"type": "UserIntent", "intent": "ask"}]
    assert _gone_on(app, steps, history) == _whole(app, history)
    finished = {"type": "InternalSystemActionFinished", "action_name": "look", "status": "success"}
    failing = [*history, finished, finished.copy(), {"type": "Broken"}]
    assert "Error evaluating" in _gone_on(app, steps, failing)
    history = [*history, {"type": "Listen"}]
    assert _gone_on(app, steps, history) == _whole(app, history)


def test_another_history_starts_over(app: LLMRails) -> None:
    steps = Steps(engine_flows.compute_next_steps)
    first = [{"type": "UserIntent", "intent": "ask"}]
    assert _gone_on(app, steps, first) == _whole(app, first)
    other = [{"type": "UserIntent", "intent": "need help"}, {"type": "UserIntent", "intent": "ask"}]
    assert _gone_on(app, steps, other) == _whole(app, other)
    shorter = other[:1]
    assert _gone_on(app, steps, shorter) == _whole(app, shorter)
    assert _gone_on(app, steps, shorter) == _whole(app, shorter)


def test_a_flow_that_came_in_between_counts(app: LLMRails) -> None:
    steps = Steps(engine_flows.compute_next_steps)
    history = [{"type": "UserIntent", "intent": "ask"}]
    assert _gone_on(app, steps, history) == _whole(app, history)
    later = RailsConfig.from_content("define flow\n  user ask\n  user more\n  bot say more\n", "models: []").flows[0]
    app.runtime._load_flow_config({**later, "id": "later"})
    try:
        history = [*history, {"type": "UserIntent", "intent": "more"}]
        assert _gone_on(app, steps, history) == _whole(app, history)
        assert [step.get("intent") for step in _whole(app, history)] == ["say more"]
    finally:
        del app.runtime.flow_configs["later"]


@pytest.mark.parametrize(("parallel", "most"), [(False, 1), (True, 2)], ids=["sequential", "parallel"])
async def test_each_event_is_put_through_once(parallel: bool, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event that starts rails in parallel is put through in each of their runs, and after them."""
    seen: list[Any] = []
    advance = engine_flows.compute_next_state

    def noted(state: Any, event: Any) -> Any:
        seen.append(event)
        return advance(state, event)

    monkeypatch.setattr(engine_flows, "compute_next_state", noted)
    lab = Lab("yes", parallel=parallel)
    answer = await lab.say(user("hello"))
    assert answer == {"role": "assistant", "content": "yes"}
    assert len(seen) > 20
    assert max(Counter(map(id, seen)).values()) == most


async def test_an_action_that_fails_takes_its_turn_back() -> None:
    """The engine hides such a turn by an event, which no state can be carried past."""
    rails = {"input": {"flows": ["theirs"]}}
    lab = Lab("yes", "yes", colang="define flow theirs\n  execute missing\n", rails=rails)
    first = await lab.say(user("hello"))
    assert "not found" in first["content"]
    again = await lab.say(user("hello"), first, user("and now?"))
    assert "not found" in again["content"]


async def test_an_engine_that_someone_else_has_changed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine_flows.compute_next_steps

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return whole(*args, **kwargs)

    assert can_go_on(whole)
    assert not can_go_on(theirs)
    assert not can_go_on(len)
    monkeypatch.setattr(engine_runtime, "compute_next_steps", theirs)
    lab = Lab("yes")
    assert "_compute_next_steps" not in vars(lab.rails.runtime)
    assert (await lab.say(user("BOMB")))["content"] == REFUSAL
    assert (await lab.say(user("hello")))["content"] == "yes"


def test_turns_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ast.parse` fails in several threads at once, and the engine parses each expression anew (cpython#106905)."""
    monkeypatch.setattr(Steps, "__call__", vars(Steps.__call__)["__wrapped__"])  # comparing would parse beside it
    answers: Counter[str] = Counter()

    async def talk(lab: Lab) -> None:
        for number in range(10):
            try:
                answers[(await lab.say(user(f"hello {number}")))["content"]] += 1
            except Exception as error:  # noqa: BLE001 - counted, and told below
                answers[repr(error)] += 1

    labs = [Lab("yes") for _ in range(4)]
    threads = [threading.Thread(target=lambda lab=lab: asyncio.run(talk(lab))) for lab in labs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert answers == {"yes": 40}
