"""Parts of records in a folder of this machine, or in any place that fsspec knows.

OUT/part-000000.jsonl   records in the order of the input, and so on (.parquet with `kind`)
OUT/origin.json         what OUT was begun from
OUT/not-judged.jsonl    every row that was not judged, or not all of it, and why
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from turnguard.config.document import Config
from turnguard.evaluation.batch_places import located
from turnguard.evaluation.batch_verdicts import tabled
from turnguard.evaluation.ledger import LedgerError
from turnguard.evaluation.rows import Row, Rows, need
from turnguard.evaluation.shaping import settings_digest

FORMAT = "turnguard batch parts 1"


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

    def read(self, number: int, rows: list[Row]) -> list[bytes] | None:
        """The records of a part. None where it was not written, or does not hold a whole record of each of `rows`."""
        path = self._path(number)
        if not self._system.exists(path):
            return None
        data = self._system.cat_file(path)
        try:
            if self._kind == "parquet":
                table = need("pyarrow.parquet").read_table(need("pyarrow").BufferReader(data), columns=["record"])
                found = [text.encode("ascii") + b"\n" for text in table.column("record").to_pylist()]
            else:
                found = data.splitlines(keepends=True)
            held = [json.loads(text)["row"] for text in found]
        except Exception:  # noqa: BLE001 - pyarrow raises its own kinds; whatever is wrong, the part is judged anew
            return None
        return found if held == [row.number for row in rows] else None

    def write(self, number: int, records: list[bytes], parsed: list[dict[str, Any]]) -> None:
        """Write a part: it appears whole or not at all. `parsed` are the records as data."""
        if self._verdicts is not None:
            system, root = self._verdicts
            _put(system, f"{root}/part-{number:06}.parquet", tabled(parsed, self._config))
        data = _columns(records, parsed) if self._kind == "parquet" else b"".join(records)
        _put(self._system, self._path(number), data)

    def note(self, parsed: Iterable[dict[str, Any]]) -> None:
        """Take down which of these rows were not judged."""
        for record in parsed:
            if why := _why(record):
                told = {"row": record["row"], "id": record["id"], "status": record["status"], "why": why}
                self._missed.append(json.dumps(told).encode("ascii") + b"\n")

    def finish(self) -> None:
        """Write which rows were not judged."""
        _put(self._system, f"{self._root}/not-judged.jsonl", b"".join(self._missed))

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


def _columns(records: list[bytes], parsed: list[dict[str, Any]]) -> bytes:
    """Records as Parquet: what is asked for most has a column, and `record` holds the whole."""
    arrow = need("pyarrow")
    found = [
        {**(data.get("verdict") or {}), **data, "record": text.decode("ascii").rstrip("\n")}
        for text, data in zip(records, parsed, strict=True)
    ]
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
