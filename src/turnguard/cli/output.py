"""Print results to stdout and everything else to stderr; turn errors into messages and exit codes."""

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
    """The command line is wrong; the message says what to write instead."""


def prepare() -> None:
    """Escape characters that the terminal's encoding lacks, so that none stops the output."""
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
    """Return a console with colours on a terminal only, and without markup, so that content cannot style anything."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False)


def show(*renderables: RenderableType) -> None:
    """Print for a person. A closed pipe does not change the exit code."""
    try:
        console().print(*renderables)
    except BrokenPipeError:
        _to_nowhere(sys.stdout)


def line(text: str) -> None:
    """Print one line to stdout, unwrapped."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        _to_nowhere(sys.stdout)


def data(value: Any) -> None:
    """Print one JSON document to stdout."""
    line(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def note(text: str) -> None:
    """Print a sentence to stderr."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stderr.write(f"turnguard: {text}\n")


def plain(text: str) -> str:
    """Return text without control characters, so that names cannot move the cursor."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n" else c for c in text)


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error and return its exit code."""
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
    "sqlalchemy": "records",
    "cryptography": "records",
    "psycopg": "records",
    "datasets": "eval",
    "jinja2": "eval",
    "numpy": "eval",
    "sklearn": "eval",
    "pyarrow": "eval",
    "fastapi": "service",
    "httptools": "service",
    "multipart": "service",
    "uvicorn": "service",
    "torch": "local",
    "transformers": "local",
}
