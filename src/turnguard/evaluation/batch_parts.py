"""Rows from, and parts of records to, any place that fsspec knows: a folder, or s3://, gs://, abfs:// …

OUT/part-000000.jsonl   records in the order of the input, and so on (.parquet with `kind`)
OUT/origin.json         what OUT was begun from
OUT/not-judged.jsonl    every row that was not judged, or not all of it, and why
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError
from turnguard.evaluation.batch_verdicts import tabled
from turnguard.evaluation.ledger import LedgerError
from turnguard.evaluation.rows import FolderRows, Row, Rows, need, open_rows
from turnguard.evaluation.shaping import settings_digest

FORMAT = "turnguard batch parts 1"


def located(where: str) -> tuple[Any, str]:
    """The filesystem of a path or URL, and the path in it."""
    try:
        found, path = need("fsspec.core").url_to_fs(where)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return found, path


def is_local(where: str) -> bool:
    """Whether a path or URL is one of this machine."""
    return "://" not in where or where.startswith(("file://", "local://"))


@contextmanager
def copied(source: str, *, anywhere: bool = False) -> Iterator[tuple[Rows, str | None]]:
    """The rows of `source`, and the URL that they name files under: None where that is a local folder.

    A table that is elsewhere is copied here first; of a folder only the names are read.
    """
    if is_local(source):
        yield open_rows(Path(source.split("://", 1)[-1]), anywhere=anywhere), None
        return
    system, path = located(source)
    if not system.exists(path):
        raise ConfigError(f"{source}: no such file or folder")
    if system.isdir(path):
        yield RemoteRows(system, path), source
        return
    with tempfile.TemporaryDirectory(prefix="turnguard-") as folder:
        copy = Path(folder) / PurePosixPath(path).name
        system.get_file(path, str(copy))
        yield open_rows(copy, anywhere=anywhere), source.rsplit("/", 1)[0]


class RemoteRows(FolderRows):
    """Every file under a folder that is elsewhere, sorted by path."""

    def __init__(self, system: Any, path: str) -> None:
        super().__init__(Path())
        self._found: dict[str, Any] = system.find(path, detail=True)
        self._under = path.rstrip("/") + "/"

    def names(self) -> list[str]:
        """The paths below the folder."""
        return sorted(path.removeprefix(self._under) for path in self._found)

    def progress(self) -> float:
        """By files."""
        return min(1.0, self._seen / max(1, len(self._found)))

    def fingerprint(self) -> str:
        """Over names, sizes and what else the filesystem tells of a file."""
        told = json.dumps(sorted(self._found.items()), default=str, sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def __iter__(self) -> Iterator[Row]:
        for number, name in enumerate(self.names(), 1):
            self._seen = number
            yield Row(number, self.row_of(PurePosixPath(name)))


def fetch(row: Row, place: str, folder: Path) -> Row:
    """Copy the files that a row names from `place` into `folder`, where they are then read."""
    if row.data is None or row.problem is not None:
        return row
    data = dict(row.data)
    system, root = located(place)
    for key in ("images", "documents"):
        found = data.get(key)
        for name in found if isinstance(found, list) else [found]:
            if not isinstance(name, str) or not name or "://" in name or name.lower().startswith("data:"):
                continue
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                return Row(row.number, row.data, f"{key} names a file outside the data's folder")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                system.get_file(f"{root.rstrip('/')}/{path}", str(target))
            except Exception as error:  # noqa: BLE001 - every filesystem raises its own kinds
                return Row(row.number, row.data, f"{key} names a file that cannot be fetched ({type(error).__name__})")
    return Row(row.number, FolderRows.with_text(data, folder))


class Parts:
    """A folder of parts, begun by the same rows and settings or not at all. `kind` is `jsonl` or `parquet`."""

    def __init__(
        self, out: str, rows: Rows, config: Config, *, kind: str, verdicts: str | None, part_rows: int
    ) -> None:
        self._system, self._root = located(out)
        self._kind = kind
        self._config = config
        self._verdicts = None if verdicts is None else located(verdicts)
        self._missed: list[bytes] = []
        origin = {
            "format": FORMAT,
            "input": rows.fingerprint(),
            "settings": settings_digest(config),
            "kind": kind,
            "part_rows": part_rows,
            "evidence": verdicts is not None,
        }
        self._claim(out, origin)

    def read(self, number: int) -> list[bytes] | None:
        """The records of a part; None where it was not written."""
        path = self._path(number)
        if not self._system.exists(path):
            return None
        data = self._system.cat_file(path)
        if self._kind == "parquet":
            table = need("pyarrow.parquet").read_table(need("pyarrow").BufferReader(data), columns=["record"])
            found = [text.encode("ascii") + b"\n" for text in table.column("record").to_pylist()]
        else:
            found = data.splitlines(keepends=True)
        return found

    def write(self, number: int, records: list[bytes]) -> None:
        """Write a part: it appears whole or not at all."""
        if self._verdicts is not None:
            system, root = self._verdicts
            _put(system, f"{root}/part-{number:06}.parquet", tabled(records, self._config))
        data = _columns(records) if self._kind == "parquet" else b"".join(records)
        _put(self._system, self._path(number), data)
        self.note(records)

    def finish(self) -> None:
        """Write which rows were not judged."""
        _put(self._system, f"{self._root}/not-judged.jsonl", b"".join(self._missed))

    def note(self, records: Iterable[bytes]) -> None:
        """Take down which of these rows were not judged."""
        for text in records:
            found = json.loads(text)
            if why := _why(found):
                told = {"row": found["row"], "id": found["id"], "status": found["status"], "why": why}
                self._missed.append(json.dumps(told).encode("ascii") + b"\n")

    def _path(self, number: int) -> str:
        return f"{self._root}/part-{number:06}.{self._kind}"

    def _claim(self, out: str, origin: Mapping[str, Any]) -> None:
        path = f"{self._root}/origin.json"
        if self._system.exists(path):
            try:
                found = json.loads(self._system.cat_file(path))
            except ValueError:
                found = None
            if found != origin:
                raise LedgerError(
                    f"{out} was begun with another input, other settings or options; choose another folder"
                )
            return
        if self._system.exists(self._root) and self._system.ls(self._root):
            raise LedgerError(f"{out} is not empty and was not begun by this command; it is left as it is")
        _put(self._system, path, json.dumps(origin, indent=1).encode())


def _why(record: Mapping[str, Any]) -> str | None:
    if record["status"] == "unreadable":
        return str(record["error"])
    if record["status"] == "failed":
        return f"{record['verdict']['failure']}: {record['verdict']['cause']}"
    left = record["not_judged"]
    return f"{left[0]['kind']} not judged: {left[0]['cause']}" if left else None


def _columns(records: Iterable[bytes]) -> bytes:
    """Records as Parquet: what is asked for most has a column, and `record` holds the whole."""
    arrow = need("pyarrow")
    found = []
    for text in records:
        data = json.loads(text)
        verdict = data.get("verdict") or {}
        found.append(
            {
                **{name: data.get(name) for name in ("row", "id", "status", "stage", "action", "label")},
                **{name: verdict.get(name) for name in ("user", "response", "categories", "p_unsafe", "failure")},
                "record": text.decode("ascii").rstrip("\n"),
            }
        )
    words = ("id", "status", "stage", "action", "label", "user", "response", "failure", "record")
    types = {"row": arrow.int64(), "categories": arrow.list_(arrow.string()), "p_unsafe": arrow.float64()}
    schema = arrow.schema([*types.items(), *((name, arrow.string()) for name in words)])
    sink = arrow.BufferOutputStream()
    need("pyarrow.parquet").write_table(arrow.Table.from_pylist(found, schema=schema), sink)
    return bytes(sink.getvalue())


def _put(system: Any, path: str, data: bytes) -> None:
    """Write a file so that nobody ever sees a half of it: object stores do that themselves, folders by renaming."""
    beginning = f"{path}.{os.getpid()}.tmp"
    try:
        system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        system.pipe_file(beginning, data)
        system.mv(beginning, path)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
