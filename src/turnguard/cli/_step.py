"""Arguments of `turnguard check` → a `Step`. Every mistake is a `UsageError` with a remedy."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from turnguard.cli.output import UsageError
from turnguard.core.step import STAGES, DocumentSource, ImageSource, Step

MAX_STDIN = 64_000_000
"""Bytes. Text beyond `max_windows` is uncheckable anyway; this only keeps an endless pipe from filling memory."""

STDIN = "-"


def step_from(
    text: str | None,
    *,
    stage: str = "input",
    prompt: str | None = None,
    tool: str | None = None,
    images: Sequence[str] = (),
    documents: Sequence[str] = (),
    language: str | None = None,
) -> Step:
    """Build the step that the command line describes, reading stdin where it says so."""
    stage = _stage(stage)
    piped = [*images, *documents].count(STDIN)
    if piped + (text == STDIN) > 1:
        raise UsageError("stdin can be read once: give '-' for the text, one image or one document")
    if text == STDIN or (text is None and not piped and not _is_terminal()):
        text = _text_of_stdin()
    pictures = [_image(source) for source in images]
    papers = [_document(source) for source in documents]
    _refuse_what_the_stage_lacks(stage, prompt, tool, bool(papers), bool(pictures))
    try:
        return _step(stage, text or "", prompt, tool, pictures, papers, language)
    except (ValueError, TypeError) as error:
        if not (text or "").strip() and not pictures and not papers:
            raise UsageError("nothing to judge: give TEXT, '-' to read it from stdin, --image or --document") from None
        raise UsageError(str(error)) from None


def _step(
    stage: str,
    text: str,
    prompt: str | None,
    tool: str | None,
    images: list[ImageSource],
    documents: list[DocumentSource],
    language: str | None,
) -> Step:
    if stage == "input":
        return Step.input(text, images, documents, language=language)
    if stage == "retrieval":
        return Step.retrieval([text], prompt=prompt, language=language)
    if stage == "tool_call":
        if not text.strip():
            raise UsageError("a tool call needs its arguments as TEXT; '{}' where it has none")
        return Step.tool_call(
            tool or "", _object(text, stage, ARGUMENTS), prompt=prompt, prompt_images=images, language=language
        )
    if stage == "tool_result":
        return Step.tool_result(tool or "tool", text, images, documents, prompt=prompt, language=language)
    if stage == "tools":
        return Step.tools([_object(text, stage, DEFINITION)], language=language)
    return Step.output(text, images, prompt=prompt, language=language)


def _stage(given: str) -> str:
    name = given.strip().lower().replace("-", "_")
    if name in STAGES:
        return name
    near = get_close_matches(name, STAGES, n=1, cutoff=0.0)[0]
    raise UsageError(f"--stage: unknown stage {given!r}, did you mean {near!r}? One of: {', '.join(STAGES)}")


def _refuse_what_the_stage_lacks(
    stage: str, prompt: str | None, tool: str | None, documents: bool, images: bool
) -> None:
    """Refuse options that the stage would ignore: their content would pass unjudged."""
    if prompt is not None and stage in ("input", "tools"):
        raise UsageError("--prompt is the request that a later step answers; for --stage input give it as TEXT")
    if stage == "tool_call" and not tool:
        raise UsageError("--stage tool_call needs --tool NAME, and the arguments as TEXT")
    if tool and stage not in ("tool_call", "tool_result"):
        raise UsageError(f"--tool belongs to --stage tool_call or tool_result, not {stage}")
    if documents and stage not in ("input", "tool_result"):
        raise UsageError(f"--document belongs to --stage input or tool_result, not {stage}")
    if images and stage in ("retrieval", "tools"):
        raise UsageError(f"--image does not belong to --stage {stage}; judge it as --stage tool_result")


ARGUMENTS = """write the arguments as a JSON object, such as '{"command": "ls"}'"""
DEFINITION = """write the tool's definition as a JSON object, such as '{"name": "ls", "description": "Lists files."}'"""


def _object(text: str, stage: str, form: str) -> dict[str, object]:
    """Read a JSON object. Half of one would be judged as something that no tool or model receives."""
    import json

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"--stage {stage}: TEXT is not JSON ({error.msg}, line {error.lineno} column {error.colno}); {form}"
        ) from None
    except RecursionError:
        raise UsageError(f"--stage {stage}: TEXT is JSON nested too deeply to read") from None
    if not isinstance(value, dict):
        raise UsageError(f"--stage {stage}: TEXT is JSON, but no object; {form}")
    return value


# ---------------------------------------------------------------- files and stdin


def _image(source: str) -> ImageSource:
    if source[:8].lower().startswith(("data:", "http://", "https://")):
        return source
    return _file(source, "--image")


def _document(source: str) -> DocumentSource:
    return source if source[:5].lower() == "data:" else _file(source, "--document")


def _file(source: str, option: str) -> Path | bytes:
    if source == STDIN:
        found = _bytes_of(_stdin(), "stdin")
        if not found:
            raise UsageError(f"{option} -: stdin is empty")
        return found
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {source}: {getattr(error, 'strerror', None) or 'not a file name'}") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{option} {source}: this is a folder, a file is expected")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{option} {source}: permission denied")
    if stat.S_ISREG(mode):
        return path
    with path.open("rb") as pipe:  # a named pipe or the shell's <(command) can be read once only
        return _bytes_of(pipe, source)


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("there is no stdin to read")
    return sys.stdin.buffer


def _bytes_of(stream: BinaryIO, name: str) -> bytes:
    found = stream.read(MAX_STDIN + 1)
    if len(found) > MAX_STDIN:
        raise UsageError(f"{name} holds more than {MAX_STDIN // 1_000_000} MB; nothing of it was judged")
    return found


def _text_of_stdin() -> str:
    found = _bytes_of(_stdin(), "stdin")
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError("stdin is not UTF-8 text; hand over a picture with --image -, a document with --document -")
    return text
