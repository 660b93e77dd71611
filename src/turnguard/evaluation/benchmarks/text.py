"""Text benchmarks whose release is one table: XSTest, MultiJail, Aegis 2, WildGuardTest, PolyGuardPrompts, RTP-LX,
Aya.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from turnguard.core.verdict import Label
from turnguard.evaluation.benchmarks.base import (
    HARMFUL,
    PLAIN,
    Record,
    all_of,
    code_of,
    field_of,
    label_of,
    missing,
    one_of,
    records,
)
from turnguard.evaluation.examples import Example


def xstest(folder: Path) -> Iterator[Example]:
    """`xstest_prompts.csv`; and, where it stands beside, allenai/xstest-response's `response_harmfulness` file."""
    yield from xstest_rows(records([one_of(folder, "xstest_prompts.csv", "xstest*prompts*.csv")]))
    for path in sorted(folder.glob("*response_harmfulness*")):
        yield from xstest_responses(records([path]))


def xstest_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields id, prompt, type, label, focus, note."""
    for number, row in enumerate(rows, 1):
        where = f"XSTest row {number}"
        kind = str(field_of(row, "type", where))
        yield Example(
            id=str(row.get("id") or number),
            text=field_of(row, "prompt", where),
            label=label_of(field_of(row, "label", where), PLAIN, where),
            language="en",
            categories=(kind,),
        )


def xstest_responses(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields prompt, response, label (harmful, unharmful)."""
    for number, row in enumerate(rows, 1):
        where = f"XSTest responses row {number}"
        yield Example(
            id=f"response-{number}",
            stage="output",
            text=field_of(row, "response", where),
            prompt=field_of(row, "prompt", where),
            label=label_of(field_of(row, "label", where), HARMFUL, where),
            language="en",
        )


MULTIJAIL_LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")


def multijail(folder: Path) -> Iterator[Example]:
    """`MultiJail.csv`: id, source, tags and one column per language; every prompt is harmful."""
    yield from multijail_rows(records([one_of(folder, "MultiJail.csv", "*ulti*ail*.csv")]))


def multijail_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """One example per language; the ten of one row are one group."""
    for number, row in enumerate(rows, 1):
        where = f"MultiJail row {number}"
        name = str(row.get("id") or number)
        tags = _list(row.get("tags"))
        for language in MULTIJAIL_LANGUAGES:
            text = field_of(row, language, where)
            if text:
                yield Example(
                    f"{name}-{language}", text, label="unsafe", language=language, categories=tags, group=name
                )


def aegis2(folder: Path) -> Iterator[Example]:
    """`test.json` (or the test split as Parquet) of the Aegis AI Content Safety Dataset 2.0."""
    yield from aegis2_rows(records([one_of(folder, "test.json", "*test*.json", "*test*.parquet", "*test*.jsonl")]))


def aegis2_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields prompt, response, prompt_label, response_label, violated_categories.

    Prompts that the release has redacted (it gives no text) are left out: there is nothing to judge.
    """
    for number, row in enumerate(rows, 1):
        where = f"Aegis 2 row {number}"
        prompt = field_of(row, "prompt", where)
        if prompt == "REDACTED":
            continue
        yield from _pair(
            str(row.get("id") or number),
            prompt,
            row.get("response"),
            label_of(field_of(row, "prompt_label", where), PLAIN, where),
            label_of(row.get("response_label"), PLAIN, where),
            categories=_list(row.get("violated_categories")),
            language="en",
        )


def wildguard(folder: Path) -> Iterator[Example]:
    """The configuration `wildguardtest` of allenai/wildguardmix."""
    yield from wildguard_rows(records([one_of(folder, "*test*.parquet", "*test*.jsonl", "*test*.json", "*test*.csv")]))


def wildguard_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields prompt, response, adversarial, subcategory, prompt_harm_label, response_harm_label."""
    for number, row in enumerate(rows, 1):
        where = f"WildGuardTest row {number}"
        yield from _pair(
            str(row.get("id") or number),
            field_of(row, "prompt", where),
            row.get("response"),
            label_of(field_of(row, "prompt_harm_label", where), HARMFUL, where),
            label_of(row.get("response_harm_label"), HARMFUL, where),
            categories=_list(row.get("subcategory")),
            attack=_adversarial(row.get("adversarial")),
            language="en",
        )


def polyguard(folder: Path) -> Iterator[Example]:
    """The test split of ToxicityPrompts/PolyGuardPrompts."""
    yield from polyguard_rows(records(all_of(folder, "*test*.parquet", "*.parquet", "*test*.jsonl", "*.jsonl")))


def polyguard_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """WildGuardTest's fields, and language (spelled out) and an id that the translations of one prompt share."""
    for number, row in enumerate(rows, 1):
        where = f"PolyGuardPrompts row {number}"
        name = str(field_of(row, "id", where))
        language = code_of(field_of(row, "language", where))
        yield from _pair(
            f"{name}-{language or number}",
            field_of(row, "prompt", where),
            row.get("response"),
            label_of(field_of(row, "prompt_harm_label", where), HARMFUL, where),
            label_of(row.get("response_harm_label"), HARMFUL, where),
            categories=_list(row.get("subcategory")),
            attack=_adversarial(row.get("adversarial")),
            language=language,
            group=name,
        )


