"""One way to validate what a person wrote: pydantic's complaints as sentences with a place and a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from turnguard.core.taxonomy import canonical


class Section(BaseModel):
    """A mapping in the YAML: an unknown key is an error, never forwarded."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Problem(NamedTuple):
    """One mistake: where in the document, and a sentence."""

    path: tuple[str | int, ...]
    message: str

    @property
    def where(self) -> str:
        """The place as it reads in the YAML."""
        return ".".join(str(key) for key in self.path) or "the document"


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], data: Any, at: tuple[str | int, ...] = ()) -> tuple[M | None, list[Problem]]:
    """Validate `data`, giving the model or a sentence for each mistake, with the nearest valid key or value."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems: dict[tuple[str | int, ...], Problem] = {}
        for detail in error.errors(include_url=False, include_input=False):
            problem = _sentence(model, data, detail, at)
            problems.setdefault(problem.path, problem)
        # where a union took a mapping, its scalar member complains too: the deeper complaint is the one that helps
        deeper = {path[:size] for path in problems for size in range(len(path))}
        return None, [problem for path, problem in problems.items() if path not in deeper]


def _sentence(model: type[BaseModel], data: Any, detail: Any, at: tuple[str | int, ...]) -> Problem:
    # a union adds the name of its member to the location: only keys that exist in the data are part of the path
    path: list[str | int] = []
    value = data
    is_key = False
    for key in detail["loc"]:
        if (isinstance(value, Mapping) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        ):
            value = value[key]
        elif key == "[key]":
            is_key = True
            break
        elif detail["type"] == "missing" and key == detail["loc"][-1]:
            pass
        else:
            continue
        path.append(key)
    where = (*at, *path)
    if detail["type"] == "extra_forbidden":
        names = _fields(model, path[:-1])
        key = str(path[-1])
        if "categories" in names and (category := canonical(key)) is not None:
            return Problem(where, f"{category!r} is a category: write it below 'categories', one level deeper")
        return Problem(where, f"unknown key {key!r}{_did_you_mean(key, names)}")
    if detail["type"] == "literal_error":
        choices = _choices(detail["ctx"]["expected"])
        given = path[-1] if is_key else value
        what = "key" if is_key else "value"
        if "rewrite" in choices and str(given).lower() in _WAYS:
            form = f"{{action: rewrite, with: {_WAYS[str(given).lower()]}}}"
            where = where[:-1] if where[-1:] == ("action",) and isinstance(data, Mapping) else where
            return Problem(where, f"unknown value {given!r}: write {form}")
        return Problem(
            where, f"unknown {what} {given!r}{_did_you_mean(str(given), choices)} One of: {', '.join(choices)}"
        )
    if detail["type"] == "missing":
        return Problem(where, f"{path[-1]!r} is missing")
    if detail["type"] in _WANTED:
        return Problem(where, f"expected {_WANTED[detail['type']]}, not {_plain(value)}")
    message = detail["msg"].removeprefix("Value error, ")
    return Problem(where, message[:1].lower() + message[1:])


_WANTED = {
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}


def _plain(value: Any) -> str:
    names = {type(None): "nothing", dict: "a mapping", list: "a list", bool: "true or false"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "text")


_WAYS = {
    **{way: way for way in ("redact", "drop", "replace")},
    **dict.fromkeys(("mask", "anonymize", "anonymise", "scrub"), "redact"),
    **dict.fromkeys(("remove", "delete", "strip"), "drop"),
    **dict.fromkeys(("substitute", "notice"), "replace"),
}
"""Ways to rewrite, and words for them, that people write where an action stands."""
_SYNONYMS = {
    **dict.fromkeys(("deny", "refuse", "reject", "forbid", "stop", "withhold", "fail", "closed"), "block"),
    **dict.fromkeys(("warn", "log", "report", "note", "monitor"), "flag"),
    **dict.fromkeys(("pass", "permit", "accept", "ok", "open", "ignore", "none"), "allow"),
    **dict.fromkeys(("ask", "hold", "approve", "approval", "human", "escalate"), "review"),
    **dict.fromkeys(("edit", "modify", "change"), "rewrite"),
    **dict.fromkeys(("truncate", "cut", "shorten"), "trim"),
    **dict.fromkeys(("threshold", "min", "minimum", "over", "confidence", "score", "greater_than"), "above"),
    **dict.fromkeys(("else", "below", "under"), "otherwise"),
    **dict.fromkeys(("how", "way", "mode", "method"), "with"),
    **dict.fromkeys(("rules", "category"), "categories"),
    **dict.fromkeys(("timeout",), "deadline"),
}
"""Words of other tools for ours: letters alone would lead from 'deny' to 'review'."""


def _did_you_mean(given: str, names: list[str]) -> str:
    meant = _SYNONYMS.get(given.lower())
    if meant in names:
        return f", did you mean {meant!r}?"
    match = get_close_matches(given.lower(), names, n=1, cutoff=0.0)
    return f", did you mean {match[0]!r}?" if match else ""


def _choices(expected: str) -> list[str]:
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


def _fields(model: type[BaseModel], path: list[str | int]) -> list[str]:
    """The keys that the model at `path` knows."""
    current: Any = model
    for key in path:
        info = _model_in(current)
        if info is not None:
            named = next((f for name, f in info.model_fields.items() if key in (name, f.alias)), None)
            current = named.annotation if named is not None else current
        else:
            current = next((arg for arg in get_args(current) if _model_in(arg) is not None), current)
    found = _model_in(current) or _model_in(next((a for a in get_args(current) if _model_in(a)), None))
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation is, or holds beside None or metadata."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if getattr(annotation, "__origin__", None) in (dict, list, tuple):
        return None
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)
