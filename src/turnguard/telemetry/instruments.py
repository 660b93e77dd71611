"""The tracer and the meters, taken from the providers that the application set up."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from turnguard._version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter, Observation
    from opentelemetry.trace import Tracer

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
"""Bucket boundaries of the durations: a verdict takes tens of milliseconds, a deadline ends at seconds."""

LOOK_AGAIN = 0.25
"""Seconds between two looks for an SDK where only the API is loaded: each reads the environment, in every check."""


class Queue(Protocol):
    """Requests that are under way or wait for room, for the gauges."""

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        ...


_queues: weakref.WeakSet[Queue] = weakref.WeakSet()


def watch(queue: Queue) -> None:
    """Show `queue` in the gauges for as long as it lives."""
    _queues.add(queue)


class Instruments:
    """Made once. Where only one of tracing and metrics was set up, the API's own no-ops stand for the other."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self.tracer = tracer
        self.check = _histogram(meter, "turnguard.check.duration", "From the step to its decision")
        self.request = _histogram(meter, "gen_ai.client.operation.duration", "One request to a moderator")
        self.verdicts = meter.create_counter("turnguard.verdicts", "{verdict}", "What the moderator said")
        self.failures = meter.create_counter("turnguard.failures", "{verdict}", "Where it said nothing")
        self.hits = meter.create_counter("turnguard.memory.hits", "{verdict}", "Verdicts from memory")
        self.decisions = meter.create_counter("turnguard.decisions", "{decision}", "Decisions by policy")
        self.rules = meter.create_counter("turnguard.rules", "{decision}", "Decisions in which a rule fired")
        looks = "Second looks, by what the first and the second said"
        self.second_looks = meter.create_counter("turnguard.second_looks", "{verdict}", looks)
        self.shadow = meter.create_counter("turnguard.shadow", "{decision}", "What policy.shadow would have done")
        self.reviews = meter.create_counter("turnguard.reviews", "{review}", "What became of steps under review")
        self.lost = meter.create_counter("turnguard.records.lost", "{record}", "Decisions that were not recorded")
        self.lost.add(0)  # so that an alert sees the first loss as a rise
        self.shared = meter.create_counter(
            "turnguard.memory.shared", "{verdict}", "What became of them in the shared one"
        )
        for name, what in (("in_flight", "Requests under way"), ("waiting", "Requests that wait for room")):
            meter.create_observable_up_down_counter(f"turnguard.queue.{name}", [_observed(name)], "{request}", what)


def _histogram(meter: Meter, name: str, what: str) -> Histogram:
    return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=SECONDS)


def _observed(name: str) -> Callable[[Any], Iterator[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(_options: Any) -> Iterator[Observation]:
        yield Observation(sum(getattr(queue, name) for queue in list(_queues)))

    return observe


_made: Instruments | None = None
_next_look = 0.0


def listening() -> bool:
    """Whether the application set up an OpenTelemetry SDK. Costs two look-ups where it did not load the API."""
    if _made is not None:
        return True
    if "opentelemetry.trace" not in sys.modules and "opentelemetry.metrics" not in sys.modules:
        return False
    return time.monotonic() >= _next_look and _found()


def made() -> Instruments:
    """The instruments; only while `listening()`."""
    assert _made is not None  # noqa: S101 - the caller asked
    return _made


def lost(records: int = 1) -> None:
    """Count decisions that were not recorded: a full queue, a full disk, a lost database."""
    if listening():
        made().lost.add(records)


def reviewed(event: str, stage: str) -> None:
    """Count a step under review: `event` is held, not_held, approved, rejected or expired."""
    if listening():
        made().reviews.add(1, {"turnguard.review": event, "turnguard.stage": stage})


def _found() -> bool:
    """Take the providers as soon as one is real: those that the API itself defines record nothing."""
    global _made, _next_look  # noqa: PLW0603 - providers are the process's own, set once
    from opentelemetry import metrics, trace

    _next_look = time.monotonic() + LOOK_AGAIN
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    if all(type(each).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics")) for each in providers):
        return False
    traces, measures = providers
    _made = Instruments(traces.get_tracer("turnguard", __version__), measures.get_meter("turnguard", __version__))
    return True


def reset() -> None:
    """Look for the providers again. For tests that set up several in one process."""
    global _made, _next_look
    _made, _next_look = None, 0.0
