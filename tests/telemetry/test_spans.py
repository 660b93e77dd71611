"""A check is a span that the tracing tools show as a guardrail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from turnguard import Guard, Policy, Step
from turnguard.config.settings import TelemetrySettings
from turnguard.core.errors import Timeout
from turnguard.testing import FakeModerator

METADATA = {"user": "anna", "thread": "t-1", "tenant": "acme"}


async def attributes(spans: InMemorySpanExporter, text: str, **options: Any) -> dict[str, Any]:
    moderator = FakeModerator(unsafe={"bomb": ["Violence"], "curse": ["Profanity"]})
    guard = Guard(Policy.from_dict({"categories": {"Profanity": "flag"}}), moderator, **options)
    await guard.acheck(Step.input(text, metadata=METADATA, language="en"))
    (span,) = spans.get_finished_spans()
    return dict(span.attributes or {})


@pytest.mark.parametrize(
    ("text", "action", "level"),
    [("hello", "allow", "DEFAULT"), ("a curse", "flag", "WARNING"), ("a bomb", "block", "WARNING")],
)
async def test_langfuse_and_phoenix_know_a_check_as_a_guardrail(
    text: str, action: str, level: str, spans: InMemorySpanExporter
) -> None:
    found = await attributes(spans, text)
    assert found["openinference.span.kind"] == "GUARDRAIL"
    assert found["langfuse.observation.type"] == "guardrail"
    assert found["langfuse.observation.level"] == level
    assert found["output.mime_type"] == "application/json"
    shown = json.loads(found["output.value"])
    assert shown["action"] == action
    assert set(shown) == {"action", "categories", "rules"}
    assert found["langfuse.observation.status_message"].startswith(action)


async def test_a_failure_has_the_level_of_an_error(spans: InMemorySpanExporter) -> None:
    moderator = FakeModerator()
    moderator.fail(Timeout("the server wrote this"))
    await Guard(moderator=moderator).acheck(Step.input("hello", language="en"))
    (span,) = spans.get_finished_spans()
    found = span.attributes or {}
    assert found["langfuse.observation.level"] == "ERROR"
    assert found["langfuse.observation.status_message"] == "block: the moderator failed"
    assert "server wrote" not in str(dict(found))


async def test_no_metadata_stands_in_a_span_unless_it_is_asked_for(spans: InMemorySpanExporter) -> None:
    found = await attributes(spans, "hello")
    assert not [value for value in map(str, found.values()) for hidden in METADATA.values() if hidden in value]


async def test_metadata_that_is_asked_for_stands_where_the_tools_look(spans: InMemorySpanExporter) -> None:
    found = await attributes(spans, "hello", telemetry=TelemetrySettings(metadata=("user", "thread")))
    assert (found["user.id"], found["session.id"]) == ("anna", "t-1")
    assert found["langfuse.observation.metadata.user"] == "anna"
    assert json.loads(found["metadata"]) == {"user": "anna", "thread": "t-1"}
    assert "acme" not in str(found)
