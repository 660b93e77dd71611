"""A run's figures, gathered into one JSON-ready mapping that the page and the Markdown are made of."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from turnguard._version import __version__
from turnguard.evaluation.examples import Example
from turnguard.evaluation.measuring import figures, unjudged
from turnguard.evaluation.results import Result

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.evaluation.benchmarks import Benchmark
    from turnguard.evaluation.evaluating import Evaluated

MISTAKES = 12
"""Missed and falsely called rows that a report shows of each kind, the surest mistakes first."""
SHOWN_TEXT = 700
THUMBNAIL = 360


@dataclass(frozen=True, slots=True)
class Section:
    """One judged set on its way into the report."""

    name: str
    benchmark: Benchmark | None
    examples: Callable[[], Iterable[Example]]
    evaluated: Evaluated


@dataclass(slots=True)
class Report:
    """What a run found. `data` is the report as JSON, `mistakes` every mistaken row of all sets."""

    data: dict[str, Any] = field(default_factory=dict)
    mistakes: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Config, absent: list[str], answered_by: list[str], concurrency: int) -> Report:
        """Return an empty report on this configuration."""
        moderator = settings.moderator
        return cls(
            {
                "kind": "evaluation",
                "turnguard": __version__,
                "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "moderator": {"model": moderator.model, "family": moderator.family, "categories": moderator.categories},
                "answered_by": answered_by,
                "policy": settings.policy.digest,
                "concurrency": concurrency,
                "deadline": moderator.deadline,
                "unjudged": unjudged([]),
                "absent": absent,
                "sections": [],
            }
        )

    @property
    def unjudged(self) -> dict[str, Any]:
        """The rows of all sections that are in no rate."""
        parts = [section["unjudged"] for section in self.data["sections"]]
        why: Counter[str] = Counter()
        for part in parts:
            why.update(part["why"])
        rows, of = sum(part["rows"] for part in parts), sum(part["of"] for part in parts)
        return {"rows": rows, "of": of, "share": rows / of if of else 0.0, "why": dict(why)}

    def add(self, section: Section, *, content: bool) -> None:
        """Measure a set and add it."""
        results = section.evaluated.results
        benchmark = section.benchmark
        self.data["sections"].append(
            {
                "name": section.name,
                "title": benchmark.title if benchmark else section.name,
                "licence": benchmark.licence if benchmark else None,
                "home": benchmark.home if benchmark else None,
                "rule": benchmark.rule if benchmark else "the labels in your data",
                "size": benchmark.size if benchmark else "",
                "sensitive": benchmark.sensitive if benchmark else True,
                **figures(results, benchmark.name if benchmark else None),
                "mistakes": mistakes(results, section.examples) if content else [],
            }
        )
        self.mistakes += all_mistakes(section.name, results, section.examples, content=content)
        self.data["unjudged"] = self.unjudged


def mistakes(results: list[Result], examples: Callable[[], Iterable[Example]]) -> list[dict[str, Any]]:
    """The surest mistakes of both kinds, with what was judged."""
    missed = [result for result in results if result.label == "unsafe" and result.called == "safe"]
    false = [result for result in results if result.label == "safe" and result.called == "unsafe"]
    missed.sort(key=lambda result: (result.p if result.p is not None else 0.0, result.row))
    false.sort(key=lambda result: (-(result.p if result.p is not None else 1.0), result.row))
    wanted = {result.row: result for result in (*missed[:MISTAKES], *false[:MISTAKES])}
    if not wanted:
        return []
    found = {row: example for row, example in enumerate(examples(), 1) if row in wanted}
    return [_mistake(result, found[row]) for row, result in wanted.items() if row in found]


def all_mistakes(
    name: str, results: list[Result], examples: Callable[[], Iterable[Example]], *, content: bool
) -> list[dict[str, Any]]:
    """Every row that was called wrongly, in order; with its whole text where `content` asks for it."""
    wrong = {result.row: result for result in results if result.called not in (None, result.label)}
    found = {row: example for row, example in enumerate(examples(), 1) if content and row in wrong}
    return [
        {
            "set": name,
            "id": result.id,
            "kind": "missed" if result.label == "unsafe" else "false alarm",
            "stage": result.stage,
            "action": result.action,
            "p": result.p,
            "named": list(result.named),
            "categories": list(result.categories),
            "language": result.language,
            **({"prompt": found[row].prompt, "text": found[row].text} if row in found else {}),
        }
        for row, result in wrong.items()
    ]


def _mistake(result: Result, example: Example) -> dict[str, Any]:
    return {
        "id": result.id,
        "kind": "missed" if result.label == "unsafe" else "false alarm",
        "stage": result.stage,
        "p": result.p,
        "named": list(result.named),
        "categories": list(result.categories),
        "language": result.language,
        "prompt": cut(example.prompt),
        "text": cut(example.text),
        "images": [picture for source in example.images[:2] if (picture := thumbnail(source))],
    }


def cut(text: str | None) -> str:
    """The beginning of a text, as a report shows it."""
    text = text or ""
    return text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT] + " …"


def thumbnail(source: Any) -> str | None:
    """A small JPEG as a data: URI, or None for what cannot be drawn."""
    from PIL import Image as Pillow

    try:
        if isinstance(source, (bytes, PathLike)):
            with Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                small = picture.convert("RGB")
        elif hasattr(source, "convert"):
            small = source.convert("RGB")
        else:
            return None
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=72)
    except Exception:  # noqa: BLE001 - decoders raise anything, and a report must not fail on one picture
        return None
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
