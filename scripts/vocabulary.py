"""Write src/turnguard/transcripts/vocabulary.json: the field names and enumerated values of the providers' messages.

Both come from the providers' own Python packages, so that no list is kept by hand:

    python scripts/vocabulary.py

Packages: openai, anthropic and google-genai. Bedrock, MCP, A2A, LangChain, Vercel's AI SDK, Haystack, Cohere and
Mistral publish no types that can be walked; the names that only they use stand in src/turnguard/transcripts/names.py.
"""

from __future__ import annotations

import enum
import json
import typing
from importlib.metadata import version
from pathlib import Path

import typing_extensions
from anthropic.types import MessageParam
from anthropic.types.beta import BetaMessageParam
from google.genai.types import Content
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam, ResponseOutputItem

ROOTS = (
    BetaMessageParam,
    MessageParam,
    ChatCompletionMessage,
    ChatCompletionMessageParam,
    ResponseInputItemParam,
    ResponseOutputItem,
    Content,
)
TARGET = Path(__file__).resolve().parents[1] / "src/turnguard/transcripts/vocabulary.json"


def walk(kind: object, keys: set[str], values: set[str], seen: set[object]) -> None:
    """Add what `kind` and the types inside it name."""
    if kind in seen:
        return
    seen.add(kind)
    if typing.get_origin(kind) is typing.Literal:
        values.update(value for value in typing.get_args(kind) if isinstance(value, str))
        return
    for inner in typing.get_args(kind):
        if not isinstance(inner, (list, str)):
            walk(inner, keys, values, seen)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        values.update(member.value for member in kind if isinstance(member.value, str))
    elif hasattr(kind, "model_fields"):
        for name, field in kind.model_fields.items():
            keys.update((name, field.alias or name))
            walk(field.annotation, keys, values, seen)
    elif typing_extensions.is_typeddict(typing.cast("type", kind)):
        for name, inner in typing_extensions.get_type_hints(kind).items():
            keys.add(name)
            walk(inner, keys, values, seen)


def main() -> None:
    """Write the file anew."""
    keys: set[str] = set()
    values: set[str] = set()
    for root in ROOTS:
        walk(root, keys, values, set())
    packages = {name: version(name) for name in ("openai", "anthropic", "google-genai")}
    TARGET.write_text(
        json.dumps({"from": packages, "keys": sorted(keys), "values": sorted(values)}, indent=1) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
