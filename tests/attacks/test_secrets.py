"""Secrets are planted wherever content or a credential can stand, and looked for in everything that comes out."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import PngImagePlugin

from tests.attacks.kit import picture
from tests.faults.surfaces import CELLS, Surface
from tests.media.pdfs import pdf, words
from turnguard import Blocked, ConfigError, Document, Guard, ModeratorError, Step, Text, telemetry
from turnguard.testing import FakeVLLM, faults

SECRET = "s3cr3t"
"""In every planted value; nothing of ours holds it."""
KEY = f"sk-{SECRET}-key"


def meta() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", f"{SECRET}-metadata")
    return info


def steps() -> list[Step]:
    document = Document(pdf(words(f"{SECRET} page")), "application/pdf", f"{SECRET}-name.pdf")
    return [
        Step.input(f"{SECRET} text", images=[picture(pnginfo=meta())]),
        Step("input", (Text("read"), document)),
        Step.input("look", images=[f"https://user:{SECRET}@cdn.example.com/a.png"]),
        Step.input("look", images=[f"https://cdn.example.com/{SECRET}.png?token={SECRET}"]),
        Step.input("look", images=[b"no picture " + SECRET.encode()]),
        Step.retrieval([f"{SECRET} chunk"]),
        Step.tool_call(f"{SECRET}_tool", {f"{SECRET}_key": f"{SECRET} value"}, prompt=f"{SECRET} prompt"),
        Step.tool_result(f"{SECRET}_tool", f"{SECRET} result bomb"),
        Step.output(f"{SECRET} answer bomb", prompt=f"{SECRET} prompt"),
    ]


REPLIES = [
    None,
    faults.crash(),
    faults.hang(),
    faults.reset(),
    faults.content(f"{SECRET} prose"),
    faults.content(f"User Safety: {SECRET}"),
    faults.content(f"User Safety: unsafe\nSafety Categories: {SECRET}"),
    faults.status(400, {"error": {"message": f"cannot read {SECRET}", "code": 400}}),
    faults.status(422, {"detail": SECRET}),
    faults.status(500, SECRET),
    faults.html(502),
]


class Everything(logging.Handler):
    """Keeps every record of every logger, with its traceback, as a log file would."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.text = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        self.text.write(self.format(record) + "\n")


