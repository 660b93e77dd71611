"""The exposition for Prometheus, from the OpenTelemetry instruments of every worker.

A scrape reaches one worker. So each writes its own exposition to a shared folder, now and then and when it is asked,
and whoever is asked gives all of them, told apart by the label `worker`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from opentelemetry import metrics as api
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = 5.0
"""How often a worker writes its own."""


def set_up() -> None:
    """Record into Prometheus' registry, unless the application has an SDK of its own: then that one is scraped."""
    if isinstance(api.get_meter_provider(), MeterProvider):
        return
    api.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()]))


def exposition(folder: Path | None) -> bytes:
    """What a scrape gets. `folder` is the workers', None where there is one worker."""
    if folder is None:
        return generate_latest(REGISTRY)
    write(folder)
    return generate_latest(_Workers(folder))


def write(folder: Path) -> None:
    """Write this worker's exposition for the others."""
    mine = folder / f"{os.getpid()}.prom"
    new = mine.with_suffix(f".{threading.get_ident()}")  # a scrape and the clock may come at once
    new.write_bytes(generate_latest(REGISTRY))
    new.replace(mine)  # a reader sees the old one or the new one, never half of it


class _Workers(CollectorRegistry):
    """The metric families of all workers as one Prometheus registry."""

    def __init__(self, folder: Path) -> None:
        super().__init__(auto_describe=False)
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in _living(self._folder):
            for family in text_string_to_metric_families(text):
                into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    into.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
        yield from families.values()


def _living(folder: Path) -> Iterable[tuple[str, str]]:
    """Each worker's exposition; what a dead one left is removed."""
    for file in sorted(folder.glob("*.prom")):
        try:
            os.kill(int(file.stem), 0)
        except (ProcessLookupError, ValueError):
            file.unlink(missing_ok=True)
            continue
        except PermissionError:
            pass
        try:
            yield file.stem, file.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
