"""NeMo's engine, going on from where it stood.

For each of its steps the engine for Colang 1.0 works its state out anew, from all events since the conversation began:
a turn costs the square of its length, most of it for what was known before. Here the state is kept between the steps of
a run, and only new events are put through. It is the engine's own code that does so, and what it decides is the same:
the tests compare each of their steps with what the whole history gives. `benchmarks/nemo.py` measures it.

One thing differs. Where an action changes a value in place, the engine decides anew about conditions that it was in
before, and may lose the flow that they stand in; here what was decided stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from operator import is_
from types import FunctionType
from typing import Any, TypeGuard

from turnguard.runtime.fork import watch

Event = dict[str, Any]

COMPUTES = frozenset({"State", "compute_next_state"})
"""What the engine's `compute_next_steps` must use for `Steps` to take their place in it."""


class _OneAtATime:
    """Lets one thread at a time into the engine, of whatever app: it parses each expression anew, and `ast.parse` fails
    in several threads at once ("AST constructor recursion depth mismatch", cpython#106905).
    """

    def __init__(self) -> None:
        self._after_fork()
        watch(self)

    def _after_fork(self) -> None:
        self.lock = threading.RLock()


_engine = _OneAtATime()


class Steps:
    """The steps of one run of the engine, and its state after the events that it has seen.

    `compute` is the engine's `compute_next_steps`. A run `before` this one, within which it takes place (rails in
    parallel run so), has seen most of its events.
    """

    def __init__(self, compute: FunctionType, before: Steps | None = None) -> None:
        names = compute.__globals__
        self._begin: Callable[..., Any] = names["State"]
        self._advance: Callable[[Any, Event], Any] = names["compute_next_state"]
        self._compute = rebound(compute, State=self._resume, compute_next_state=self._put_through)
        self._seen: list[Event] = []
        self._flows = 0
        self._state: Any = None
        if before is not None and before._state is not None:
            self._seen, self._flows, self._state = before._seen, before._flows, _copied(before._state)

    def __call__(
        self, history: list[Event], flow_configs: Mapping[str, Any], rails_config: Any, processing_log: list[Any]
    ) -> list[Event]:
        """The engine's next events, as its `compute_next_steps` gives them."""
        new = history[self._known(history, flow_configs, rails_config) :]
        if len(new) == len(history) or any(event["type"] == "hide_prev_turn" for event in new):
            new, self._state = history, None  # nothing is known, or an event takes earlier ones back: from the start
        try:
            with _engine.lock:
                steps: list[Event] = self._compute(new, flow_configs, rails_config, processing_log)
        except BaseException:
            self._state = None  # half of an event may be in it
            raise
        self._seen, self._flows = history.copy(), len(flow_configs)
        return steps

    def _known(self, history: Sequence[Event], flow_configs: Mapping[str, Any], rails_config: Any) -> int:
        """How many of these events the state holds: all that were seen, or none."""
        state, seen = self._state, self._seen
        goes_on = (
            state is not None
            and len(seen) < len(history)
            and state.flow_configs is flow_configs
            and self._flows == len(flow_configs)  # a model may write flows while it runs
            and state.rails_config is rails_config
            and all(map(is_, seen, history))
        )
        return len(seen) if goes_on else 0

    def _resume(self, **empty: Any) -> Any:
        """Stands for the engine's `State`: where it would begin with an empty one, it gets the one that is kept."""
        if self._state is None:
            self._state = self._begin(**empty)
        return self._state

    def _put_through(self, state: Any, event: Event) -> Any:
        """Stands for the engine's `compute_next_state`, and keeps what that gives."""
        self._state = self._advance(state, event)
        return self._state


def _copied(state: Any) -> Any:
    """A state that goes its own way: the engine writes into the one that it is given."""
    made = copy(state)
    made.context = dict(state.context)
    made.flow_states = [copy(each) for each in state.flow_states]
    return made


def rebound(function: FunctionType, **names: Any) -> FunctionType:
    """The same function, in which these global names stand for something else."""
    made = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def can_go_on(compute: object) -> TypeGuard[FunctionType]:
    """Whether this is a `compute_next_steps` that `Steps` can carry on: anything else is left as it is."""
    return (
        isinstance(compute, FunctionType)
        and COMPUTES.issubset(compute.__code__.co_names)
        and COMPUTES.issubset(compute.__globals__)
    )


running: ContextVar[Steps | None] = ContextVar("turnguard_nemo_steps", default=None)
"""The steps of the run in progress."""
