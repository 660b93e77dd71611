"""One step as a flat row: what a line of `batch`, a request over HTTP and a benchmark have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnguard.core.step import Document, DocumentSource, ImageSource, Stage, Step


def step_of_row(
    stage: Stage,
    text: str = "",
    images: Sequence[ImageSource] = (),
    documents: Sequence[DocumentSource | Document] = (),
    *,
    prompt: str | None = None,
    tool: str = "tool",
    language: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Step:
    """Build the step that a row describes. The text of a `tool_call` is `{"name": ..., "arguments": ...}` or the
    arguments alone; that of `tools` is one definition as a JSON object. Raises `ValueError` or `TypeError`, a sentence
    without content, where the parts do not fit the stage.
    """
    # the name of a file is judged with it, and its ending is one reading
    papers = [Document(each, name=each.name) if isinstance(each, Path) else each for each in documents]
    if stage == "input":
        return Step.input(text, images, papers, language=language, metadata=metadata)
    if papers and stage != "tool_result":
        raise ValueError(f"documents cannot stand in a row of stage {stage}")
    if stage == "output":
        return Step.output(text, images, prompt=prompt, language=language, metadata=metadata)
    if stage == "tool_result":
        return Step.tool_result(tool, text, images, papers, prompt=prompt, language=language, metadata=metadata)
    if stage == "tool_call":
        # the call stands against the request and, where there is one, its picture
        name, arguments = _call(text, tool)
        return Step.tool_call(
            name, arguments, prompt=prompt, prompt_images=images, language=language, metadata=metadata
        )
    if images:
        raise ValueError(f"images cannot stand in a row of stage {stage}")
    if stage == "tools":
        return Step.tools([_definition(text)], language=language, metadata=metadata)
    return Step.retrieval([text], prompt=prompt, language=language, metadata=metadata)


def _definition(text: str) -> Mapping[str, Any]:
    """One tool's definition, as a JSON object."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        # whoever reads rows catches ValueError alone, as for every other mistake in the text
        raise ValueError("the text of a row of stage tools is one tool's definition, as a JSON object")  # noqa: TRY004
    return data


def _call(text: str, tool: str) -> tuple[str, Mapping[str, Any] | str]:
    """`{"name": ..., "arguments": ...}`, or the arguments alone."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return tool, text
    # with any other key beside them the whole text is judged, so that nothing in it goes unread
    if isinstance(data, dict) and data.keys() == {"name", "arguments"} and isinstance(data["name"], str):
        arguments = data["arguments"]
        return data["name"], arguments if isinstance(arguments, (dict, str)) else text
    return tool, text
