"""`turnguard records replay`: what another policy would have made of the same verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnguard.cli.records.asking import CONFIG, AsJson, Config, filtered, opened

if TYPE_CHECKING:
    from turnguard.core.policy import Policy
    from turnguard.records.replay import Replayed


@filtered
def replay(
    wanted: Any,
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="The YAML whose policy is tried.")],
    verdicts: Annotated[
        Path | None,
        typer.Option("--verdicts", metavar="FILE", help="Of 'turnguard batch --verdicts', instead of records."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")] = None,
    fail_above: Annotated[
        str | None, typer.Option("--fail-above", metavar="SHARE", help="Exit with 1 if more changes, such as 1%.")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Decide past steps again under another policy. No model is asked.

    Exit code: 0, or with --fail-above 1 where a larger share of the decisions changes or cannot be decided again.
    """
    from turnguard.cli import output
    from turnguard.records.replay import replay_rows, replay_store

    bound = None if fail_above is None else _share(fail_above)
    new = _policy(policy)
    if verdicts is not None:
        from turnguard.config.files import load
        from turnguard.evaluation.batch_verdicts import Verdicts

        kept, now = Verdicts(verdicts), load(config).policy
        kept.fit(now)
        kept.fit(new)
        columns = ("id", "stage", "evidence")
        rows = (dict(zip(columns, row, strict=True)) for row in kept.rows(*columns) if row[1] is not None)
        found = replay_rows(rows, new, now, kept.family)
    else:
        with opened(config) as store:
            found = replay_store(store, new, wanted)
    data = {"policy_file": str(policy), **found.to_dict()}
    if html is not None:
        _page(data, html)
    if as_json:
        output.data(data)
    else:
        _show(found, str(policy))
        if html is not None:
            output.line(f"report: {html}")
    if bound is None:
        return output.PASSED
    worst = (found.changed + found.undecided.total()) / found.total if found.total else 0.0
    if worst > bound:
        output.note(f"{worst:.2%} of the decisions change or cannot be decided again; --fail-above allows {bound:.2%}")
        return output.WITHHELD
    return output.PASSED


def _policy(path: Path) -> Policy:
    """The policy of a file: of a whole configuration, or of a policy alone."""
    from turnguard.config.files import load

    return load(path).policy


def _share(text: str) -> float:
    from turnguard.cli.output import UsageError

    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"--fail-above {text!r}: a share, such as 1% or 0.01")
    return share


def _page(data: dict[str, Any], path: Path) -> None:
    from datetime import UTC, datetime

    from turnguard._version import __version__
    from turnguard.evaluation.report.write import page

    made = {"turnguard": __version__, "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "answered_by": []}
    text = page({**data, **made}, "replay.html.j2", "Replay report")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _show(found: Replayed, name: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli import output
    from turnguard.cli.check import STYLES

    share = f" ({found.share:.2%})" if found.decided else ""
    output.line(f"{found.changed:,} of {found.decided:,} decisions change{share} under {name}")
    for reason, count in found.undecided.most_common():
        output.line(f"{count:,} cannot be decided again: {reason}")
    if not found.moves:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("from", "to"):
        table.add_column(title, no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("rule", overflow="fold")
    table.add_column("such as", no_wrap=True)
    for (rule, old, new), count in found.by_rule.most_common(30):
        example = found.examples[old, new][0][:10]
        cells = (Text(old, STYLES[old]), Text(new, STYLES[new]), f"{count:,}")
        table.add_row(*cells, output.plain(rule), example)
    output.show(table)
    if any(new == "rewrite" for _, new in found.moves):
        output.line("whether a rewrite would have succeeded cannot be seen from verdicts; one that fails blocks")
