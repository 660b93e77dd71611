"""Plots as inline SVG, drawn with the page's own colours so that they follow its light and dark theme.

Numbers in, markup out; everything that is not ours is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

W, H = 320, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 38
_IW, _IH = W - LEFT - RIGHT, H - TOP - BOTTOM


def _x(share: float) -> float:
    return round(LEFT + share * _IW, 2)


def _y(share: float) -> float:
    return round(TOP + (1 - share) * _IH, 2)


def _frame(title: str, x_name: str, y_name: str, body: str, ticks: bool = True) -> str:
    parts = [f'<svg class="plot" viewBox="0 0 {W} {H}" role="img" aria-label="{escape(title)}">']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        if ticks:
            parts.append(f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>')
            parts.append(f'<text class="tick" x="{_x(tick)}" y="{_y(0) + 14}" text-anchor="middle">{tick:g}</text>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{_y(tick) + 3}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>')
    parts.append(f'<text class="axis" x="{_x(0.5)}" y="{H - 6}" text-anchor="middle">{escape(x_name)}</text>')
    turned = f'transform="translate(11 {_y(0.5)}) rotate(-90)"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(y_name)}</text>')
    return "".join([*parts, body, "</svg>"])


def precision_recall(points: Sequence[Sequence[float]]) -> str:
    """Precision over recall, as a step line."""
    if not points:
        return ""
    path = [f"M{_x(0)},{_y(points[0][1])}"]
    before = points[0][1]
    for recall, precision in points:
        path.append(f"L{_x(recall)},{_y(before)}L{_x(recall)},{_y(precision)}")
        before = precision
    return _frame("Precision over recall", "Recall", "Precision", f'<path class="line" d="{"".join(path)}"/>')


def roc(points: Sequence[Sequence[float]]) -> str:
    """The share of unsafe rows caught over the share of safe rows called unsafe."""
    if not points:
        return ""
    path = "L".join(f"{_x(false)},{_y(caught)}" for false, caught in points)
    body = f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/><path class="line" d="M{path}"/>'
    return _frame("Recall over false-positive rate", "False-positive rate", "Recall", body)


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """The share of unsafe over P, with Wilson intervals; the area of a point grows with its rows."""
    if not bins:
        return ""
    most = max(entry["rows"] for entry in bins)
    body = [f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for entry in bins:
        x = _x(entry["p"])
        radius = round(2.5 + 5 * (entry["rows"] / most) ** 0.5, 2)
        body.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{_y(entry["low"])}" y2="{_y(entry["high"])}"/>')
        told = f"P {entry['p']:.2f}: {entry['share']:.0%} of {entry['rows']:,} rows unsafe"
        body.append(
            f'<circle class="dot" cx="{x}" cy="{_y(entry["share"])}" r="{radius}"><title>{told}</title></circle>'
        )
    return _frame("Reliability", "P(unsafe) as given", "Share truly unsafe", "".join(body))


def latency(histogram: dict[str, Any], marks: dict[str, float]) -> str:
    """How many steps took how long, with percentiles."""
    counts, edges = histogram["counts"], histogram["edges"]
    most = max(counts) or 1
    end = edges[-1]
    body = []
    for index, count in enumerate(counts):
        left, right = _x(edges[index] / end), _x(edges[index + 1] / end)
        top = _y(count / most)
        told = f"{edges[index] * 1000:.1f} to {edges[index + 1] * 1000:.1f} ms: {count:,} steps"
        body.append(
            f'<rect class="bar" x="{left + 0.5:.2f}" y="{top}" width="{max(0.5, right - left - 1):.2f}" '
            f'height="{_y(0) - top:.2f}"><title>{told}</title></rect>'
        )
    for name, seconds in marks.items():
        x = _x(min(1.0, seconds / end))
        told = f"<title>{escape(name)} {ms(seconds)}</title>"
        body.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{_y(0)}" y2="{_y(1)}">{told}</line>')
    ticks = "".join(
        f'<text class="tick" x="{_x(share)}" y="{_y(0) + 14}" text-anchor="{anchor}">{ms(share * end)}</text>'
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    return _frame("Latency", "Time per step", "Steps", ticks + "".join(body), ticks=False)


def ms(seconds: float) -> str:
    """A time as a person reads it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


ROW = 22
_NAME, _COUNT, _SCALE = 246, 58, 380


