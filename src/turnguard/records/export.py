"""Records out of the database and into it: JSON lines, Parquet, audit files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from turnguard.core.errors import ConfigError
from turnguard.records import audit_lines
from turnguard.records.query import Filter, stream
from turnguard.records.schema import records
from turnguard.records.store import Store

JSON = ("metadata", "parts", "reasons", "shadow_reasons", "evidence")
"""Columns that hold JSON."""
BATCH = 1_000


def as_data(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON: what is text of JSON in the database is not in the file. A damaged value is None."""
    return {name: _parsed(value) if name in JSON else value for name, value in row.items()}


def _parsed(value: str | None) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError:
        return None


def rows(store: Store, wanted: Filter, *, content: bool) -> Iterator[dict[str, Any]]:
    """Records, oldest first; with `content` decrypted. Raises `ConfigError` where no key opens it."""
    columns = [column for column in records.c if content or column.name != "content"]
    for some in stream(store, wanted, columns):
        for row in some:
            data = row._asdict()
            if data.get("content") is not None:
                data["content"] = store.keys.decrypt(data["content"]).decode()
            yield data


def write_json(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """One JSON object a line; returns how many."""
    count = 0
    with path.open("w", encoding="ascii") as file:
        for row in found:
            data = as_data(row)
            if "content" in data:
                data["content"] = _parsed(data["content"])
            file.write(json.dumps(data) + "\n")
            count += 1
    return count


def write_parquet(found: Iterable[Mapping[str, Any]], path: Path) -> int:
    """One row a record, in which JSON stays text; returns how many."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {sa.BigInteger: pa.int64(), sa.Boolean: pa.bool_(), sa.Float: pa.float64()}
    schema = pa.schema([(each.name, kinds.get(type(each.type), pa.string())) for each in records.c])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for some in _batches(found, 20 * BATCH):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
    return count


def import_audit(store: Store, path: Path) -> tuple[int, int]:
    """Read an audit file into the database; returns how many lines became records, and how many are damaged. A line
    that is there already is left alone, so that the same file may be imported again.
    """
    good = bad = 0
    with path.open("rb") as file:
        for lines in _batches(file, BATCH):
            made = []
            for line in lines:
                if line.strip():
                    try:
                        made.append(audit_lines.row(line.decode("utf-8", "replace")))
                    except ValueError:  # such as the half of a line that a kill left
                        bad += 1
            if made:
                store.add(made)
            good += len(made)
    if bad and not good:
        raise ConfigError(f"{path}: no line of it is a line of an audit file")
    return good, bad


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
