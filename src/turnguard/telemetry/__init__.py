"""Logs, spans and metrics that cannot leak: stages, actions, known categories, failures, counts and seconds; never
content, a cause that a server wrote, or a credential.

OpenTelemetry is used through `opentelemetry-api` alone, and only when the application has set up an SDK: until then
nothing of it is imported here and nothing is recorded. Set the SDK up before the first check that is to be seen: one
that is set up later is found within a quarter of a second.

Spans: `turnguard.check <stage>` around a check, and `chat <model>` (GenAI conventions, client) around each request to
a moderator. Metrics: `turnguard.check.duration`, `turnguard.verdicts`, `turnguard.failures`, `turnguard.memory.hits`,
`turnguard.queue.in_flight`, `turnguard.queue.waiting`, and `gen_ai.client.operation.duration`.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from turnguard._version import __version__
from turnguard.core.errors import ModeratorError
from turnguard.core.taxonomy import on_record

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter, Observation
    from opentelemetry.trace import Tracer

    from turnguard.core.decision import Decision
    from turnguard.core.step import Stage
    from turnguard.core.verdict import Verdict

log = logging.getLogger("turnguard")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
"""Bucket boundaries of the durations: a verdict takes tens of milliseconds, a deadline ends at seconds."""

WARNING_SECONDS = 1.0
"""Failures are logged as warnings this far apart; those between them at DEBUG."""


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


class _Instruments:
    """Made once for the providers that the application set up."""

    def __init__(self, tracer: Tracer | None, meter: Meter | None) -> None:
        self.tracer = tracer
        self.duration: Histogram | None = None
        if meter is None:
            return
        self.duration = _histogram(meter, "turnguard.check.duration", "From the step to its decision")
        self.request: Histogram = _histogram(meter, "gen_ai.client.operation.duration", "One request to a moderator")
        self.verdicts: Counter = meter.create_counter("turnguard.verdicts", "{verdict}", "What the moderator said")
        self.failures: Counter = meter.create_counter("turnguard.failures", "{verdict}", "Where it said nothing")
        self.hits: Counter = meter.create_counter("turnguard.memory.hits", "{verdict}", "Verdicts from memory")
        for name, what in (("in_flight", "Requests under way"), ("waiting", "Requests that wait for room")):
            meter.create_observable_up_down_counter(f"turnguard.queue.{name}", [_observed(name)], "{request}", what)


def _histogram(meter: Meter, name: str, what: str) -> Histogram:
    return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=SECONDS)


def _observed(name: str) -> Callable[[Any], Iterator[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(_options: Any) -> Iterator[Observation]:
        yield Observation(sum(getattr(queue, name) for queue in list(_queues)))

    return observe


_instruments: _Instruments | None = None
LOOK_AGAIN = 0.25
"""Seconds between two looks for an SDK where only the API is loaded: each reads the environment, in every check."""
_next_look = 0.0


def listening() -> bool:
    """Whether the application set up an OpenTelemetry SDK. Costs two look-ups where it did not load the API."""
    if _instruments is not None:
        return True
    if "opentelemetry.trace" not in sys.modules and "opentelemetry.metrics" not in sys.modules:
        return False
    return time.monotonic() >= _next_look and _found()


def _found() -> bool:
    """Take the providers as soon as they are real ones: those that the API itself defines record nothing."""
    global _instruments, _next_look  # noqa: PLW0603 - providers are the process's own, set once
    from opentelemetry import metrics, trace

    _next_look = time.monotonic() + LOOK_AGAIN

    traces, measures = trace.get_tracer_provider(), metrics.get_meter_provider()
    tracing = not type(traces).__module__.startswith("opentelemetry.trace")
    measuring = not type(measures).__module__.startswith("opentelemetry.metrics")
    if tracing or measuring:
        _instruments = _Instruments(
            traces.get_tracer("turnguard", __version__) if tracing else None,
            measures.get_meter("turnguard", __version__) if measuring else None,
        )
    return _instruments is not None


def reset() -> None:
    """Look for the providers again, and warn anew. For tests that set up several in one process."""
    global _instruments, _next_warning, _next_look
    _instruments, _next_warning, _next_look = None, 0.0, 0.0


@contextmanager
def check(stage: Stage) -> Iterator[Callable[[Decision], Decision]]:
    """A span and measures around one check; call what it gives with the decision. Only while `listening()`."""
    made = _instruments
    assert made is not None  # noqa: S101 - the caller asked
    started = time.perf_counter()
    with _span(made.tracer, f"turnguard.check {stage}", "INTERNAL", {"turnguard.stage": stage}) as span:

        def told(decision: Decision) -> Decision:
            if span is not None:
                span.set_attributes(_attributes(decision))
                if decision.failed:
                    span.set_attribute("error.type", _failure(decision))
                    _failed(span)
            if made.duration is not None:
                of = {"turnguard.stage": stage, "turnguard.action": decision.action}
                made.duration.record(time.perf_counter() - started, {**of, "turnguard.failed": decision.failed})
                _count(made, decision)
            return decision

        yield told


@contextmanager
def request(model: str, base_url: str) -> Iterator[Callable[[Verdict], None]]:
    """A GenAI client span around one request to a moderator. Only while `listening()`."""
    made = _instruments
    assert made is not None  # noqa: S101 - the caller asked
    place = urlsplit(base_url)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": model,
    }
    if place.hostname:  # host and port alone: a URL may hold a credential
        attributes["server.address"] = place.hostname
        attributes["server.port"] = place.port or (443 if place.scheme == "https" else 80)
    started = time.perf_counter()
    error: dict[str, str] = {}
    with _span(made.tracer, f"chat {model}", "CLIENT", attributes) as span:

        def told(verdict: Verdict) -> None:
            if span is not None and verdict.model:
                span.set_attribute("gen_ai.response.model", verdict.model[:120])

        try:
            yield told
        except BaseException as failure:
            error["error.type"] = failure.failure if isinstance(failure, ModeratorError) else type(failure).__name__
            if span is not None:
                span.set_attribute("error.type", error["error.type"])
                _failed(span)
            raise
        finally:
            if made.duration is not None:
                made.request.record(time.perf_counter() - started, {**attributes, **error})


def log_decision(decision: Decision) -> None:
    """One line for what was withheld, flagged or failed. A failure is told apart from a block by policy."""
    if decision.action == "allow" and not decision.outcome.failed:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: allow (decision %s)", decision.stage, decision.id)
    elif decision.failed:
        level = _failure_level()
        if log.isEnabledFor(level):
            cause = next((reason.cause for reason in decision.outcome.decisive if reason.failure), None)
            what = (decision.stage, decision.action, _failure(decision), cause, decision.id)
            log.log(level, "%s: %s, because the moderator failed: %s (%s) (decision %s)", *what)
    elif log.isEnabledFor(logging.INFO):
        names = ", ".join(decision.categories) or decision.reasons[0].kind
        log.info("%s: %s (%s) (decision %s)", decision.stage, decision.action, names, decision.id)


_next_warning = 0.0


def _failure_level() -> int:
    """An outage under load is thousands of failures: one a second is a warning, the others are for debugging."""
    global _next_warning  # noqa: PLW0603 - of the process, like the log
    now = time.monotonic()
    if now < _next_warning:
        return logging.DEBUG
    _next_warning = now + WARNING_SECONDS
    return logging.WARNING


@contextmanager
def _span(tracer: Tracer | None, name: str, kind: str, attributes: dict[str, Any]) -> Iterator[Any]:
    if tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind

    # an exception's text is not recorded: whoever wrote it may have quoted the request
    with tracer.start_as_current_span(
        name, kind=SpanKind[kind], attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def _failed(span: Any) -> None:
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR)


def _failure(decision: Decision) -> str:
    failures = (reason.failure for reason in decision.outcome.decisive if reason.failure)
    return next(failures, "unparseable")


def _attributes(decision: Decision) -> dict[str, Any]:
    verdict = decision.verdict
    found: dict[str, Any] = {
        "turnguard.action": decision.action,
        "turnguard.failed": decision.failed,
        "turnguard.remembered": decision.remembered,
        "turnguard.categories": decision.categories,
        "turnguard.rules": tuple(dict.fromkeys(_rule(reason.rule) for reason in decision.reasons)),
        "turnguard.requests": len(decision.judgements),
        "turnguard.not_judged": sum(entry.counts for entry in decision.coverage.not_judged),
        "turnguard.policy": decision.policy_digest,
        "turnguard.decision": decision.id,
    }
    if verdict.p_unsafe is not None:
        found["turnguard.p_unsafe"] = verdict.p_unsafe
    return found


def _rule(path: str) -> str:
    return path[:200]


def _count(made: _Instruments, decision: Decision) -> None:
    for judgement in decision.judgements:
        verdict = judgement.verdict
        stage = {"turnguard.stage": decision.stage}
        if verdict.failure is not None:
            made.failures.add(1, {**stage, "error.type": verdict.failure, "turnguard.action": decision.action})
            continue
        label = verdict.label(judgement.decides) or "none"
        named = map(on_record, (*verdict.categories, *verdict.unknown_categories))
        names = tuple(dict.fromkeys(named)) if label == "unsafe" else ()
        for name in names or ("none",):
            made.verdicts.add(1, {**stage, "turnguard.label": label, "turnguard.category": name})
        if verdict.remembered:
            made.hits.add(1, stage)
