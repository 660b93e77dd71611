"""`turnguard policy schema`: a JSON Schema, so that editors complete and check `turnguard.yaml` while it is written.

Made from the same pydantic models that read the file. What they say in validators (durations, amounts, the short form
of a rule, category names in any case, variables in any value) is added here. Descriptions are the comments of the
starter with every key, so that they stand once.
"""

from __future__ import annotations

import re
from typing import Any

import typer

VARIABLE = {"$ref": "#/$defs/Variable"}
MESSAGE_KEYS = ("default", "failure", "uncheckable", "removed", "cut", "left_out")


def schema(
    compact: bool = typer.Option(False, "--compact", help="On one line."),
) -> int:
    """Print the JSON Schema of turnguard.yaml. Editors: '# yaml-language-server: $schema=turnguard.schema.json'."""
    import json

    from turnguard.cli import output

    if compact:
        output.line(json.dumps(json_schema(), ensure_ascii=False, separators=(",", ":")))
    else:
        output.data(json_schema())
    return output.PASSED


def json_schema() -> dict[str, Any]:
    """The schema of `turnguard.yaml`, JSON Schema 2020-12."""
    from turnguard.config.document import Document

    made = Document.model_json_schema(by_alias=True, schema_generator=_generator())
    definitions: dict[str, Any] = made.pop("$defs")
    for definition in [*definitions.values(), made]:
        for name, value in definition.get("properties", {}).items():
            definition["properties"][name] = _tidied(value)
    _rules(definitions)
    definitions["Variable"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
        "description": "A value from the environment: ${VAR}, or ${VAR:-default}.",
    }
    _described(made, definitions, comments())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "turnguard.yaml",
        **{key: value for key, value in made.items() if key != "title"},
        "$defs": definitions,
    }


# ---------------------------------------------------------------- what the validators say


def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    from turnguard.config import settings
    from turnguard.core import policy_settings as rules
    from turnguard.core.action import ACTIONS

    class Generator(GenerateJsonSchema):
        def function_before_schema(self, schema: Any) -> Any:
            inner = super().function_before_schema(schema)
            function = schema["function"]["function"]
            if function is settings._duration:
                return _or_text(inner, r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h)?\s*$", "500ms", "2s", "1m")
            if function.__qualname__.startswith("_amount."):
                return _or_text(inner, r"^\s*[0-9]+(\.[0-9]+)?\s*[kKmMgG]?([pP]|[bB])?\s*$", "50MP", "20MB")
            if function is rules._spelled_out:
                return {"anyOf": [{"enum": list(ACTIONS)}, inner]}
            return inner

    return Generator


def _or_text(inner: dict[str, Any], pattern: str, *examples: str) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "string", "pattern": pattern}], "examples": list(examples)}


def _tidied(node: Any) -> Any:
    """Bounds under their standard names, no generated titles, and a variable wherever a value is not text anyway."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    renamed = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
    tidy: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("title", "format", "writeOnly"):
            continue
        keep = key in ("default", "enum", "examples", "propertyNames")
        tidy[renamed.get(str(key), str(key))] = value if keep else _tidied(value)
    if "enum" in tidy or tidy.get("type") in ("number", "integer", "boolean"):
        outer = {key: tidy.pop(key) for key in ("default", "description", "examples") if key in tidy}
        return {"anyOf": [tidy, VARIABLE], **outer}
    return tidy


def _rules(definitions: dict[str, Any]) -> None:
    """What lint says about thresholds and names, as far as a schema can."""
    from turnguard.core.taxonomy import CATEGORIES

    rule = definitions["RuleSettings"]
    above = {"type": "number", "minimum": 0.5, "exclusiveMaximum": 1}
    rule["properties"]["above"] = {"anyOf": [above, {"type": "null"}], "default": None}
    rule["dependentRequired"] = {"otherwise": ["above"]}
    stage = definitions["StageSettings"]["properties"]
    below = {"type": "number", "minimum": 0, "exclusiveMaximum": 0.5}
    stage["unsafe_above"] = {"anyOf": [below, {"type": "null"}], "default": None}
    general = definitions["PolicySettings"]["properties"]["categories"]
    definitions["Rule"] = general["additionalProperties"]
    for categories in (stage["categories"], general):
        categories["additionalProperties"] = {"$ref": "#/$defs/Rule"}
        _named(categories, CATEGORIES, ())
    _named(definitions["PolicySettings"]["properties"]["messages"], CATEGORIES, MESSAGE_KEYS)
    languages = definitions["PolicySettings"]["properties"]["messages"]["additionalProperties"]
    languages["description"] = "The text in each language: {en: ..., de: ...}."


def _named(node: dict[str, Any], categories: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Keys that are categories: their own spelling for completion, any case and spacing for checking."""
    of_each = node["additionalProperties"]
    names = [*categories, *more]
    any_case = "|".join(_any_case(name) for name in categories)
    node["properties"] = dict.fromkeys(names, of_each)
    node["propertyNames"] = {"anyOf": [{"enum": names}, {"pattern": f"^({any_case})$"}]}


