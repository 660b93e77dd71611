"""The hand that reads a configuration's files: the YAML, and those that it names beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from turnguard.config.document import Config, parse
from turnguard.config.policies import of_file
from turnguard.config.yaml import read_yaml
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy

MAX_BYTES = 16_000_000
SQLITE = "sqlite:///"


def load(path: str | os.PathLike[str], *, read: set[Path] | None = None) -> Config:
    """Read a `turnguard.yaml`. Files that it names are relative to its folder, and are added to `read`. Raises
    `ConfigError`.
    """
    text = _read(Path(path), os.fspath(path))
    folder = Path(path).parent
    return _placed(parse(text, os.environ, os.fspath(path), beside(folder, read)), folder)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy in a `turnguard.yaml`, or in a file that holds nothing else: such a one is of no family yet."""
    name = os.fspath(path)
    data, _ = read_yaml(_read(Path(path), name), name)
    if set(data) != {"policy"}:
        return load(path).policy
    return of_file(name, None, os.environ, lambda file: _read(Path(file), file))


def load_again(config: Config) -> Config:
    """The file of `config` as it stands now. Raises `ConfigError`."""
    if not Path(config.source).is_file():
        raise ConfigError(f"{config.source}: there is no such file to read again")
    return load(config.source)


def _placed(config: Config, folder: Path) -> Config:
    """The files that are written to, counted from `folder`."""
    audit, records = config.audit, config.records
    if audit.path is not None:
        audit = audit.model_copy(update={"path": str(folder / audit.path)})
    url = records.url.get_secret_value() if records.url is not None else ""
    if url.startswith(SQLITE):
        file, query, rest = url.removeprefix(SQLITE).partition("?")
        placed = f"{SQLITE}{folder.absolute() / file}{query}{rest}"
        records = records.model_copy(update={"url": SecretStr(placed)})
    return replace(config, audit=audit, records=records)


def beside(folder: Path, read: set[Path] | None = None) -> Callable[[str], str]:
    """A reader of files named relative to `folder`; it adds them to `read`."""

    def reader(name: str) -> str:
        if read is not None:
            read.add(folder / name)
        return _read(folder / name, name)

    return reader


def _read(path: Path, shown: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{shown}: larger than {MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: not a UTF-8 text file") from None
