"""`turnguard check`: judge one step and say what the policy made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

if TYPE_CHECKING:
    from rich.panel import Panel

    from turnguard.core.decision import Decision

CONFIG = Path("turnguard.yaml")


def check(
    text: str | None = typer.Argument(
        None, metavar="[TEXT | -]", show_default=False, help="What to judge; '-' or a pipe reads stdin."
    ),
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The policy and the moderator."),
    stage: str = typer.Option(
        "input", "--stage", "-s", metavar="STAGE", help="input, retrieval, tool_call, tool_result, output or tools."
    ),
    prompt: Optional[str] = typer.Option(  # noqa: UP045
        None, "--prompt", "-p", metavar="TEXT", help="The person's request that this step answers."
    ),
    tool: Optional[str] = typer.Option(  # noqa: UP045
        None, "--tool", metavar="NAME", help="The tool of a tool_call (TEXT: its arguments as JSON) or tool_result."
    ),
    image: list[str] = typer.Option(
        [],
        "--image",
        "-i",
        metavar="FILE",
        help="A picture: a file, '-' for stdin, a data: URI or an allowed URL. For a tool_call: the request's picture.",
    ),
    document: list[str] = typer.Option([], "--document", "-d", metavar="FILE", help="A PDF: a file or '-' for stdin."),
    language: Optional[str] = typer.Option(  # noqa: UP045
        None, "--language", "-l", metavar="CODE", help="The person's language, such as de; else it is guessed."
    ),
    policy: Optional[str] = typer.Option(  # noqa: UP045
        None, "--policy", metavar="NAME", help="Decide by one of the named policies."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as JSON."),
    content: bool = typer.Option(
        False, "--content", help="With --json: what to pass on, and the model's raw reply, too."
    ),
) -> int:
    """Judge one step. Exit code: 0 passed on, 1 withheld, 2 usage or configuration error, 3 the moderator failed."""
    from turnguard.cli import output
    from turnguard.cli._step import step_from
    from turnguard.core.errors import ConfigError
    from turnguard.guard import Guard

    if content and not as_json:
        raise output.UsageError("--content goes with --json")
    if config == CONFIG and not config.exists():
        raise ConfigError(f"{config}: no such file here; 'turnguard init' writes one, --config FILE names another")
    guard = Guard.from_yaml(config)
    step = step_from(text, stage=stage, prompt=prompt, tool=tool, images=image, documents=document, language=language)
    try:
        decision = guard.check(step, policy=policy)
        if not guard.reviews.stored:
            decision = replace(decision, review_id=None)  # nobody can answer it once this process has ended
    finally:
        guard.close()
    if as_json:
        output.data(decision.to_dict(content=content))
    else:
        output.show(panel(decision))
    return exit_code(decision)


def exit_code(decision: Decision) -> int:
    """Return 0 if passed on, 1 if withheld, 3 if the moderator failed, whatever the action."""
    from turnguard.cli import output

    if decision.failed or decision.verdict.failure is not None:
        return output.FAILED
    return output.WITHHELD if decision.withheld else output.PASSED


# ---------------------------------------------------------------- for a person

STYLES = {"allow": "green", "flag": "yellow", "rewrite": "cyan", "review": "magenta", "block": "red"}
_SHOWN = 4
_DECIDES = {"both": "the stricter counts", "first": "the first stands", "second": "the second decides"}


def panel(decision: Decision) -> Panel:
    """Draw one decision: the action, why, by which rule, and what was not judged."""
    from rich.box import ROUNDED
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from turnguard.cli.output import plain

    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in _rows(decision):
        rows.add_row(Text(name), Text(plain(value)))
    style = STYLES[decision.action]
    title = Text.assemble((f" {decision.action.upper()} ", f"bold {style} reverse"), f" {decision.stage}")
    return Panel(
        rows,
        box=ROUNDED,
        title=title,
        title_align="left",
        subtitle=f"{decision.latency * 1000:.0f} ms" + (", from memory" if decision.remembered else ""),
        subtitle_align="right",
        border_style=style,
        expand=False,
    )


def _rows(decision: Decision) -> list[tuple[str, str]]:
    verdict = decision.verdict
    rows: list[tuple[str, str]] = []
    labels = [f"{side} {label}" for side, label in (("user", verdict.user), ("response", verdict.response)) if label]
    if labels:
        rows.append(("verdict", ", ".join(labels)))
    if verdict.failure is not None:
        rows.append(("moderator", f"failed: {verdict.failure} ({verdict.cause or 'no cause given'})"))
    if verdict.categories or verdict.unknown_categories:
        unknown = [f"{name} (unknown)" for name in verdict.unknown_categories]
        rows.append(("categories", ", ".join([*verdict.categories, *unknown])))
    if verdict.p_unsafe is not None:
        rows.append(("P(unsafe)", f"{verdict.p_unsafe:.3f}"))
    fired = dict.fromkeys(
        f"{reason.category + ': ' if reason.category else ''}{reason.rule} → {reason.action}"
        for reason in decision.reasons
    )
    for index, text in enumerate(fired):
        rows.append((("rule" if len(fired) == 1 else "rules") if index == 0 else "", text))
    for one in decision.judgements:
        if (looks := one.verdict.looks) is not None:
            first, second = looks.first.label(one.decides), looks.second.failure or looks.second.label(one.decides)
            rows.append(("second look", f"{first}, then {second}; {_DECIDES[looks.decides]}"))
    if (shadow := decision.shadow) is not None:
        why = ", ".join(dict.fromkeys(reason.rule for reason in shadow.reasons))
        rows.append(("shadow", shadow.action + (f" ({why})" if why else "")))
    if decision.review_id is not None:
        rows.append(("waits as", decision.review_id))
    if decision.message is not None:
        rows.append(("tell them", decision.message))
    if decision.action == "rewrite":
        rows.append(("passed on", decision.text or f"{len(decision.content)} part(s), no text"))
    rows += _coverage(decision)
    if decision.escalates:
        rows.append(("note", "the request behind this step is itself unsafe"))
    return rows


def _coverage(decision: Decision) -> list[tuple[str, str]]:
    coverage = decision.coverage
    requests = len(decision.judgements)
    judged = len(coverage.judged)
    rows = [("judged", f"{judged} piece{'s' * (judged != 1)} in {requests} request{'s' * (requests != 1)}")]
    # what needs no judgement is no gap; but after a failure everything that was not judged is one
    gaps = [entry for entry in coverage.not_judged if entry.counts or decision.verdict.failure is not None]
    for index, entry in enumerate(gaps[:_SHOWN]):
        what = ", ".join(filter(None, (entry.kind, entry.detail)))
        rows.append(("not judged" if index == 0 else "", f"{what}: {entry.cause or 'no cause given'}"))
    if len(gaps) > _SHOWN:
        rows.append(("", f"and {len(gaps) - _SHOWN} more (--json lists them)"))
    needless = len(coverage.not_judged) - len(gaps)
    if needless:
        rows.append(("skipped", f"{needless} that need{'s' * (needless == 1)} no judgement (--json says why)"))
    return rows
