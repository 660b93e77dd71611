"""The dashboard and the alert rules ask for metrics, labels and values that are really exported."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from turnguard import Guard, Step, telemetry
from turnguard.core.decision import Decision
from turnguard.telemetry import spans
from turnguard.testing import FakeVLLM, faults

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OF_THE_SCRAPE = {"instance", "job"}
"""Labels that Prometheus itself adds."""

_SERIES = re.compile(r"\b((?:turnguard|gen_ai)_[a-z_]+[a-z])(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!=|=)\s*\"([^\"]*)\"")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def expressions() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard and of the alert rules, under its title."""
    for panel in json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in YAML(typ="safe").load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


async def happen() -> None:
    """Whatever is counted."""
    policy: dict[str, Any] = {"categories": {"Violence": "review", "Profanity": "flag"}}
    with FakeVLLM() as server:
        for word, category in (("bomb", "Malware"), ("punch", "Violence"), ("curse", "Profanity")):
            server.when(word, categories=[category])
        async with Guard.from_dict({"moderator": {"base_url": server.base_url}, "policy": policy}) as guard:
            for text in ("hello", "hello", "a bomb", "a punch", "a curse"):
                decision = await guard.acheck(Step.input(text, language="en"))
            server.fail(faults.content("prose"))
            await guard.acheck(Step.input("else", language="en"))
            server.fail(faults.status(500))
            await guard.acheck(Step.output("else", prompt="what", language="en"))
    shadowed(decision)
    for event in ("held", "not_held", "approved", "rejected", "expired"):
        telemetry.reviewed(event, "input")
    telemetry.lost()


def shadowed(decision: Decision) -> None:
    """A decision beside that of a shadow policy."""
    names = ("stage", "action", "failed", "policy_digest", "reasons", "judgements", "coverage")
    fields = {name: getattr(decision, name) for name in names}
    beside = SimpleNamespace(**fields, shadow=SimpleNamespace(action="block"))
    spans._count(telemetry.instruments.made(), beside)  # type: ignore[arg-type]


@pytest.fixture
async def series(exported: CollectorRegistry) -> dict[str, dict[str, set[str]]]:
    """The exported series: name → label → its values."""
    await happen()
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for metric in exported.collect():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                found[sample.name][label].add(value)
    return found


async def test_every_query_asks_for_what_is_exported(series: dict[str, dict[str, set[str]]]) -> None:
    asked = list(expressions())
    assert len(asked) > 20
    for title, expression in asked:
        names = _SERIES.findall(_GROUPED.sub("", expression))
        metrics = [name for name, _ in names]
        assert metrics, f"{title}: {expression!r} asks for nothing of ours"
        for name in metrics:
            assert name in series, f"{title}: {name} is not exported; there are {sorted(series)}"
        labels = {label for name in metrics for label in series[name]}
        matchers = [(name, *matcher) for name, inside in names for matcher in _MATCHER.findall(inside)]
        for name, label, operator, value in matchers:
            assert label in series[name], f"{title}: {name} has no label {label}"
            if operator != "!=":
                wanted = value.split("|") if operator == "=~" else [value]
                assert set(wanted) <= series[name][label], f"{title}: {label} is never {wanted}"
        for grouped in _GROUPED.findall(expression):
            for label in grouped.split(","):
                assert label.strip() in labels | OF_THE_SCRAPE, f"{title}: no series has the label {label}"


async def test_every_metric_of_ours_stands_in_the_dashboard(series: dict[str, dict[str, set[str]]]) -> None:
    text = (DEPLOY / "grafana.json").read_text(encoding="utf-8")
    ours = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in series if name.startswith("turnguard")}
    assert len(ours) >= 11
    assert not [name for name in sorted(ours) if name not in text]


def test_legends_and_summaries_name_labels_that_their_query_keeps() -> None:
    for panel in json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            kept = ",".join(_GROUPED.findall(target["expr"]))
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in kept, f"{panel['title']}: {label}"
