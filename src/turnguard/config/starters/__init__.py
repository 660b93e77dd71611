"""The policies that `turnguard init` writes, as package data; `config_examples/` holds the same files."""

from __future__ import annotations

from importlib import resources

STYLES: dict[str, str] = {
    "strict": "block whatever the model calls unsafe, and lean towards unsafe where it is unsure",
    "balanced": "block what harms, redact personal data, flag what is a matter of taste",
    "observe-only": "withhold nothing; write down what would have happened",
    "full": "every key with its default, explained",
}


def starter(style: str) -> str:
    """The YAML of one style. Raises `KeyError` for a style that is not one of `STYLES`."""
    if style not in STYLES:
        raise KeyError(style)
    name = "turnguard" if style == "full" else style.replace("-", "_")
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