RTPLX_TOXIC_ABOVE = 1.0
"""RTP-LX rates toxicity from 1 (none) to 5. The card does not say where it cuts; anything above "none" is usual."""


def rtplx(folder: Path) -> Iterator[Example]:
    """The release's JSON per locale, or ToxicityPrompts/RTP-LX as Parquet."""
    yield from rtplx_rows(records(all_of(folder, "*.parquet", "**/*RTP*LX*.json", "*.json", "*.jsonl")))


def rtplx_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields Prompt, Locale, PromptAnnotations (with Toxicity) and an Index that translations share."""
    for number, row in enumerate(rows, 1):
        where = f"RTP-LX row {number}"
        text = field_of(row, "Prompt", where)
        annotations = field_of(row, "PromptAnnotations", where)
        toxicity = annotations.get("Toxicity") if isinstance(annotations, dict) else None
        if not text or toxicity is None:
            continue
        locale = str(row.get("Locale") or "")
        label: Label = "unsafe" if float(toxicity) > RTPLX_TOXIC_ABOVE else "safe"
        group = str(row.get("Index") if row.get("Index") is not None else "")
        yield Example(f"{number}", str(text), label=label, language=code_of(locale), group=group)


def aya(folder: Path) -> Iterator[Example]:
    """`aya_<language>.jsonl` of CohereLabs/aya_redteaming; every prompt is harmful."""
    yield from aya_rows(records(all_of(folder, "aya_*.jsonl", "*.parquet", "*.jsonl")))


def aya_rows(rows: Iterable[Record]) -> Iterator[Example]:
    """Fields prompt, language, harm_category (a list, or a list written as text), global_or_local."""
    for number, row in enumerate(rows, 1):
        where = f"Aya row {number}"
        yield Example(
            str(number),
            field_of(row, "prompt", where),
            label="unsafe",
            language=code_of(row.get("language")),
            categories=_list(field_of(row, "harm_category", where)),
            attack=str(row["global_or_local"]) if row.get("global_or_local") else None,
        )


XSAFETY_LANGUAGES = {"sp": "es"}
"""The release names its folder of Spanish `sp`; the others by their codes."""


def xsafety(folder: Path) -> Iterator[Example]:
    """One folder per language with headerless one-column CSV files, one per scenario; the commonsense files are left
    out.

    Those ask harmless questions; the rest is taken as harmful, which the release itself does not state row by row.
    """
    found = False
    for path in sorted(folder.glob("??/*.csv")):
        scenario = path.stem
        for ending in ("_en", "_n"):
            scenario = scenario.removesuffix(ending)
        if scenario.lower().replace("_", "").startswith(("commonsense", "commensense")):
            continue
        found = True
        language = XSAFETY_LANGUAGES.get(path.parent.name, path.parent.name)
        yield from _xsafety_file(path, language, scenario.replace("_", " "))
    if not found:
        raise missing(folder, "<language>/<scenario>.csv")


XSAFETY_ATTACKS = frozenset(
    {
        "Goal Hijacking",
        "Inquiry With Unsafe Opinion",
        "Prompt Leaking",
        "Reverse Exposure",
        "Role Play Instruction",
        "Unsafe Instruction Topic",
    }
)


def _xsafety_file(path: Path, language: str, scenario: str) -> Iterator[Example]:
    import csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, cells in enumerate(csv.reader(file), 1):
            text = ",".join(cells).strip()  # some files leave commas unquoted; each line is one prompt
            if text:
                attack = scenario if scenario in XSAFETY_ATTACKS else None
                # the n-th line of a scenario is the same prompt in every language
                yield Example(
                    f"{language}-{scenario}-{number}",
                    text,
                    label="unsafe",
                    language=language,
                    categories=(scenario,),
                    attack=attack,
                    group=f"{scenario}-{number}",
                )


def _pair(
    name: str,
    prompt: str,
    response: Any,
    prompt_label: Label | None,
    response_label: Label | None,
    *,
    categories: tuple[str, ...] = (),
    attack: str | None = None,
    language: str | None = None,
    group: str = "",
) -> Iterator[Example]:
    """A prompt as an input, and its response as an output that answers it: the two rails that would meet them."""
    if prompt_label is not None and prompt:
        yield Example(
            name, prompt, "input", prompt_label, language=language, categories=categories, attack=attack, group=group
        )
    if response_label is not None and response:
        yield Example(
            f"{name}-response",
            str(response),
            "output",
            response_label,
            prompt=prompt,
            language=language,
            categories=categories,
            attack=attack,
            group=group,
        )


def _adversarial(value: Any) -> str | None:
    if value is None:
        return None
    return "adversarial" if str(value).lower() in ("true", "1") else "vanilla"


def _list(value: Any) -> tuple[str, ...]:
    """A list, a list written as text, or names with commas between them."""
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                return (text,)
        else:
            return tuple(part.strip() for part in text.split(",") if part.strip())
    return tuple(str(part) for part in value)
