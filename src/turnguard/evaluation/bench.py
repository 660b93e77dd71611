"""Measure how long checks take: mean, median, p95, P99 and rate, by stage and concurrency.

Mean, median and P99 are the three figures of the launch article ("half the latency ... across mean, median, and P99").
Cold steps are all different, so each one reaches the moderator; warm ones are repeats, answered from memory.
"""

from __future__ import annotations

import asyncio
import io
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.step import STAGES, Stage, Step

if TYPE_CHECKING:
    from turnguard.guard import Guard

WORDS = 24
"""Words of a synthetic text: about the length of the prompts in public moderation sets."""
PICTURE = (896, 672)
"""Pixels of a synthetic picture: one view, no tiles."""

_VOCABULARY = (
    *("the a an of to in and for on with at from by about please tell show find write read open send".split()),  # noqa: SIM905
    *("report table picture garden river winter music bread cheese train ticket letter window morning".split()),  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Case:
    """What one row measures."""

    stage: Stage
    in_flight: int
    images: bool = False
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row: seconds of every check that got a verdict, how many failed, and how many of those had no answer."""

    case: Case
    seconds: tuple[float, ...] = field(repr=False)
    failed: int
    elapsed: float
    causes: tuple[str, ...] = ()
    unanswered: int = 0

    @property
    def silent(self) -> bool:
        """Whether the moderator answered no check at all."""
        return not self.seconds and self.failed == self.unanswered > 0

    @property
    def rate(self) -> float:
        """Checks a second that got a verdict."""
        return len(self.seconds) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def mean(self) -> float | None:
        """Mean latency in seconds, or None if no check got a verdict."""
        return statistics.fmean(self.seconds) if self.seconds else None

    def percentile(self, percent: float) -> float | None:
        """Latency percentile in seconds, by nearest rank: always a measured value, never an interpolated one."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 100) // 10_000) - 1))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in milliseconds."""
        ms = {name: _ms(value) for name, value in self.figures().items()}
        return {
            **asdict(self.case),
            "checks": len(self.seconds),
            "failed": self.failed,
            **ms,
            "rate": round(self.rate, 1),
        }

    def figures(self) -> dict[str, float | None]:
        """The figures of a row in seconds, under the names that the launch article uses."""
        median = statistics.median(self.seconds) if self.seconds else None
        return {"mean": self.mean, "median": median, "p95": self.percentile(95), "P99": self.percentile(99)}


def cases(
    stages: Sequence[Stage] = STAGES,
    concurrency: Sequence[int] = (1, 4, 16, 64),
    images: bool = True,
    warm: bool = True,
) -> list[Case]:
    """Every stage at each concurrency; inputs with a picture too; and one warm row per concurrency."""
    rows = [Case(stage, in_flight) for stage in stages for in_flight in concurrency]
    if images:
        rows += [
            Case(stage, in_flight, images=True) for stage in stages if stage == "input" for in_flight in concurrency
        ]
    if warm:
        rows += [Case(stages[0], in_flight, warm=True) for in_flight in concurrency]
    return rows


async def measure(
    guard: Guard, case: Case, checks: int, *, seed: int = 0, done: Callable[[], None] = lambda: None
) -> Measurement:
    """Run `checks` checks of one case, `case.in_flight` at once. `done` is called after each."""
    steps = list(_steps(case, checks, seed))
    if case.warm:
        await guard.acheck(steps[0], hold=False)
    remaining = iter(steps)
    seconds: list[float] = []
    causes: dict[str, None] = {}
    failed = unanswered = 0

    async def worker() -> None:
        nonlocal failed, unanswered
        for step in remaining:
            began = time.perf_counter()
            decision = await guard.acheck(step, hold=False)
            if decision.verdict.failure is None:
                seconds.append(time.perf_counter() - began)
            else:
                failed += 1
                unanswered += decision.verdict.failure in ("unavailable", "timeout")
                causes[decision.verdict.cause or decision.verdict.failure] = None
            done()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(case.in_flight)))
    return Measurement(case, tuple(seconds), failed, time.perf_counter() - began, tuple(causes), unanswered)


