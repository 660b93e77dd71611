"""Spans and measures around checks and requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnguard.core.errors import ModeratorError
from turnguard.core.taxonomy import on_record
from turnguard.telemetry import guardrails
from turnguard.telemetry.instruments import Instruments, made
from turnguard.telemetry.logs import failure_of

if TYPE_CHECKING:
    from turnguard.core.decision import Decision
    from turnguard.core.step import Stage
    from turnguard.core.verdict import Verdict

LONGEST_RULE = 200


@contextmanager
def check(stage: Stage, metadata: Mapping[str, str] = {}) -> Iterator[Callable[[Decision], None]]:
    """A span and measures around one check; call what it gives with the decision. Only while `listening()`.

    `metadata` is what the settings ask for of the step's metadata; it stands in the span alone.
    """
    instruments = made()
    started = time.perf_counter()
    about = {"turnguard.stage": stage, **guardrails.KIND, **guardrails.owner(metadata)}
    with _span(f"turnguard.check {stage}", "INTERNAL", about) as span:

        def told(decision: Decision) -> None:
            span.set_attributes(_attributes(decision))
            if decision.failed:
                _failed(span, failure_of(decision))
            of = {"turnguard.stage": stage, "turnguard.action": decision.action, "turnguard.failed": decision.failed}
            instruments.check.record(time.perf_counter() - started, of)
            _count(instruments, decision)

        yield told


@contextmanager
def request(model: str, base_url: str) -> Iterator[Callable[[Verdict], None]]:
    """A GenAI client span around one request to a moderator. Only while `listening()`."""
    instruments = made()
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
    with _span(f"chat {model}", "CLIENT", attributes) as span:

        def told(verdict: Verdict) -> None:
            if verdict.model:
                span.set_attribute("gen_ai.response.model", verdict.model[:120])

        try:
            yield told
        except BaseException as failure:
            error["error.type"] = failure.failure if isinstance(failure, ModeratorError) else type(failure).__name__
            _failed(span, error["error.type"])
            raise
        finally:
            instruments.request.record(time.perf_counter() - started, {**attributes, **error})


def shared_memory(result: str, times: int) -> None:
    """Count what became of look-ups in the shared memory, or of verdicts on their way there. Only while
    `listening()`.
    """
    made().shared.add(times, {"turnguard.result": result})


@contextmanager
def _span(name: str, kind: str, attributes: dict[str, Any]) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind

    # an exception's text is not recorded: whoever wrote it may have quoted the request
    with made().tracer.start_as_current_span(
        name, kind=SpanKind[kind], attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def _failed(span: Any, kind: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _attributes(decision: Decision) -> dict[str, Any]:
    verdict = decision.verdict
    rules = tuple(dict.fromkeys(reason.rule[:LONGEST_RULE] for reason in decision.reasons))
    found: dict[str, Any] = {
        **guardrails.shown(decision, rules),
        "turnguard.action": decision.action,
        "turnguard.failed": decision.failed,
        "turnguard.remembered": decision.remembered,
        "turnguard.categories": decision.categories,
        "turnguard.rules": rules,
        "turnguard.requests": len(decision.judgements),
        "turnguard.not_judged": sum(entry.counts for entry in decision.coverage.not_judged),
        "turnguard.policy": decision.policy_digest,
        "turnguard.decision": decision.id,
    }
    if verdict.p_unsafe is not None:
        found["turnguard.p_unsafe"] = verdict.p_unsafe
    return found


def _count(instruments: Instruments, decision: Decision) -> None:
    stage = {"turnguard.stage": decision.stage}
    policy = {**stage, "turnguard.policy": decision.policy_digest}
    taken = {"turnguard.action": decision.action, "turnguard.failed": decision.failed}
    instruments.decisions.add(1, {**policy, **taken})
    for rule, action in dict.fromkeys((reason.rule[:LONGEST_RULE], reason.action) for reason in decision.reasons):
        instruments.rules.add(1, {**policy, "turnguard.rule": rule, "turnguard.action": action})
    if (shadow := decision.shadow) is not None:
        both = {"turnguard.action": decision.action, "turnguard.shadow.action": shadow.action}
        instruments.shadow.add(1, {**stage, **both})
    for judgement in decision.judgements:
        verdict = judgement.verdict
        if (looks := verdict.looks) is not None:
            said = {
                "turnguard.first": looks.first.label(judgement.decides) or "none",
                "turnguard.second": looks.second.failure or looks.second.label(judgement.decides) or "none",
                "turnguard.decides": looks.decides,
            }
            instruments.second_looks.add(1, {**stage, **said})
        if verdict.failure is not None:
            instruments.failures.add(1, {**stage, "error.type": verdict.failure, "turnguard.action": decision.action})
            continue
        label = verdict.label(judgement.decides) or "none"
        named = map(on_record, (*verdict.categories, *verdict.unknown_categories))
        names = tuple(dict.fromkeys(named)) if label == "unsafe" else ()
        for name in names or ("none",):
            instruments.verdicts.add(1, {**stage, "turnguard.label": label, "turnguard.category": name})
        if verdict.remembered:
            instruments.hits.add(1, stage)
