"""What a calibration writes: the curves, the policy fragment, and the report in three forms."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard._version import __version__
from turnguard.evaluation.calibrating import NAME, Calibrated
from turnguard.evaluation.ledger import guarded
from turnguard.evaluation.report.write import is_sandbox, number, number_range, page, percent
from turnguard.evaluation.results import Result

if TYPE_CHECKING:
    from turnguard.config.document import Config


def write_calibration(
    found: Calibrated, results: Sequence[Result], settings: Config, answered_by: Sequence[str], source: str, out: Path
) -> list[str]:
    """Write everything into a folder and return what to print."""
    data: dict[str, Any] = {
        "kind": "calibration",
        "turnguard": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": source,
        "rows": len(results),
        "without_p": found.without_p,
        "moderator": {"model": settings.moderator.model, "family": settings.moderator.family},
        "answered_by": list(answered_by),
        "fits": found.fits,
        "thresholds": found.thresholds,
        "unreached": found.unreached,
        "skipped": found.skipped,
        "fragment": fragment_text(found.fragment),
    }
    with guarded(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / NAME).write_text(json.dumps(found.file, indent=1) + "\n", encoding="utf-8")
        (out / "policy.yaml").write_text(data["fragment"], encoding="utf-8")
        (out / "calibration.html").write_text(page(data, "calibration.html.j2", "Calibration report"), encoding="utf-8")
        (out / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (out / "calibration.md").write_text(markdown(data), encoding="utf-8")
    names = ", ".join(str(out / name) for name in (NAME, "policy.yaml", "calibration.html"))
    return [*told(data), f"written: {names} (and calibration.md, report.json)"]


def fragment_text(fragment: dict[str, Any]) -> str:
    """The fragment as YAML, under `policy:`."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump({"policy": fragment}, out)
    return (
        "# From 'turnguard calibrate'. Put these keys into turnguard.yaml, with calibration.json beside it.\n"
        "# A category with a rule of its own keeps that rule: its thresholds meet the calibrated P from now on.\n"
        + out.getvalue()
    )


def told(data: dict[str, Any]) -> list[str]:
    """The findings as lines for a terminal."""
    lines = []
    for one in data["fits"]:
        kept = {"identity": "P as given"}.get(one["method"], one["method"])
        lines.append(
            f"{one['side']:9} {one['name']:28} {one['rows']:>6,} rows  {kept:11} "
            f"calibration error {number(one['ece_before'])} → {number(one['ece_after'])}"
        )
    for one in data["thresholds"]:
        shown = ("recall", "false_positive_rate") if one["curve"] else ("precision",)
        measures = [(name.replace("_", " "), one["measures"][name]) for name in shown]
        reached = ", ".join(f"{name} {percent(found['value'])} [{number_range(found)}]" for name, found in measures)
        span = f"{one['at']:.4g} ({one['low']:.3g} to {one['high']:.3g})"
        lines.append(f"{one['where']:9} {'; '.join(one['goal'])}: {span}; {reached}")
    lines += [f"{one['where']:9} {'; '.join(one['goal'])}: not reached: {one['why']}" for one in data["unreached"]]
    if data["skipped"]:
        lines.append(f"too few rows for {len(data['skipped'])} further curves; the wider ones serve")
    if is_sandbox(data):
        lines.append("these are figures of the sandbox's rules, not of the Nemotron model")
    return lines


def markdown(data: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Calibration report", "", f"{data['rows']:,} labelled rows of {data['source']}. {data['made']}.", ""]
    if is_sandbox(data):
        lines += ["**These are figures of the sandbox's rules, not of the Nemotron model.**", ""]
    if data["without_p"]:
        lines += [f"{data['without_p']:,} rows had no verdict or no P(unsafe) and are in nothing below.", ""]
    if data["unreached"]:
        lines += ["## Goals out of reach", "", *(f"- {one['why']}" for one in data["unreached"]), ""]
        for one in data["unreached"]:
            lines += _reachable(one)
    if data["thresholds"]:
        lines += [
            "## Thresholds",
            "",
            "| Where | Goal | Threshold | Recall | False positives |",
            "| --- | --- | --- | --- | --- |",
        ]
        for one in data["thresholds"]:
            recall, rate = one["measures"]["recall"], one["measures"]["false_positive_rate"]
            cells = (
                one["where"],
                "; ".join(one["goal"]),
                f"{one['at']:.4g} ({one['low']:.3g} to {one['high']:.3g})",
                f"{percent(recall['value'])} ({number_range(recall)})",
                f"{percent(rate['value'])} ({number_range(rate)})",
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "```yaml", data["fragment"].rstrip(), "```", ""]
    lines += [
        "## Curves",
        "",
        "| Curve | Side | Rows | Unsafe | Kept | Log loss as given | Isotonic | Platt | Error before | After |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in data["fits"]:
        losses = " | ".join(number(one["losses"][method]) for method in ("identity", "isotonic", "platt"))
        lines.append(
            f"| {one['name']} | {one['side']} | {one['rows']:,} | {one['unsafe']:,} | {one['method']} | {losses} | "
            f"{number(one['ece_before'])} | {number(one['ece_after'])} |"
        )
    if data["skipped"]:
        lines += [
            "",
            "Too few rows, so that the wider curve serves:",
            "",
            *(f"- {sentence}" for sentence in data["skipped"]),
        ]
    return "\n".join(lines) + "\n"


def _reachable(one: dict[str, Any]) -> list[str]:
    """What can be reached instead: every tenth point of the curve."""
    if not one["curve"]:
        return []
    return [
        f"What `{one['where']}` can reach:",
        "",
        "| Threshold | Recall | False positives |",
        "| ---: | ---: | ---: |",
        *(f"| {at:.2f} | {percent(recall)} | {percent(rate)} |" for at, recall, rate in one["curve"][::10]),
        "",
    ]
