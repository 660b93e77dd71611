"""`turnguard policy schema`: a JSON Schema with which editors complete and check `turnguard.yaml`.

The schema comes from the pydantic models that read the file. What they check in validators is added here: durations,
amounts, the short form of a rule, category names in any case, variables in any value.
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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "turnguard.yaml",
        **{key: value for key, value in made.items() if key != "title"},
        "$defs": definitions,
    }


# ---------------------------------------------------------------- what the validators say


def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    from turnguard.config import values
    from turnguard.core import policy_settings as rules
    from turnguard.core.action import ACTIONS

    class Generator(GenerateJsonSchema):
        def function_before_schema(self, schema: Any) -> Any:
            inner = super().function_before_schema(schema)
            function = schema["function"]["function"]
            if function is values.duration:
                return _or_text(inner, r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h|d)?\s*$", "500ms", "2s", "1m")
            if function.__qualname__.startswith("amount."):
                return _or_text(inner, r"^\s*[0-9]+(\.[0-9]+)?\s*[kKmMgG]?([pP]|[bB])?\s*$", "50MP", "20MB")
            if function is rules._spelled_out:
                return {"anyOf": [{"enum": list(ACTIONS)}, inner]}
            return inner

    return Generator


def _or_text(inner: dict[str, Any], pattern: str, *examples: str) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "string", "pattern": pattern}], "examples": list(examples)}


def _tidied(node: Any) -> Any:
    """Give bounds their standard names, drop generated titles, and allow a variable where a value is not text."""
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
    """Add the rules about thresholds and names that a schema can express."""
    from turnguard.core.taxonomy import CATEGORIES

    rule = definitions["RuleSettings"]
    above = {"type": "number", "minimum": 0.5, "exclusiveMaximum": 1}
    _bounded(rule["properties"], "above", above)
    rule["dependentRequired"] = {"otherwise": ["above"]}
    stage = definitions["StageSettings"]["properties"]
    below = {"type": "number", "minimum": 0, "exclusiveMaximum": 0.5}
    _bounded(stage, "unsafe_above", below)
    general = definitions["PolicySettings"]["properties"]["categories"]
    definitions["Rule"] = general["additionalProperties"]
    for categories in (stage["categories"], general):
        categories["additionalProperties"] = {"$ref": "#/$defs/Rule"}
    messages = definitions["PolicySettings"]["properties"]["messages"]
    _named(general, CATEGORIES, ())
    _named(stage["categories"], CATEGORIES, ())
    _named(messages, CATEGORIES, MESSAGE_KEYS)
    # where a policy defines categories of its own, any name may stand at a stage and under messages
    names = {"categories": {"propertyNames": stage["categories"].pop("propertyNames")}}
    definitions["PolicySettings"] |= {
        "if": {"properties": {"custom": {"maxProperties": 0}}},
        "then": {
            "properties": {
                "messages": {"propertyNames": messages.pop("propertyNames")},
                "stages": {"additionalProperties": {"properties": names}},
            }
        },
    }
    languages = definitions["PolicySettings"]["properties"]["messages"]["additionalProperties"]
    languages["description"] = "The text in each language: {en: ..., de: ...}."


def _bounded(properties: dict[str, Any], name: str, bounds: dict[str, Any]) -> None:
    properties[name] = {**properties[name], "anyOf": [bounds, {"type": "null"}], "default": None}


def _named(node: dict[str, Any], categories: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Offer category names for completion, and accept them in any case and spacing."""
    of_each = node["additionalProperties"]
    names = [*categories, *more]
    any_case = "|".join(_any_case(name) for name in categories)
    node["properties"] = dict.fromkeys(names, of_each)
    node["propertyNames"] = {"anyOf": [{"enum": names}, {"pattern": f"^({any_case})$"}]}


def _any_case(name: str) -> str:
    """Return a pattern that ignores case and spacing, since JSON Schema has no flag for it."""
    letters = [f"[{c.lower()}{c.upper()}]" if c.isalpha() else re.escape(c) for c in name if not c.isspace()]
    return r"\s*" + r"\s*".join(letters) + r"\s*"
