"""An OpenTelemetry SDK for one test alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from turnguard import telemetry


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Every span, once it has ended."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    telemetry.reset()
    yield exporter
    telemetry.reset()
    tracers.shutdown()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """What Prometheus would scrape."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    telemetry.reset()
    yield registry
    telemetry.reset()
    meters.shutdown()
