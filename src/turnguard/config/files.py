"""The hand that reads a configuration's files: the YAML, and those that it names beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from turnguard.config.document import Config, parse
from turnguard.core.errors import ConfigError

MAX_BYTES = 16_000_000


def load(path: str | os.PathLike[str]) -> Config:
    """Read a `turnguard.yaml`. Files that it names are relative to its folder. Raises `ConfigError`."""
    text = _read(Path(path), os.fspath(path))
    return parse(text, os.environ, os.fspath(path), beside(Path(path).parent))


def beside(folder: Path) -> Callable[[str], str]:
    """A reader of files named relative to `folder`."""
    return lambda name: _read(folder / name, name)


def _read(path: Path, shown: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{shown}: larger than {MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: not a UTF-8 text file") from None
