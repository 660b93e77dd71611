"""Rows of a file or a folder, one at a time: JSONL, CSV, Parquet, or files in a folder. Never the whole in memory.

A row that cannot be read does not end the reading: it comes as a `Row` with a problem, in its place.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from turnguard.core.errors import ConfigError
from turnguard.evaluation.examples import KNOWN, unknown_columns

MAX_LINE = 256_000_000
"""A longer line is no row: pictures as data: URIs stay far below it."""
IMAGES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".svg", ".ico"}
)
"""Files of a folder that are pictures. Whatever a name says, what the bytes are is told when they are read."""
TEXTS = frozenset({".txt", ".md"})
_LONGEST_TEXT = 1_000_000  # bytes; a longer one is read as a document


class Row(NamedTuple):
    """A row as it was found: its number (from 1; the line's for JSONL), and its data or what is wrong with it."""

    number: int
    data: dict[str, Any] | None
    problem: str | None = None


class Rows(Protocol):
    """A place that rows come from. `progress()` is how much of it was read, from 0 to 1."""

    base: Path
    anywhere: bool
    """Whether a row may name files outside `base`."""

    def __iter__(self) -> Iterator[Row]: ...

    def columns(self) -> Sequence[str] | None:
        """The columns, where the format knows them beforehand."""
        ...

    def progress(self) -> float: ...

    def fingerprint(self) -> str:
        """A digest that changes with the rows."""
        ...


def open_rows(path: Path, *, anywhere: bool = False) -> Rows:
    """The reader for a path, by its kind. Raises `ConfigError` for what is none of the formats, and for a table whose
    columns are unknown, stand twice or hold nothing to judge.
    """
    rows = _reader(path)
    rows.anywhere = anywhere
    columns = rows.columns()
    if columns is not None:
        _check_columns(columns, path)
    return rows


def _reader(path: Path) -> Rows:
    if path.is_dir():
        return FolderRows(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    readers: dict[str, Callable[[Path], Rows]] = {
        ".jsonl": JsonRows,
        ".ndjson": JsonRows,
        ".csv": CsvRows,
        ".tsv": CsvRows,
        ".parquet": ParquetRows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(
            f"{path}: expected .jsonl, .csv, .tsv, .parquet or a folder, not {path.suffix or 'this file'!r}"
        )
    return reader(path)


def _check_columns(columns: Sequence[str], path: Path) -> None:
    if not {"text", "images", "documents"} & set(columns):
        raise ConfigError(
            f"{path}: a column text, images or documents is missing; it has {', '.join(columns) or 'no header'}"
        )
    if doubled := [name for name, count in Counter(columns).items() if count > 1]:
        raise ConfigError(f"{path}: the column {doubled[0]!r} stands twice")
    if unknown := [name for name in columns if name not in KNOWN]:
        raise ConfigError(f"{path}: {unknown_columns(unknown)}")


class _FileRows:
    """What the file formats share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.parent
        self.anywhere = False
        self._size = max(1, path.stat().st_size)
        self._read = 0

    def progress(self) -> float:
        """By bytes, so that nothing has to be counted beforehand."""
        return min(1.0, self._read / self._size)

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        with self.path.open("rb") as file:
            return _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


class JsonRows(_FileRows):
    """One JSON object per line. Empty lines are passed over; the number is the line's."""

    def columns(self) -> None:
        """Each line has its own."""

    def __iter__(self) -> Iterator[Row]:
        self._read = 0
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                self._read += len(line)
                if line.isspace():
                    continue
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    raise ConfigError(f"{self.path}: row {number}: longer than {MAX_LINE:,} bytes")
                yield _parsed(line, number)


def _parsed(line: bytes, number: int) -> Row:
    try:
        data = json.loads(line, object_pairs_hook=_once)
    except UnicodeDecodeError:
        return Row(number, None, "not valid UTF-8")
    except RecursionError:
        return Row(number, None, "nested too deeply")
    except _Doubled as error:
        return Row(number, None, f"the key {error.args[0]!r} stands twice")
    except ValueError as error:
        return Row(number, None, f"not valid JSON ({str(error).split(':', 1)[0]})")
    if not isinstance(data, dict):
        return Row(number, None, f"expected a JSON object, not {type(data).__name__}")
    return Row(number, data)


class _Doubled(Exception):
    """A key that an object holds twice: readers differ in which of the values counts."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Doubled(next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))
    return found


class CsvRows(_FileRows):
    """CSV (or TSV) with a header, in UTF-8. The first row after the header is row 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        csv.field_size_limit(MAX_LINE)

    def columns(self) -> Sequence[str]:
        """The header."""
        with self.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            return next(csv.reader(file, delimiter=self._delimiter), [])

    def __iter__(self) -> Iterator[Row]:
        self._read = 0
        # what is not UTF-8 is seen row by row, where the row can say so
        with self.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(self._counted(file), delimiter=self._delimiter)
            header = next(reader, [])
            number = 0
            while True:
                number += 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Row(number, None, f"not valid CSV ({error})")
                    continue
                if not cells:
                    number -= 1
                    continue
                if len(cells) != len(header):
                    yield Row(number, None, f"has {len(cells)} columns where the header has {len(header)}")
                    continue
                yield Row(number, dict(zip(header, cells, strict=True)))

    def _counted(self, file: Any) -> Iterator[str]:
        for line in file:
            self._read += len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))
            yield line


class ParquetRows(_FileRows):
    """A Parquet file, read a few hundred rows at a time."""

    BATCH = 128

    def _file(self) -> Any:
        pq = need("pyarrow.parquet")
        try:
            return pq.ParquetFile(self.path)
        except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds
            raise ConfigError(f"{self.path}: not a Parquet file that can be read ({type(error).__name__})") from None

    def columns(self) -> Sequence[str]:
        """The schema's names."""
        with self._file() as file:
            return list(file.schema_arrow.names)

    def __iter__(self) -> Iterator[Row]:
        number = 0
        with self._file() as file:
            total = max(1, file.metadata.num_rows)
            for batch in self._batches(file):
                for data, problem in _values(batch):
                    number += 1
                    self._read = self._size * number // total
                    yield Row(number, data, problem)

    def _batches(self, file: Any) -> Iterator[Any]:
        try:
            yield from file.iter_batches(batch_size=self.BATCH)
        except Exception as error:  # noqa: BLE001 - as above
            raise ConfigError(f"{self.path}: damaged, its rows cannot be read ({type(error).__name__})") from None


def _values(batch: Any) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """The rows of a batch; one that Python has no values for comes with what is wrong."""
    try:
        yield from ((data, None) for data in batch.to_pylist())
    except Exception:  # noqa: BLE001 - as above
        for place in range(len(batch)):
            try:
                (data,) = batch.slice(place, 1).to_pylist()
            except Exception as error:  # noqa: BLE001 - as above
                yield None, f"holds a value that cannot be read ({type(error).__name__})"
            else:
                yield data, None


class FolderRows:
    """Every file under a folder, sorted by path. Folders named safe and unsafe are labels.

    What is no file that can be read (a link to a folder, a folder without permission) is a row with a problem.
    """

    def __init__(self, path: Path) -> None:
        self.base = path
        self.anywhere = False
        self._total = 0
        self._seen = 0

    def columns(self) -> None:
        """A file has no columns."""

    def _entries(self) -> Iterator[tuple[Path, str | None]]:
        """Files, each with what keeps it from being read."""
        closed: list[Path] = []
        for folder, folders, names in os.walk(self.base, onerror=lambda error: closed.append(Path(error.filename))):
            folders.sort()
            yield from (
                (Path(folder, name), "a link to a folder, which is not followed")
                for name in folders
                if Path(folder, name).is_symlink()
            )
            yield from ((Path(folder, name), None) for name in sorted(names))
            yield from ((path, "a folder that cannot be opened") for path in closed)
            closed.clear()
        yield from ((path, "a folder that cannot be opened") for path in closed)

    def progress(self) -> float:
        """By files; they are counted once."""
        if not self._total:
            self._total = max(1, sum(1 for _ in self._entries()))
        return min(1.0, self._seen / self._total)

    def fingerprint(self) -> str:
        """Over names, sizes and times of change: reading every picture twice would double the work."""
        digest = hashlib.sha256()
        for path, _ in self._entries():
            status = path.lstat()
            name = path.relative_to(self.base).as_posix().encode("utf-8", "surrogateescape")
            digest.update(b"%s\0%d\0%d\n" % (name, status.st_size, status.st_mtime_ns))
        return digest.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        self._seen = 0
        for number, (path, problem) in enumerate(self._entries(), 1):
            self._seen = number
            data = self.row_of(PurePosixPath(path.relative_to(self.base)))
            yield Row(number, self.with_text(data, self.base)) if problem is None else Row(number, data, problem)

    @staticmethod
    def row_of(relative: PurePosixPath) -> dict[str, Any]:
        """A file of a folder as a row."""
        data: dict[str, Any] = {"id": relative.as_posix()}
        labels = [part.lower() for part in relative.parts[:-1] if part.lower() in ("safe", "unsafe")]
        if labels:
            data["label"] = labels[-1]
        data["images" if relative.suffix.lower() in IMAGES else "documents"] = [relative.as_posix()]
        return data

    @staticmethod
    def with_text(data: dict[str, Any], base: Path) -> dict[str, Any]:
        """The same with a text file's text in its place."""
        name, *more = data.get("documents") or [""]
        if more or name != data.get("id") or Path(name).suffix.lower() not in TEXTS:
            return data
        text = _text_of(base / name)
        if text is None:
            return data
        return {key: value for key, value in data.items() if key != "documents"} | {"text": text}


def _text_of(path: Path) -> str | None:
    """A text file as text; None where it is long, in another encoding, or a link: it is then read as a document."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_TEXT:
            return None
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def need(module: str) -> Any:
    """Import a part of the extra `eval` or `ray`, or say how to install it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.split(".", maxsplit=1)[0]
        extra = "ray" if name in ("ray", "fsspec") else "eval"
        raise ConfigError(f"{name} is not installed: pip install 'turnguard[{extra}]'") from None
