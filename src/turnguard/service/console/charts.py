"""Charts as SVG, drawn on the server. Colours are classes of the style sheet; numbers stand beside every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from turnguard.core.action import ACTIONS

WIDTH = 1000


def _svg(width: int, height: int, title: str, body: Sequence[Markup], kind: str = "") -> Markup:
    inside = Markup("").join(body)
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, title, inside
    )


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Markup:
    said = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}">{}</rect>').format(
        x, y, width, height, kind, said
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, text)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def stacked(buckets: Sequence[tuple[str, Mapping[str, int]]], title: str) -> Markup:
    """Bars over time, one per bucket, its actions on top of each other, the laxest at the bottom."""
    height, left, bottom = 210, 44, 24
    most = max((sum(counts.values()) for _, counts in buckets), default=0)
    top = _ceiling(most)
    plot = height - bottom - 8
    step = (WIDTH - left) / max(1, len(buckets))
    body: list[Markup] = []
    for share in (0.0, 0.5, 1.0):
        y = 8 + plot * (1 - share)
        body += [_line(left, y, WIDTH, y, "grid"), _text(left - 6, y + 4, _short(top * share), "end")]
    for index, (label, counts) in enumerate(buckets):
        x, y = left + index * step, 8.0 + plot
        said = ", ".join(f"{count:,} {action}" for action, count in counts.items() if count)
        for action in reversed(ACTIONS):
            if counts.get(action):
                tall = plot * counts[action] / top
                y -= tall
                body.append(_rect(x + 1, y, max(1.0, step - 2), tall, f"fill {action}", f"{label}: {said}"))
        if index % max(1, len(buckets) // 6) == 0:
            body.append(_text(x, height - 6, label))
    return _svg(WIDTH, height, title, body, "wide")


def probability(p: float | None, thresholds: Sequence[tuple[float, str]], action: str) -> Markup:
    """P(unsafe) on a scale from 0 to 1, and the thresholds that the rules compare it with."""
    width, left, right = 420, 14, 14
    span = width - left - right

    def at(value: float) -> float:
        return left + span * min(1.0, max(0.0, value))

    body = [_rect(left, 30, span, 8, "track")]
    body += [_text(at(value), 58, f"{value:g}", "middle") for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for value, label in thresholds:
        body += [_line(at(value), 22, at(value), 46, "threshold")]
        body += [_text(at(value), 74, f"{label} {value:g}", "end" if value > 0.6 else "start", "threshold-label")]
    said = "P(unsafe): none was given"
    if p is not None:
        body += [
            _rect(left, 30, max(1.0, at(p) - left), 8, f"fill {action}"),
            Markup('<circle cx="{:.1f}" cy="34" r="6" class="fill {}"/>').format(at(p), action),
            _text(at(p), 18, f"{p:.3f}", "end" if p > 0.85 else "start" if p < 0.15 else "middle", "value"),
        ]
        said = f"P(unsafe) is {p:.3f}"
    told = "; ".join([said, *(f"{label} {value:g}" for value, label in thresholds)])
    return _svg(width, 80, told, body)


def bars(values: Sequence[tuple[str, float]], unit: str, title: str) -> Markup:
    """A few numbers beside each other as horizontal bars."""
    most = max((value for _, value in values), default=0.0) or 1.0
    body: list[Markup] = []
    for index, (label, value) in enumerate(values):
        y = index * 26
        body += [
            _text(0, y + 15, label),
            _rect(48, y + 6, 220, 10, "track"),
            _rect(48, y + 6, max(1.0, 220 * value / most), 10, "fill neutral"),
            _text(276, y + 15, f"{value:,.1f} {unit}"),
        ]
    return _svg(360, max(26, len(values) * 26), title, body)


def _ceiling(value: float) -> float:
    """The next round number, for an axis."""
    if value <= 4:
        return 4.0
    scale = 10.0 ** (len(str(int(value))) - 1)
    return next(scale * step for step in (1, 2, 2.5, 5, 10) if scale * step >= value)


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def helpers() -> dict[str, Any]:
    """What the templates call."""
    return {"stacked": stacked, "probability": probability, "bars": bars}
