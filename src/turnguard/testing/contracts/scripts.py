"""A scripted model and tools that record what reached them, without any framework."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PIECE = 7
"""Characters per streamed piece: no mark arrives whole."""


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call that the model proposes."""

    name: str
    arguments: Mapping[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Said:
    """One reply of the model: text, or calls."""

    text: str = ""
    calls: tuple[Called, ...] = ()

    def pieces(self) -> Iterator[str]:
        """The text as a provider streams it."""
        for start in range(0, len(self.text), PIECE):
            yield self.text[start : start + PIECE]


class ScriptedModel:
    """Says its script, reply by reply; the last one again when it is asked more often.

    Your adapter calls `next(messages)` wherever your agent asks its model. `seen` holds every prompt that came.
    """

    def __init__(self) -> None:
        self.script: list[Said] = []
        self.seen: list[Any] = []

    def says(self, text: str) -> ScriptedModel:
        """Append an answer to the script."""
        self.script.append(Said(text))
        return self

    def calls(self, name: str, **arguments: Any) -> ScriptedModel:
        """Append a tool call to the script."""
        self.script.append(Said(calls=(Called(name, arguments, f"call-{len(self.script) + 1}"),)))
        return self

    def next(self, messages: Any) -> Said:
        """Record what the model is sent, in whatever form your agent sends it, and reply."""
        try:
            self.seen.append(copy.deepcopy(messages))
        except Exception:  # noqa: BLE001 - what cannot be copied is looked at as it is
            self.seen.append(messages)
        if not self.script:
            raise AssertionError("the model was asked, and the contract expected that it is not")
        return self.script[min(len(self.seen), len(self.script)) - 1]


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gives back: a text, and perhaps a PNG."""

    text: str
    image: bytes | None = None


@dataclass
class ScriptedTool:
    """A tool `look_up(query)` that answers with `result` and records its calls."""

    name: str = "look_up"
    description: str = "Look something up."
    result: Result = Result("Nothing was found.")
    ran: list[dict[str, Any]] = field(default_factory=list)

    def run(self, arguments: Mapping[str, Any]) -> Result:
        """The tool's work. Your adapter calls this where your agent runs the tool."""
        self.ran.append(dict(arguments))
        return self.result
