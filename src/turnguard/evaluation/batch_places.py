"""Where rows come from: a path, or any URL that fsspec knows (s3://, gs://, abfs:// …)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from turnguard.core.errors import ConfigError
from turnguard.evaluation.examples import BadRow, listed
from turnguard.evaluation.rows import FolderRows, Row, Rows, need, open_rows

NAMING = ("images", "documents")
"""The columns that may name files."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files are that rows name: `base` on this machine, or below the URL `remote`. `anywhere`: rows may name
    files outside `base`.
    """

    base: Path
    anywhere: bool = False
    remote: str | None = None


def local(where: str) -> Path | None:
    """The path of a file or folder of this machine; None for a URL of another place."""
    scheme, separator, path = where.rpartition("://")
    return Path(path) if not separator or scheme in ("file", "local") else None


def located(where: str) -> tuple[Any, str]:
    """The filesystem of a path or URL, and the path in it."""
    try:
        found, path = need("fsspec.core").url_to_fs(where)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return found, path


@contextmanager
def opened(source: str, *, anywhere: bool = False) -> Iterator[tuple[Rows, Place]]:
    """The rows of `source`, and where the files are that they name. A table that is elsewhere is copied here first; of
    a folder only the names are read.
    """
    path = local(source)
    if path is not None:
        rows = open_rows(path, anywhere=anywhere)
        yield rows, Place(rows.base, anywhere)
        return
    system, root = located(source)
    if not system.exists(root):
        raise ConfigError(f"{source}: no such file or folder")
    if system.isdir(root):
        yield _RemoteRows(system, root), Place(Path(), anywhere, source)
        return
    with tempfile.TemporaryDirectory(prefix="turnguard-") as folder:
        copy = Path(folder) / PurePosixPath(root).name
        system.get_file(root, str(copy))
        yield open_rows(copy, anywhere=anywhere), Place(Path(folder), anywhere, source.rsplit("/", 1)[0])


class _RemoteRows(FolderRows):
    """Every file under a folder that is elsewhere, sorted by path."""

    def __init__(self, system: Any, path: str) -> None:
        super().__init__(Path())
        self._found: dict[str, Any] = system.find(path, detail=True)
        self._under = path.rstrip("/") + "/"

    def progress(self) -> float:
        """By files."""
        return min(1.0, self._seen / max(1, len(self._found)))

    def fingerprint(self) -> str:
        """Over names, sizes and what else the filesystem tells of a file."""
        told = json.dumps(sorted(self._found.items()), default=str, sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def __iter__(self) -> Iterator[Row]:
        for number, path in enumerate(sorted(self._found), 1):
            self._seen = number
            yield Row(number, self.row_of(PurePosixPath(path.removeprefix(self._under))))


def names_files(row: Row) -> bool:
    """Whether a row may name files."""
    return row.data is not None and row.problem is None and any(row.data.get(key) for key in NAMING)


def fetch(row: Row, remote: str, folder: Path) -> Row:
    """Copy the files that a row names from below `remote` into `folder`, where they are then read."""
    assert row.data is not None  # noqa: S101 - names_files was asked
    system, root = located(remote)
    for key in NAMING:
        try:
            found = listed(row.data.get(key), key)
        except BadRow:
            continue  # whoever reads the row says so
        for item in found:
            name = (None if item.get("bytes") else item.get("path")) if isinstance(item, Mapping) else item
            if not isinstance(name, str) or not name or "://" in name or name.lower().startswith("data:"):
                continue
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                return Row(row.number, row.data, f"{key} names a file outside the data's folder")
            target = folder / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{root.rstrip('/')}/{path}", str(target))
            except Exception as error:  # noqa: BLE001 - every filesystem raises its own kinds
                return Row(row.number, row.data, f"{key} names a file that cannot be fetched ({type(error).__name__})")
    return Row(row.number, FolderRows.with_text(row.data, folder))