def _steps(case: Case, checks: int, seed: int) -> Iterator[Step]:
    chance = random.Random(f"{seed}/{case}")  # noqa: S311 - synthetic texts, the same in every run of one seed
    first: Step | None = None
    for number in range(checks):
        if case.warm and first is not None:
            yield first
            continue
        text = f"{' '.join(chance.choices(_VOCABULARY, k=WORDS))} {seed}-{number}"
        pictures = [_picture(chance)] if case.images else []
        first = _step(case.stage, text, pictures)
        yield first


def _step(stage: Stage, text: str, pictures: list[bytes]) -> Step:
    if stage == "input":
        return Step.input(text, images=pictures, language="en")
    if stage == "retrieval":
        return Step.retrieval([text], prompt="what is it about?", language="en")
    if stage == "tool_call":
        return Step.tool_call("search", {"query": text}, prompt="look it up", language="en")
    if stage == "tool_result":
        return Step.tool_result("search", text, images=pictures, prompt="look it up", language="en")
    if stage == "tools":
        return Step.tools([{"name": "search", "description": text}], language="en")
    return Step.output(text, prompt="what is it about?", language="en")


def _picture(chance: random.Random) -> bytes:
    """A picture that no other check has: coloured panels, as a screenshot has them."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", PICTURE, (chance.randrange(256), chance.randrange(256), 230))
    draw = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y = chance.randrange(PICTURE[0]), chance.randrange(PICTURE[1])
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle((x, y, x + chance.randrange(20, 300), y + chance.randrange(10, 120)), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def plot(measurements: Sequence[Measurement]) -> str:
    """A self-contained SVG: median to P99 of each row as a bar, on a logarithmic scale of milliseconds."""
    from html import escape
    from math import log10

    rows = [m for m in measurements if m.seconds]
    values = [value * 1000 for m in rows for value in (m.figures()["median"], m.figures()["P99"]) if value]
    low, high = log10(min(values, default=0.1)) - 0.1, log10(max(values, default=1.0)) + 0.1
    left, width, height = 250, 520, 22

    def x(ms: float) -> float:
        return left + (log10(max(ms, 1e-6)) - low) / max(high - low, 1e-9) * width

    parts = []
    for index, m in enumerate(rows):
        y = 40 + index * height
        median, p99 = ((m.figures()[name] or 0.0) * 1000 for name in ("median", "P99"))
        parts.append(f'<text x="{left - 10}" y="{y + 12}" text-anchor="end">{escape(label(m.case))}</text>')
        parts.append(
            f'<rect x="{x(median):.1f}" y="{y + 3}" width="{max(2.0, x(p99) - x(median)):.1f}" height="11" rx="2"/>'
        )
        parts.append(f'<text x="{x(p99) + 6:.1f}" y="{y + 12}">{median:.2f} to {p99:.2f} ms</text>')
    ticks = "".join(
        f'<line x1="{x(10.0**power):.1f}" x2="{x(10.0**power):.1f}" y1="30" y2="{40 + len(rows) * height}"/>'
        f'<text class="t" x="{x(10.0**power):.1f}" y="24" text-anchor="middle">{10.0**power:g} ms</text>'
        for power in range(-3, 6)
        if low <= power <= high
    )
    total = 60 + len(rows) * height
    style = "text{font:12px system-ui,sans-serif;fill:#333}rect{fill:#4472a8}line{stroke:#ddd}.t{fill:#777}"
    body = f'{ticks}{"".join(parts)}<text x="10" y="24">median to P99</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 190} {total}" role="img">'
        f'<style>{style}</style><rect width="100%" height="100%" style="fill:#fff"/>{body}</svg>\n'
    )


def label(case: Case) -> str:
    """A row's name in plain words."""
    kind = "from memory" if case.warm else "with picture" if case.images else "text"
    return f"{case.stage}, {kind}, {case.in_flight} in flight"
