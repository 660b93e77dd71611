"""A row of a benchmark or of your own data, as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from turnguard.core.row import step_of_row
from turnguard.core.step import STAGES, ImageSource, Stage, Step
from turnguard.core.verdict import Label

LABELS: tuple[Label, ...] = get_args(Label)

COLUMNS = ("id", "stage", "text", "images", "documents", "prompt", "label")
"""The columns of `turnguard batch`; all but one of text, images and documents may be missing."""
EXTRA_COLUMNS = ("language", "categories", "attack", "group", "tool")
"""What `turnguard eval` and `turnguard calibrate` read besides."""


KNOWN = (*COLUMNS, *EXTRA_COLUMNS)


class BadRow(ValueError):
    """A row that cannot be judged; the message leaves out its number."""


@dataclass(frozen=True, slots=True)
class Example:
    """A step to judge and what is known about it.

    `label` is the truth about the side that the stage judges (the user's for input, retrieval, tool_result and tools;
    the response's for output and tool_call). `categories` and `attack` are the data's own words, for breakdowns only.
    Rows that share a `group` (translations of one prompt) are not independent: intervals and folds keep them together.
    """

    id: str
    text: str = field(default="", repr=False)
    stage: Stage = "input"
    label: Label | None = None
    images: tuple[ImageSource, ...] = field(default=(), repr=False)
    documents: tuple[bytes | Path | str, ...] = field(default=(), repr=False)
    prompt: str | None = field(default=None, repr=False)
    language: str | None = None
    categories: tuple[str, ...] = ()
    attack: str | None = None
    group: str = ""
    tool: str = "tool"

    def step(self) -> Step:
        """The step as the guard takes it. Raises `BadRow` where the parts do not fit the stage."""
        try:
            return step_of_row(
                self.stage,
                self.text,
                self.images,
                self.documents,
                prompt=self.prompt,
                tool=self.tool,
                language=self.language,
            )
        except (ValueError, TypeError) as error:
            raise BadRow(str(error)) from None


def from_row(data: Mapping[str, Any], base: Path, number: int, *, anywhere: bool = False) -> Example:
    """Read a row of your own data. Raises `BadRow`, a sentence without content.

    Paths are relative to `base` and lead to files below it, links followed, unless `anywhere`.
    """
    if unknown := [key for key in data if key not in KNOWN]:
        raise BadRow(unknown_columns(unknown))
    stage = _plain(data, "stage") or "input"
    if stage not in STAGES:
        raise BadRow(f"stage is none of {', '.join(STAGES)}")
    label = _plain(data, "label").lower() or None
    if label is not None and label not in LABELS:
        raise BadRow("label is neither safe nor unsafe")
    text = data.get("text")
    if text is not None and not isinstance(text, str):
        raise BadRow(f"text is not text but {type(text).__name__}")
    if isinstance(text, str) and _SURROGATE.search(text):
        raise BadRow("text is not valid UTF-8")
    prompt = data.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise BadRow(f"prompt is not text but {type(prompt).__name__}")
    return Example(
        id=_plain(data, "id") or str(number),
        text=text or "",
        stage=stage,
        label=label,
        images=_sources(data.get("images"), "images", base, anywhere),
        documents=_sources(data.get("documents"), "documents", base, anywhere),
        prompt=prompt or None,
        language=_plain(data, "language") or None,
        categories=_names(data.get("categories")),
        attack=_plain(data, "attack") or None,
        group=_plain(data, "group"),
        tool=_plain(data, "tool") or "tool",
    )


_SURROGATE = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` leaves where a file was not UTF-8."""


def _plain(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise BadRow(f"{key} is not text but {type(value).__name__}")


def listed(value: Any, key: str) -> Sequence[Any]:
    """Return a list: the value itself, a JSON list written in a cell, or the single value."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRow(f"{key} begins like a JSON list and is none") from None
    return value if isinstance(value, list) else [value]


def unknown_columns(names: Sequence[Any]) -> str:
    """A sentence about columns that are not read, with the nearest ones that are."""
    name = str(names[0])
    near = get_close_matches(name, KNOWN, 1)
    return f"there is no column {name!r}" + (
        f": did you mean {near[0]}?" if near else f"; there are {', '.join(KNOWN)}"
    )


def _sources(value: Any, key: str, base: Path, anywhere: bool) -> tuple[Any, ...]:
    return tuple(_one_source(item, key, base, anywhere) for item in listed(value, key))


def _one_source(item: Any, key: str, base: Path, anywhere: bool) -> Any:
    if isinstance(item, Mapping):  # the picture type of Hugging Face's Parquet files
        item = item.get("bytes") or item.get("path")
    if isinstance(item, (bytes, bytearray)):
        return bytes(item)
    if not isinstance(item, str) or not item:
        raise BadRow(f"{key} takes file names, data: URIs or bytes, not {type(item).__name__}")
    if item[:8].lower().startswith(("data:", "http://", "https://")):
        return item
    try:
        if not anywhere and not (base / item).resolve().is_relative_to(base.resolve()):
            raise BadRow(f"{key} names a file outside the data's folder, which --anywhere allows")
    except BadRow:
        raise
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        raise BadRow(f"{key} names a file that cannot be found") from None
    return base / item


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(str(name) for name in listed(value, "categories"))