@pytest.fixture
def logs() -> Iterator[Everything]:
    handler, root = Everything(), logging.getLogger()
    names = ("turnguard", "aiohttp", "openai", "httpx", "httpcore", "asyncio", "PIL")
    levels = {name: logging.getLogger(name).level for name in ("", *names)}
    root.addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """An SDK that records everything, for this test alone."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    telemetry.reset()
    yield spans, reader
    telemetry.reset()
    tracers.shutdown()
    meters.shutdown()


@pytest.mark.parametrize("client", ["aiohttp", "openai"])
async def test_nothing_that_comes_out_holds_a_secret(
    client: str,
    logs: Everything,
    observed: tuple[InMemorySpanExporter, InMemoryMetricReader],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "audit.jsonl"
    asyncio.get_running_loop().set_debug(True)
    said: list[str] = []
    with FakeVLLM(api_key=KEY) as fake, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fake.when("bomb", user="unsafe", response="unsafe", categories=["Violence"])
        settings = {
            "moderator": {"base_url": fake.base_url, "api_key": KEY, "deadline": 0.3},
            "media": {"deadline": 5.0, "allow_urls": ["https://cdn.example.com/"]},
            "audit": {"path": str(path), "key": f"{SECRET}-audit"},
        }
        own = openai.AsyncOpenAI(base_url=fake.base_url, api_key=KEY) if client == "openai" else None
        guard = Guard.from_dict(settings, client=own)
        for fault in REPLIES:
            fake.heal()
            if fault is not None:
                fake.fail(fault)
            for step in steps() if fault is None else steps()[5:8]:
                decision = await guard.acheck(step)
                said += [repr(decision), decision.summary(), json.dumps(decision.to_dict()), repr(step)]
                said.append("".join(traceback.format_exception(Blocked(decision))))
            try:
                await guard.moderator.judge(_exchange(), _soon())
            except ModeratorError as error:
                said.append("".join(traceback.format_exception(error)))
            said.append("".join([chunk async for chunk in guard.astream(_words(), prompt=f"{SECRET} p")]) and "")
        said += [repr(guard), repr(guard.moderator_settings), repr(guard.moderator), str(guard.moderator_settings)]
        await guard.aclose()
        if own is not None:
            await own.close()
    out, err = capfd.readouterr()
    spans, reader = observed
    measured = reader.get_metrics_data()
    everything = {
        "logs": logs.text.getvalue(),
        "audit": path.read_text(encoding="utf-8"),
        "stdout": out,
        "stderr": err,
        "spans": "\n".join(span.to_json() for span in spans.get_finished_spans()),
        "metrics": measured.to_json() if measured else "",
        "warnings": "\n".join(str(warning.message) for warning in warned),
        "said": "\n".join(said),
    }
    for what in ("logs", "audit", "spans", "metrics", "said"):
        assert len(everything[what]) > 500, what  # each was really on
    leaks = {what: text[max(0, text.find(SECRET) - 300) :][:400] for what, text in everything.items() if SECRET in text}
    assert not leaks


def _exchange() -> Any:
    from turnguard.core.exchange import Exchange

    return Exchange(f"{SECRET} judged {id(object())}")


def _soon() -> Any:
    from turnguard.moderators.base import Deadline

    return Deadline.after(0.3)


async def _words() -> AsyncIterator[str]:
    for word in (f"{SECRET} streamed ", "bomb"):
        yield word


OURS = ("turnguard", "aiohttp", "asyncio", "openai", "httpx", "httpcore", "PIL")
"""The loggers that we write to, or whose libraries we hand content to; a framework logs what it likes of its own turn."""


@pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
@pytest.mark.parametrize(
    ("surface", "stage"),
    [
        pytest.param(surface, stage, id=f"{surface.name}-{stage}", marks=marks)
        for surface, stage in CELLS
        for marks in [[pytest.mark.exhaustive] if stage != surface.stages[-1] else []]
    ],
)
async def test_no_surface_adds_a_leak_of_its_own(
    surface: Surface,
    stage: str,
    observed: tuple[InMemorySpanExporter, InMemoryMetricReader],
    tmp_path: Path,
) -> None:
    handler = Everything()
    handler.addFilter(lambda record: record.name.split(".")[0] in OURS)
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *OURS)}
    root.addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    path = tmp_path / "audit.jsonl"
    try:
        with FakeVLLM(api_key=KEY) as fake:
            settings = {
                "moderator": {"base_url": fake.base_url, "api_key": KEY, "deadline": 1.0},
                "stream": {"window": 40, "max_delay": "50ms"},
                "audit": {"path": str(path), "key": f"{SECRET}-audit"},
            }
            async with Guard.from_dict(settings) as guard:
                for number, fault in enumerate((None, faults.content(f"{SECRET} prose"), faults.reset())):
                    fake.reset()
                    fake.when("bomb", user="unsafe", response="unsafe", categories=["Violence"])
                    if fault is not None:
                        fake.fail(fault)
                    shown = await surface.build(guard, stage, f"{number} {SECRET} and a bomb in it")()
                    assert SECRET not in shown  # it was withheld
    finally:
        root.removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    spans, reader = observed
    measured = reader.get_metrics_data()
    assert measured is not None
    everything = {
        "logs": handler.text.getvalue(),
        "audit": path.read_text(encoding="utf-8"),
        "spans": "\n".join(span.to_json() for span in spans.get_finished_spans()),
        "metrics": measured.to_json(),
    }
    for what, text in everything.items():
        assert len(text) > 300, what
        assert SECRET not in text, f"{what}: {text[max(0, text.find(SECRET) - 200) :][:400]}"


@pytest.mark.parametrize(
    "settings",
    [
        {"moderator": {"base_url": f"http://u:{SECRET}@h/v1"}},
        {"moderator": {"base_url": "http://h/v1", "api_key": f"{SECRET}\nx"}},
        {"moderator": {"base_url": "http://h/v1", "deadline": SECRET}},
        {"moderator": {"base_url": "http://h/v1", "max_in_flight": [SECRET]}},
        {"audit": {"key": [SECRET]}},
    ],
)
def test_a_mistake_in_the_settings_does_not_show_the_value(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard.from_dict(settings)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# ---------------------------------------------------------------- telemetry


async def test_spans_and_metrics_say_what_happened(
    observed: tuple[InMemorySpanExporter, InMemoryMetricReader],
) -> None:
    spans, reader = observed
    with FakeVLLM() as fake:
        fake.when("bomb", user="unsafe", categories=["Violence"])
        async with Guard.from_dict({"moderator": {"base_url": fake.base_url}}) as guard:
            await guard.acheck(Step.input("a bomb"))
            await guard.acheck(Step.input("a bomb"))
            fake.fail(faults.content("prose"))
            await guard.acheck(Step.input("else"))
            data = reader.get_metrics_data()
    finished = {span.name: span for span in spans.get_finished_spans()}
    assert set(finished) == {"turnguard.check input", "chat nemotron_moderator"}
    assert all(span.parent is not None for span in spans.get_finished_spans() if span.name.startswith("chat"))
    blocked, again, failed = (s for s in spans.get_finished_spans() if s.name == "turnguard.check input")
    for span in (blocked, again, failed):
        assert span.attributes is not None
    assert blocked.attributes["turnguard.action"] == "block"  # type: ignore[index]
    assert blocked.attributes["turnguard.categories"] == ("Violence",)  # type: ignore[index]
    assert again.attributes["turnguard.remembered"] is True  # type: ignore[index]
    assert failed.attributes["error.type"] == "unparseable"  # type: ignore[index]
    assert not failed.status.is_ok
    points: dict[str, Any] = {
        metric.name: list(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert sum(point.value for point in points["turnguard.verdicts"]) == 2
    assert [point.value for point in points["turnguard.failures"]] == [1]
    assert [point.value for point in points["turnguard.memory.hits"]] == [1]
    assert sum(point.count for point in points["turnguard.check.duration"]) == 3
    assert sum(point.count for point in points["gen_ai.client.operation.duration"]) == 2
    assert {"turnguard.queue.in_flight", "turnguard.queue.waiting"} <= set(points)
    (verdict,) = (point.attributes for point in points["turnguard.verdicts"])
    assert verdict == {"turnguard.stage": "input", "turnguard.label": "unsafe", "turnguard.category": "Violence"}
    (failure,) = (point.attributes for point in points["turnguard.failures"])
    assert failure == {"turnguard.stage": "input", "error.type": "unparseable", "turnguard.action": "block"}
    actions = {point.attributes["turnguard.action"] for point in points["turnguard.check.duration"]}
    assert actions == {"block"}


async def test_without_an_sdk_nothing_is_recorded() -> None:
    telemetry.reset()
    assert not telemetry.listening()
    from turnguard.testing import FakeModerator

    async with Guard(moderator=FakeModerator()) as guard:
        assert (await guard.acheck(Step.input("x"))).allowed
    assert not telemetry.listening()