def spans(rows: Sequence[dict[str, Any]], measure: str) -> str:
    """One line per row: the measure as a dot on a scale from 0 to 1, with its interval."""
    shown = [row for row in rows if row["measures"][measure]["value"] is not None]
    if not shown:
        return ""
    width, height = _NAME + _COUNT + _SCALE + 66, ROW * len(shown) + 26
    start = _NAME + _COUNT
    body = [f'<svg class="plot wide" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(measure)} by row">']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = start + tick * _SCALE
        body.append(f'<line class="grid" x1="{x}" x2="{x}" y1="4" y2="{height - 20}"/>')
        body.append(f'<text class="tick" x="{x}" y="{height - 6}" text-anchor="middle">{tick:.0%}</text>')
    for index, row in enumerate(shown):
        y = ROW * index + 15
        found = row["measures"][measure]
        left, right = start + found["low"] * _SCALE, start + found["high"] * _SCALE
        name = row["name"] if len(row["name"]) <= 36 else row["name"][:35] + "…"
        body.append(f'<text class="name" x="{_NAME - 8}" y="{y + 4}" text-anchor="end">{escape(name)}')
        body.append(f"<title>{escape(row['name'])}</title></text>")
        body.append(f'<text class="tick" x="{start - 12}" y="{y + 4}" text-anchor="end">{row["judged"]:,}</text>')
        body.append(f'<line class="interval" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>')
        body.append(f'<circle class="dot" cx="{start + found["value"] * _SCALE:.1f}" cy="{y}" r="4.5"/>')
        body.append(f'<text class="note" x="{start + _SCALE + 12}" y="{y + 4}">{found["value"]:.1%}</text>')
    return "".join([*body, "</svg>"])


def reliability_pair(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> str:
    """Reliability of P as given (hollow) and of the calibrated P (filled), on rows that the curve had not seen."""
    body = [f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    most = max((entry["rows"] for entry in (*before, *after)), default=1)
    for bins, kind in ((before, "hollow"), (after, "dot")):
        for entry in bins:
            x = _x(entry["p"])
            radius = round(2.5 + 5 * (entry["rows"] / most) ** 0.5, 2)
            told = f"P {entry['p']:.2f}: {entry['share']:.0%} of {entry['rows']:,} rows unsafe"
            if kind == "dot":
                low, high = _y(entry["low"]), _y(entry["high"])
                body.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
            y = _y(entry["share"])
            body.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"><title>{told}</title></circle>')
    return _frame("Reliability before and after", "P(unsafe)", "Share truly unsafe", "".join(body))


def trade_off(curve: Sequence[Sequence[float]], at: float | None = None, low: float = 0.0, high: float = 0.0) -> str:
    """Draw recall and false-positive rate over the threshold, with the chosen threshold and its interval if any."""
    if not curve:
        return ""
    body: list[str] = []
    if at is not None:
        width = max(0.5, _x(high) - _x(low))
        body.append(f'<rect class="band" x="{_x(low)}" y="{_y(1)}" width="{width:.2f}" height="{_y(0) - _y(1):.2f}"/>')
    for column, kind in ((1, "line"), (2, "line second")):
        path = "L".join(f"{_x(row[0])},{_y(row[column])}" for row in curve)
        body.append(f'<path class="{kind}" d="M{path}"/>')
    if at is not None:
        x = _x(at)
        anchor, shift = ("end", -4) if at > 0.7 else ("start", 4)
        body.append(f'<line class="card" x1="{x}" x2="{x}" y1="{_y(0)}" y2="{_y(1)}"/>')
        body.append(f'<text class="note" x="{x + shift}" y="{TOP + 10}" text-anchor="{anchor}">{at:.3g}</text>')
    return _frame("Trade-off", "Threshold on the calibrated P", "Share of rows", "".join(body))


def against_card(lines: Sequence[dict[str, Any]]) -> str:
    """A measured figure with its interval, and the card's as a tick, on one scale."""
    found = lines[0]
    if found["value"] is None:
        return ""
    width = 190
    card = found["card"] * width
    return (
        f'<svg class="strip" viewBox="-4 0 {width + 8} 18" role="img" aria-label="measured and card">'
        f'<line class="grid" x1="0" x2="{width}" y1="9" y2="9"/>'
        f'<line class="interval" x1="{found["low"] * width:.1f}" x2="{found["high"] * width:.1f}" y1="9" y2="9"/>'
        f'<circle class="dot" cx="{found["value"] * width:.1f}" cy="9" r="4.5"/>'
        f'<line class="card" x1="{card:.1f}" x2="{card:.1f}" y1="2" y2="16">'
        f"<title>the card: {found['card']}</title></line></svg>"
    )


def change(one: dict[str, Any]) -> str:
    """A difference with its interval, on a scale from -1 to 1 with a line at 0."""
    if one["value"] is None:
        return ""
    width = 190

    def at(value: float) -> str:
        return f"{(value + 1) / 2 * width:.1f}"

    return (
        f'<svg class="strip" viewBox="-4 0 {width + 8} 18" role="img" aria-label="the difference">'
        f'<line class="grid" x1="0" x2="{width}" y1="9" y2="9"/>'
        f'<line class="interval" x1="{at(one["low"])}" x2="{at(one["high"])}" y1="9" y2="9"/>'
        f'<line class="card" x1="{at(0.0)}" x2="{at(0.0)}" y1="3" y2="15"/>'
        f'<circle class="dot" cx="{at(one["value"])}" cy="9" r="4.5"/></svg>'
    )
