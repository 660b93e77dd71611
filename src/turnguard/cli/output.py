"""What the commands print, and how errors are told. Stdout carries the answer, stderr everything else."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError, TurnguardError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PASSED, WITHHELD, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """The command line itself is wrong: one sentence that says what to write instead."""


def prepare() -> None:
    """No character may stop the output: what the terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def finish() -> None:
    """Flush now, so that a reader who left early (`| head`) does not become an error message at interpreter exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _to_nowhere(stream)


def _to_nowhere(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def console(*, stderr: bool = False) -> Console:
    """Colours on a terminal only; no markup is read, so that content cannot style (or link) anything."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)


def show(*renderables: RenderableType) -> None:
    """Print for a person. A reader who left does not change the command's exit code."""
    try:
        console().print(*renderables)
    except BrokenPipeError:
        _to_nowhere(sys.stdout)


def line(text: str) -> None:
    """One line on stdout, whatever its length."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        _to_nowhere(sys.stdout)


def data(value: Any) -> None:
    """One JSON document on stdout."""
    line(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def note(text: str) -> None:
    """A sentence for the person at the terminal, on stderr."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stderr.write(f"turnguard: {text}\n")


def plain(text: str) -> str:
    """Text without control characters: what a file or a server is called cannot move the cursor."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n" else c for c in text)


def report(error: Exception, *, as_json: bool) -> int:
    """Tell an error and return the exit code that belongs to it."""
    code, problems = _told(error)
    if as_json:
        data({"error": "\n".join(problems), "problems": problems, "exit_code": code})
    else:
        for problem in problems:
            note(plain(problem))
    return code


def _told(error: Exception) -> tuple[int, list[str]]:
    if isinstance(error, ConfigError):
        return USAGE, list(error.problems)
    if isinstance(error, UsageError):
        return USAGE, [str(error)]
    if isinstance(error, TurnguardError):
        return FAILED, [str(error)]
    # typer brought click along under two names over its versions, so its errors are known by what they can do
    message = getattr(error, "format_message", None)
    if callable(message):
        return USAGE, [f"{message()} (turnguard --help shows the commands)"] if message() else []
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if package in _EXTRAS:
        return USAGE, [f"the package {package!r} is not installed: pip install 'turnguard[{_EXTRAS[package]}]'"]
    if isinstance(error, OSError):
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return USAGE, [f"{where}{error.strerror or type(error).__name__}"]
    return FAILED, [f"unexpected {type(error).__name__}; TURNGUARD_TRACEBACK=1 shows where"]


_EXTRAS = {  # package → the extra that brings it
    "nemoguardrails": "nemo",
    "langchain": "langchain",
    "langchain_core": "langchain",
    "langgraph": "langchain",
    "rapidocr": "sandbox",
    "pypdfium2": "documents",
    "opentelemetry": "otel",
    "datasets": "eval",
    "jinja2": "eval",
    "numpy": "eval",
    "sklearn": "eval",
    "pyarrow": "eval",
    "torch": "local",
    "transformers": "local",
}
