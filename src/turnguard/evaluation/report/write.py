"""The report's three forms: `report.html`, `report.json`, `report.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnguard.evaluation.ledger import guarded
from turnguard.evaluation.measuring import SIDE_NAMES
from turnguard.evaluation.report import svg
from turnguard.evaluation.report.assemble import Report
from turnguard.evaluation.rows import need


def write(report: Report, out: Path) -> list[str]:
    """Write all three into a folder; gives what to say at the end."""
    data = report.data
    with guarded(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(page(data), encoding="utf-8")
        plain = {
            **data,
            "sections": [{**section, "mistakes": len(section["mistakes"])} for section in data["sections"]],
        }
        (out / "report.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        text = markdown(data)
        (out / "report.md").write_text(text, encoding="utf-8")
        write_mistakes(report.mistakes, out)
    return [*table(data), f"report: {out / 'report.html'} (and report.md, report.json, mistakes.jsonl, .parquet)"]


def write_mistakes(found: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write every mistaken row to `mistakes.jsonl` and `mistakes.parquet`, whole and in order."""
    with (out / "mistakes.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    import pyarrow as pa
    from pyarrow import parquet

    fields = [
        *(pa.field(name, pa.string()) for name in ("set", "id", "kind", "stage", "action", "language")),
        pa.field("p", pa.float64()),
        *(pa.field(name, pa.list_(pa.string())) for name in ("named", "categories")),
        *(pa.field(name, pa.string()) for name in ("prompt", "text")),
    ]
    parquet.write_table(pa.Table.from_pylist(list(found), pa.schema(fields)), out / "mistakes.parquet")


def is_sandbox(data: dict[str, Any]) -> bool:
    """Whether the stand-in answered: its figures must never be taken for the model's."""
    return any("sandbox" in name.lower() for name in data["answered_by"])


# ---------------------------------------------------------------- HTML


def page(data: dict[str, Any], template: str = "evaluation.html.j2", title: str = "Evaluation report") -> str:
    """The self-contained page."""
    environment = make_environment()
    return str(
        environment.get_template(template).render(
            data=data, title=title, sandbox=is_sandbox(data), side_names=SIDE_NAMES
        )
    )


def make_environment() -> Any:
    """Jinja with our filters and plots. Everything is escaped but our own drawings."""
    jinja2 = need("jinja2")
    markup = need("markupsafe").Markup
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("turnguard.evaluation.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        in_no_rate=in_no_rate,
        looked=looked,
        pc=percent,
        two=number,
        range=percent_range,
        span=number_range,
        signed=signed,
        ms=svg.ms,
    )
    environment.globals.update(
        strip=lambda line: markup(svg.against_card([line])),
        change=lambda one: markup(svg.change(one)),
        plot_pr=lambda points: markup(svg.precision_recall(points)),
        plot_roc=lambda points: markup(svg.roc(points)),
        plot_reliability=lambda bins: markup(svg.reliability(bins)),
        plot_latency=lambda found: markup(
            svg.latency(found["histogram"], {name: found[name] for name in ("p50", "p95", "p99")})
        ),
        plot_pair=lambda one: markup(svg.reliability_pair(one["before"], one["after"])),
        plot_trade=lambda one: markup(svg.trade_off(one["curve"], one["at"], one["low"], one["high"])),
        plot_reach=lambda one: markup(svg.trade_off(one["curve"])),
        plot_spans=lambda rows, measure: markup(svg.spans(rows[:24], measure)),
        shown_measures=lambda rows: [(name, MEASURE_NAMES[name]) for name in measures_of(rows)],
        cell=lambda rows, of, name: markup(
            f'<td style="background:rgba(var(--shade),{0.05 + 0.4 * rows / max(1, of):.2f})">'
            f"{rows:,}<small>{name}</small></td>"
        ),
    )
    return environment


MEASURE_NAMES = {
    "f1": "Harmful F1",
    "recall": "Recall (share of unsafe rows caught)",
    "false_positive_rate": "False-positive rate",
}


def measures_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What a breakdown is drawn by: F1 where every part holds both labels, else the rates that its parts have."""
    if all(0 < row["unsafe"] < row["judged"] for row in rows):
        return ["f1"]
    rates = ("recall", "false_positive_rate")
    return [rate for rate in rates if any(row["measures"][rate]["value"] is not None for row in rows)]


def percent(value: float | None) -> str:
    """A share as per cent with one decimal."""
    return "–" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """A share with three decimals, one more than the card's."""
    return "–" if value is None else f"{value:.3f}"


def percent_range(found: dict[str, Any]) -> str:
    """A 95 % interval in per cent."""
    return "" if found["low"] is None else f"{found['low']:.1%} to {found['high']:.1%}"


def number_range(found: dict[str, Any]) -> str:
    """A 95 % interval as shares."""
    return "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "–" if value is None else f"{value:+.3f}"


# ---------------------------------------------------------------- Markdown and the terminal


def in_no_rate(found: Mapping[str, Any]) -> str:
    """Say how many rows have no verdict, and why."""
    why = ", ".join(f"{rows:,} {name}" for name, rows in found["why"].items())
    return f"{found['rows']:,} of {found['of']:,} rows ({found['share']:.1%}) are in no rate: {why}."


def looked(found: Mapping[str, Any]) -> str:
    """Say how much was looked at twice."""
    failed = f"; {found['failed']:,} of them failed, and the first verdict stands" if found["failed"] else ""
    return f"{found['rows']:,} rows were looked at twice, with {found['requests']:,} second requests{failed}."


def table(data: dict[str, Any]) -> list[str]:
    """Return the main figures as lines for a terminal."""
    lines = [in_no_rate(data["unjudged"])] if data["unjudged"]["rows"] else []
    for section in data["sections"]:
        stated = {line["figure"]: line for line in section["card"]}
        if stated:
            for line in stated.values():
                lines.append(
                    f"{section['title']:20} {line['name']:22} {number(line['value']):>6}  [{number_range(line)}]  "
                    f"card {line['card']:<6} {signed(line['difference'])}"
                )
        else:
            for side, found in section["sides"].items():
                for name in ("accuracy", "f1", "false_positive_rate"):
                    one = found["measures"][name]
                    shown = name.replace("_", " ")
                    spelled = f"{number(one['value']):>6}  [{number_range(one)}]"
                    lines.append(f"{section['title']:20} {side + ' ' + shown:28} {spelled}")
        for side, found in section["sides"].items():
            for way in found["looks"]["ways"] if found["looks"] else ():
                for name in ("recall", "false_positive_rate"):
                    one = way["measures"][name]
                    shown = f"{side} {way['name']} {name.replace('_', ' ')}"
                    lines.append(f"{section['title']:20} {shown:38} {number(one['value']):>6}  [{number_range(one)}]")
    if is_sandbox(data):
        lines.append("these are figures of the sandbox's rules, not of the Nemotron model")
    return lines


def markdown(data: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Evaluation report", ""]
    moderator = data["moderator"]
    answered = ", ".join(data["answered_by"]) or "nothing"
    lines += [f"Answered by {answered}, asked as `{moderator['model']}` ({moderator['family']}). {data['made']}.", ""]
    if is_sandbox(data):
        lines += ["**These are figures of the sandbox's rules, not of the Nemotron model.**", ""]
    if data["unjudged"]["rows"]:
        lines += [f"**{in_no_rate(data['unjudged'])}**", ""]
    lines += [f"Not run: {sentence}" for sentence in data["absent"]]
    compared = [(section, line) for section in data["sections"] for line in section["card"]]
    if compared:
        lines += [
            "| Benchmark | Figure | Rows | Measured | 95 % interval | Card | Difference |",
            "| --- | --- | ---: | ---: | --- | ---: | ---: |",
        ]
        for section, line in compared:
            star = " \\*" if line["column_read"] else ""
            lines.append(
                f"| {_cell(section['title'])} | {line['name']}{star} | {line['rows']:,} | {number(line['value'])} | "
                f"{number_range(line)} | {line['card']} | {signed(line['difference'])} |"
            )
        lines.append("")
        if any(line["column_read"] for _, line in compared):
            lines += ["\\* The copy of the card that was read has lost its empty cells; the column is our reading.", ""]
    for section in data["sections"]:
        lines += [f"## {section['title']}", "", f"{section['rows']:,} rows. Truth: {section['rule']}.", ""]
        for side, found in section["sides"].items():
            lines += _side(side, found)
        actions = ", ".join(f"{name} {rows:,}" for name, rows in section["policy"]["actions"].items())
        lines += [f"The policy's actions: {actions}.", ""]
    return "\n".join(lines) + "\n"


def _side(side: str, found: dict[str, Any]) -> list[str]:
    lines = [
        f"### {SIDE_NAMES[side]}",
        "",
        f"{found['judged']:,} judged, {found['unsafe']:,} of them truly unsafe.",
        "",
    ]
    if found["without_verdict"]:
        told = ", ".join(f"{rows:,} {why}" for why, rows in found["without_verdict"].items())
        lines += [f"In no rate: {told}.", ""]
    lines += _measures([{"name": "all", **found}])
    if found["looks"]:
        lines += [looked(found["looks"]), "", *_measures(found["looks"]["ways"], "Decided by")]
    for key, name in (("language", "Language"), ("attack", "Attack type"), ("category", "Category")):
        if len(found["by"][key]) > 1:
            lines += _measures(found["by"][key], name)
    return lines


def _measures(rows: Sequence[dict[str, Any]], name: str = "") -> list[str]:
    lines = [
        f"| {name} | Rows | No verdict | Accuracy | F1 | Precision | Recall | False-positive rate |",
        "| --- | ---: | ---: | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        shown = []
        for key in ("accuracy", "f1", "precision", "recall", "false_positive_rate"):
            one = row["measures"][key]
            shown.append(f"{percent(one['value'])} ({percent_range(one)})" if one["value"] is not None else "–")
        lines.append(
            f"| {_cell(row['name'])} | {row['rows']:,} | {row['rows'] - row['judged']:,} | {' | '.join(shown)} |"
        )
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
