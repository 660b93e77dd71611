"""`turnguard records why`: one decision explained, with the rule as it was written then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from turnguard.cli.records.asking import CONFIG, AsJson, Config, filtered, opened, shown_time

MOST = 5
"""Decisions that are explained at once."""
AROUND = 2
"""Lines of the policy that are shown before and after a rule that fired."""


@filtered
def why(
    wanted: Any,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="A record's id or its beginning, or the id of a trace.", show_default=False
        ),
    ] = None,
    content: Annotated[bool, typer.Option("--content", help="Show the content too; that is recorded.")] = False,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Explain decisions: what was judged, which rule decided, where it stood, and what P it saw.

    Without an ID the newest decisions that the options name and that did not simply pass.
    """
    from rich.console import Group

    from turnguard.cli import output
    from turnguard.records.query import find, one
    from turnguard.records.why import explained

    with opened(config) as store:
        if name is not None:
            rows = one(store, name)
            if not rows:
                raise output.UsageError(f"no record begins with {name!r}; 'turnguard records list' shows their ids")
        else:
            some = [row for row in find(store, wanted, limit=1000) if row.action != "allow"]
            rows = [one(store, row.id)[0] for row in some[:MOST]]
            if len(some) > MOST:
                output.note(f"the newest {MOST} of {len(some):,}; 'turnguard records list' shows all")
        found = [explained(store, row, reader=_reader() if content else None) for row in rows]
    if as_json:
        output.data(found[0] if name is not None and len(found) == 1 else found)
        return output.PASSED
    for number, each in enumerate(found):
        output.show(Group(*([""] if number else []), *_told(each)))
    if not found:
        output.line("nothing but what passed")
    return output.PASSED


def _reader() -> str:
    """Who looks, as far as this machine knows it."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "unknown"


def _told(record: dict[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    from turnguard.cli.check import STYLES
    from turnguard.cli.output import plain

    action = record["action"]
    head = Text.assemble((action, f"bold {STYLES[action]}"), f"  {record['stage']}  {shown_time(record['time'])}  ")
    yield head.append(record["id"], "dim")
    if record["event"] != "check":
        yield Text(f"{record['event'].replace('_', ' ')}: {_pairs(record['metadata'])}")
        return
    owner = {name: record[name] for name in ("user", "thread", "request", "tenant") if record[name]}
    if owner | record["metadata"]:
        yield Text(plain(_pairs(owner | record["metadata"])))
    facts = [record["model"] or record["family"] or "", f"{record['latency'] * 1000:.1f} ms"]
    if record["trace"]:
        facts.append(f"trace {record['trace']}")
    yield Text(plain(", ".join(fact for fact in facts if fact)), "dim")
    coverage = record["coverage"]
    yield Text(f"judged: {_covered(coverage.get('judged')) or 'nothing'}")
    for name, label in (("not_judged", "not judged"), ("reduced", "judged coarsely")):
        if coverage.get(name):
            yield Text(plain(f"{label}: {_covered(coverage[name])}"))
    if record["failed"]:
        yield Text("the moderator failed, and the policy's rule for that decided")
    if not record["reasons"]:
        yield Text("no rule fired")
    for reason in record["reasons"]:
        yield from _reason(reason)
    if record["shadow"] is not None:
        same = "agrees" if record["shadow"] == record["asked"] else f"would have said {record['shadow']}"
        yield Text(f"the shadow policy {same}")
        for reason in record["shadow_reasons"] if record["shadow"] != record["asked"] else ():
            yield from _reason(reason)
    yield from _policy(record)
    if "content" in record and record["content"] is not None:
        yield Text("content", "bold")
        yield from (Text(plain(line)) for line in _content(record["content"]))
    for sentence in record["missing"]:
        yield Text(plain(sentence), "yellow")


def _reason(reason: dict[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    from turnguard.cli.check import STYLES
    from turnguard.cli.output import plain

    what = reason["category"] or reason["cause"] or reason["failure"] or reason["kind"]
    text = Text.assemble("  ", (f"{reason['action']:8}", STYLES[reason["action"]]), plain(what))
    if reason["p"] is not None:
        text.append(f"  P(unsafe) {reason['p']:.3g}")
        if reason["threshold"] is not None:
            text.append(f" {'>' if reason['p'] > reason['threshold'] else '≤'} {reason['threshold']:g}")
    elif reason["threshold"] is not None:
        text.append(f"  no P, so the threshold of {reason['threshold']:g} counts as reached")
    yield text
    place = f"{reason['file']}:{reason['line']}  " if reason["line"] else ""
    yield Text(plain(f"          {place}{reason['rule']}"), "dim")


def _policy(record: dict[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    from turnguard.cli.output import plain

    lines = {reason["line"] for reason in record["reasons"] if reason["line"]}
    if not lines or record["policy_text"] is None:
        return
    yield Text(f"the policy {record['policy']} as it was then", "bold")
    first = record["policy_first_line"]
    before = None
    for number, text in enumerate(record["policy_text"].splitlines(), first):
        if any(abs(number - line) <= AROUND for line in lines):
            if before is not None and number != before + 1:
                yield Text("       …", "dim")
            before = number
            yield Text(plain(f"{'>' if number in lines else ' '}{number:5}  {text}"), "" if number in lines else "dim")


def _content(content: dict[str, Any]) -> Iterator[str]:
    for text in content.get("history", ()):
        yield f"earlier: {text}"
    if content.get("prompt"):
        yield f"request: {content['prompt']}"
    for part in content.get("parts", ()):
        said = part.get("text") or {name: value for name, value in part.items() if name not in ("type", "data")}
        yield f"{part['type']}: {said}"
    for thought in content.get("reasoning", ()):
        yield f"reasoning of {thought['model'] or 'the model'}: {thought['text']}"


def _covered(entries: list[dict[str, Any]] | None) -> str:
    told = []
    for entry in entries or ():
        where = "" if entry.get("part") is None else f" {entry['part'] + 1}"
        more = [entry.get("detail"), entry.get("cause"), f"at {entry['scale']:.0%}" if "scale" in entry else None]
        inside = ", ".join(str(each) for each in more if each)
        told.append(f"{entry['kind']}{where}{f' ({inside})' if inside else ''}")
    return "; ".join(told)


def _pairs(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
