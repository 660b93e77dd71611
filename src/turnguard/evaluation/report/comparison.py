"""The report of two runs side by side: `report.html`, `report.json`, `report.md`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard._version import __version__
from turnguard.evaluation.comparing import comparison
from turnguard.evaluation.examples import Example
from turnguard.evaluation.ledger import guarded
from turnguard.evaluation.report.assemble import cut
from turnguard.evaluation.report.write import in_no_rate, is_sandbox, number, page, signed
from turnguard.evaluation.results import Result

if TYPE_CHECKING:
    from turnguard.config.document import Config

NAMES = {
    "accuracy": "Accuracy",
    "f1": "Harmful F1",
    "precision": "Precision",
    "recall": "Recall",
    "false_positive_rate": "False-positive rate",
    "unsafe_withheld": "Unsafe rows withheld",
    "safe_withheld": "Safe rows withheld",
}
MOST_SHOWN = 40
"""Disagreements of a set that the page shows; report.json holds all of them."""


@dataclass(slots=True)
class Comparison:
    """What two runs over the same sets found. `data` is the report as JSON; its top level pools all sets."""

    data: dict[str, Any]
    _first: list[Result] = field(default_factory=list)
    _second: list[Result] = field(default_factory=list)

    @classmethod
    def of(cls, names: Sequence[str], settings: Sequence[Config], answered_by: Sequence[str]) -> Comparison:
        """Return an empty comparison of two configurations."""
        sides = [
            {
                "config": name,
                "model": config.moderator.model,
                "family": config.moderator.family,
                "answered_by": answered,
                "policy": config.policy.digest,
            }
            for name, config, answered in zip(names, settings, answered_by, strict=True)
        ]
        made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        head = {"kind": "comparison", "turnguard": __version__, "made": made, "compared": sides}
        return cls({**head, "answered_by": list(answered_by), "sections": []})

    def add(
        self,
        name: str,
        title: str,
        examples: Callable[[], Iterable[Example]],
        first: list[Result],
        second: list[Result],
        *,
        content: bool,
    ) -> None:
        """Compare one set and add it."""
        found = comparison(first, second)
        wanted = {entry["row"] for entry in found["disagreements"]}
        shown = {row: example for row, example in enumerate(examples(), 1) if row in wanted} if content else {}
        for entry in found["disagreements"]:
            example = shown.get(entry.pop("row"))
            if example is not None:
                entry.update(prompt=cut(example.prompt), text=cut(example.text))
        self.data["sections"].append({"name": name, "title": title, **found})
        self._first += _renumbered(first, len(self._first))
        self._second += _renumbered(second, len(self._second))
        pooled = comparison(self._first, self._second)
        self.data |= {key: pooled[key] for key in ("rows", "paired", "runs", "difference", "mcnemar")}
        self.data["disagreements"] = [
            {"set": section["name"], **entry} for section in self.data["sections"] for entry in section["disagreements"]
        ]

    @property
    def unjudged(self) -> dict[str, Any]:
        """The rows in no rate of the run that has more of them."""
        runs: list[dict[str, Any]] = [run["unjudged"] for run in self.data["runs"]]
        return max(runs, key=lambda run: run["rows"])


def _renumbered(results: Sequence[Result], after: int) -> list[Result]:
    from dataclasses import replace

    return [replace(result, row=result.row + after) for result in results]


def write_comparison(found: Comparison, out: Path) -> list[str]:
    """Write all three forms into a folder; gives what to say at the end."""
    data = found.data
    shown = {**data, "names": NAMES, "most_shown": MOST_SHOWN}
    with guarded(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(page(shown, "comparison.html.j2", "Comparison"), encoding="utf-8")
        (out / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (out / "report.md").write_text(markdown(data), encoding="utf-8")
    return [*told(data), f"report: {out / 'report.html'} (and report.md, report.json)"]


def told(data: dict[str, Any]) -> list[str]:
    """The findings as lines for a terminal of 80 columns."""
    first, second = (side["config"] for side in data["compared"])
    lines = [f"{first} → {second}, on {data['paired']:,} of {data['rows']:,} rows that both judged"]
    lines += [
        f"{name}: {in_no_rate(run['unjudged'])}"
        for name, run in zip((first, second), data["runs"], strict=True)
        if run["unjudged"]["rows"]
    ]
    for section in data["sections"]:
        if len(data["sections"]) > 1:
            lines.append(section["title"])
        for name, shown in NAMES.items():
            one = section["difference"][name]
            lines.append(f"  {shown:21} {_both(section, name)}  {signed(one['value']):>6}  [{span(one)}]")
        lines.append(f"  {_tested(section)}")
    if is_sandbox(data):
        lines.append("these are figures of the sandbox's rules, not of the Nemotron model")
    return lines


def _both(section: dict[str, Any], name: str) -> str:
    first, second = (run["measures"][name]["value"] for run in section["runs"])
    return f"{number(first):>5} → {number(second):<5}"


def _tested(section: dict[str, Any]) -> str:
    test = section["mcnemar"]
    p = "" if test["p"] is None else f", McNemar's p = {test['p']:.3g}"
    rows = len(section["disagreements"])
    return (
        f"{rows:,} disagreements; only the first is right on {test['only_first_right']:,}, "
        f"only the second on {test['only_second_right']:,}{p}"
    )


def span(one: dict[str, Any]) -> str:
    """The 95 % interval of a difference."""
    return "" if one["low"] is None else f"{one['low']:+.3f} to {one['high']:+.3f}"


def markdown(data: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    first, second = (side["config"] for side in data["compared"])
    lines = [f"# Comparison: {first} and {second}", "", f"{data['made']}.", ""]
    if is_sandbox(data):
        lines += ["**These are figures of the sandbox's rules, not of the Nemotron model.**", ""]
    for section in data["sections"]:
        lines += [
            f"## {section['title']}",
            "",
            f"{section['paired']:,} of {section['rows']:,} rows judged by both.",
            "",
        ]
        lines += ["| Figure | First → second | Difference | 95 % interval |", "| --- | --- | ---: | --- |"]
        for name, shown in NAMES.items():
            one = section["difference"][name]
            lines.append(f"| {shown} | {_both(section, name).strip()} | {signed(one['value'])} | {span(one)} |")
        lines += ["", f"{_tested(section)}.", ""]
    return "\n".join(lines) + "\n"