def _any_case(name: str) -> str:
    """JSON Schema has no flag for it. Spacing does not count either (`taxonomy.canonical`)."""
    letters = [f"[{c.lower()}{c.upper()}]" if c.isalpha() else re.escape(c) for c in name if not c.isspace()]
    return r"\s*" + r"\s*".join(letters) + r"\s*"


# ---------------------------------------------------------------- descriptions

_KEY = re.compile(r"^( *)([A-Za-z_/ ()]+?):(?: .*?)?(?: # ?(.*))?$")


def comments() -> dict[tuple[str, ...], str]:
    """The comment behind each key of the starter that holds every key."""
    from turnguard.config.starters import starter

    found: dict[tuple[str, ...], str] = {}
    path: tuple[str, ...] = ()
    for line in starter("full").splitlines():
        if line.lstrip().startswith("#"):
            if path and line.startswith(" " * 8):
                found[path] += " " + line.strip("# ")
            continue
        match = _KEY.match(line)
        if match is None:
            path = ()
            continue
        indent, key, comment = match.groups()
        path = (*path[: len(indent) // 2], key)
        if comment:
            found[path] = re.sub(r"\s+", " ", comment)
    return found


_INNER = {
    "RuleSettings": {
        "action": "What happens: allow, flag, rewrite, review or block.",
        "with": "How a rewrite is done: replace the text by a notice, drop the part, or redact the unsafe pieces.",
        "above": "The rule fires only when P(unsafe) is greater than this; else 'otherwise' applies.",
        "otherwise": "The action below 'above'; flag when it is not given.",
    },
    "StageSettings": {
        "default": "At this stage: a category with no rule of its own here or in policy.categories.",
        "categories": "At this stage: a rule per category, before policy.categories.",
        "unsafe_above": "Unsafe from this P(unsafe) on, whatever the label says. Needs logprobs.",
        "on_failure": "At this stage: when the moderator gave no verdict.",
        "on_uncheckable": "At this stage: what cannot be judged, or an action per kind.",
        "on_reduced": "At this stage: what is judged at a low resolution, or an action per kind.",
    },
    "FallbackSettings": {"authority": "block_only: its unsafe verdicts count, its safe ones do not."},
}
"""What the starter shows only in passing."""


def _described(made: dict[str, Any], definitions: dict[str, Any], said: dict[tuple[str, ...], str]) -> None:
    for inner, texts in _INNER.items():
        for name, value in definitions[inner]["properties"].items():
            text = texts.get(name) or said.get(("moderator", name))
            if text:
                value["description"] = text
    for section, node in made["properties"].items():
        if (section,) in said:
            node["description"] = said[section,]
        # a section is `$ref`, or `allOf` around it where it has a default, depending on pydantic's version
        reference = node.get("$ref") or node.get("allOf", [{}])[0].get("$ref", "")
        for name, value in definitions[reference.rpartition("/")[2]]["properties"].items():
            if (section, name) in said:
                value["description"] = said[section, name]
