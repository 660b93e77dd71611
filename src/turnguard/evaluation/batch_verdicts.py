"""Verdicts apart from decisions: what the model said of each row, kept as Parquet, and decided again without a server.

A file holds one row per record: `row`, `id`, `status`, `stage`, `label`, `evidence` (JSON: the verdict of every
exchange and the coverage, never content) and, for a row that could not be read, `error`. Its metadata names the model
family that answered. A folder of such files is read as one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.evaluation.batch_record import Ending, Summary, ending, line, not_read
from turnguard.evaluation.bulk import Finished, Progress
from turnguard.evaluation.ledger import Ledger, guarded
from turnguard.evaluation.rows import need
from turnguard.evaluation.shaping import shaping
from turnguard.records.evidence import Evidence

FORMAT = "turnguard verdicts 1"
GROUP = 20_000
"""Rows that are read or written at once."""
ENDINGS = 50_000
"""Distinct verdicts whose records are kept at hand."""
_KEY = b"turnguard"
_COLUMNS = ("row", "id", "status", "stage", "label", "evidence", "error")


def write(path: Path, lines: Iterable[bytes], config: Config) -> None:
    """Write the verdicts of records that hold their evidence. The file appears whole or not at all."""
    parquet = need("pyarrow.parquet")
    schema = _schema(config)
    beginning = path.with_name(path.name + ".tmp")
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with parquet.ParquetWriter(beginning, schema, compression="zstd") as writer:
            for table in _tables(lines, schema):
                writer.write_table(table)
        beginning.replace(path)


def tabled(records: Iterable[bytes], config: Config) -> bytes:
    """The same as the bytes of a file, for a part of the records."""
    sink = need("pyarrow").BufferOutputStream()
    schema = _schema(config)
    with need("pyarrow.parquet").ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in _tables(records, schema):
            writer.write_table(table)
    return bytes(sink.getvalue())


def _schema(config: Config) -> Any:
    arrow = need("pyarrow")
    named = {"format": FORMAT, "family": config.moderator.family, "shaping": shaping(config)}
    types = {"row": arrow.int64()}
    fields = [(name, types.get(name, arrow.string())) for name in _COLUMNS]
    return arrow.schema(fields, metadata={_KEY: json.dumps(named)})


def _tables(lines: Iterable[bytes], schema: Any) -> Iterator[Any]:
    arrow = need("pyarrow")
    waiting: list[dict[str, Any]] = []
    for text in lines:
        waiting.append(json.loads(text))
        if len(waiting) == GROUP:
            yield arrow.Table.from_pylist(waiting, schema=schema)
            waiting = []
    if waiting:
        yield arrow.Table.from_pylist(waiting, schema=schema)


def redecide(source: Path, config: Config, out: Path, *, progress: Progress | None = None) -> Summary:
    """Decide every row of `source` again under the policy of `config` into `out` (JSON lines). No model is asked.

    Raises `ConfigError` for a file that holds no verdicts, or that this policy cannot decide about. A rewrite that
    would fail, and so block, cannot be seen from verdicts alone.
    """
    started = time.monotonic()
    files = [_opened(path, config) for path in _files(source)]
    total = max(1, sum(file.metadata.num_rows for _, file in files))
    origin = {"format": FORMAT, "input": _fingerprint(files), "settings": config.policy.digest}
    summary = Summary()
    with Ledger(out, origin) as ledger:
        already = ledger.done
        for done, (number, name, told) in enumerate(_decided(files, config.policy), 1):
            summary.count(number, told.status, told.data)
            if done > already:
                ledger.append(line(number, name, told))
            if progress is not None:
                progress(done, done / total, "deciding")
        ledger.flush()
        summary.finished = Finished(ledger.done, ledger.done - already, time.monotonic() - started, 0)
    return summary


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise ConfigError(f"{source}: there is no Parquet file in it")
    return files


def _opened(path: Path, config: Config) -> tuple[Path, Any]:
    parquet = need("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path, memory_map=True)
        named = dict(json.loads((file.schema_arrow.metadata or {})[_KEY]))
    except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds
        raise ConfigError(
            f"{path}: not a file of verdicts ({type(error).__name__}); 'turnguard batch --verdicts FILE' writes one"
        ) from None
    if named.get("format") != FORMAT:
        raise ConfigError(f"{path}: verdicts of another version of Turnguard: {named.get('format')!r}, not {FORMAT!r}")
    if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names]:
        raise ConfigError(f"{path}: the column {missing[0]!r} is missing")
    if config.policy.calibration is not None and named["family"] != config.moderator.family:
        raise ConfigError(
            f"{path}: verdicts of the family {named['family']!r}, and policy.calibration was measured on "
            f"{config.moderator.family!r}"
        )
    return path, file


def _fingerprint(files: list[tuple[Path, Any]]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _decided(files: list[tuple[Path, Any]], policy: Policy) -> Iterator[tuple[int, str | None, Ending]]:
    endings: dict[tuple[Any, ...], Ending] = {}
    for path, file in files:
        for batch in file.iter_batches(batch_size=GROUP, columns=list(_COLUMNS)):
            columns = [batch.column(name).to_pylist() for name in _COLUMNS]
            for number, name, *what in zip(*columns, strict=True):
                key = tuple(what)
                told = endings.get(key)
                if told is None:
                    if len(endings) >= ENDINGS:
                        endings.clear()
                    try:
                        told = endings[key] = _ending(policy, *what)
                    except (ValueError, TypeError, KeyError) as error:
                        raise ConfigError(f"{path}: row {number}: not a verdict: {error}") from None
                yield number, name, told
        file.close()


def _ending(policy: Policy, status: str, stage: Any, label: str | None, evidence: str | None, error: str) -> Ending:
    if status == "unreadable":
        return not_read(error)
    if evidence is None:
        raise ValueError("the evidence is missing")
    made = Evidence.load(evidence)
    return ending(stage, label, made, made.decide(policy, stage))
