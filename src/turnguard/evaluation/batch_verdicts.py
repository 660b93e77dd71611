"""Verdicts apart from decisions: what the model said of each row, kept as Parquet, and decided again without a server.

A file holds one row per record: `row`, `id`, `status`, `stage`, `label`, `evidence` (JSON: the verdict of every
exchange and the coverage, never content) and, for a row that could not be read, `error`. Its metadata names the model
family that answered and the own categories that it was told about. A folder of such files is read as one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import islice
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

FORMAT = "turnguard verdicts 2"
GROUP = 20_000
"""Rows that are read or written at once."""
ENDINGS = 50_000
"""Distinct verdicts whose records are kept at hand."""
_KEY = b"turnguard"
_COLUMNS = ("row", "id", "status", "stage", "label", "evidence", "error")


def write(path: Path, lines: Iterable[bytes], config: Config) -> None:
    """Write the verdicts of records that hold their evidence. The file appears whole or not at all."""
    beginning = path.with_name(path.name + ".tmp")
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(beginning, map(json.loads, lines), config)
        beginning.replace(path)


def tabled(records: Iterable[Mapping[str, Any]], config: Config) -> bytes:
    """The same as the bytes of a file, for a part of the records."""
    sink = need("pyarrow").BufferOutputStream()
    _write(sink, iter(records), config)
    return bytes(sink.getvalue())


def _write(where: Any, records: Iterator[Mapping[str, Any]], config: Config) -> None:
    arrow = need("pyarrow")
    named = {"format": FORMAT, "family": config.moderator.family, "own": _own(config.policy)}
    types = {"row": arrow.int64()}
    fields = [(name, types.get(name, arrow.string())) for name in _COLUMNS]
    schema = arrow.schema(fields, metadata={_KEY: json.dumps({**named, "shaping": shaping(config)})})
    with need("pyarrow.parquet").ParquetWriter(where, schema, compression="zstd") as writer:
        while group := list(islice(records, GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _own(policy: Policy) -> str | None:
    """Names the categories of a policy's own that the model was told about."""
    return None if policy.own is None else policy.own.digest.hex()


class Verdicts:
    """A file of verdicts, or a folder of them. Raises `ConfigError` for what is none, and for a folder with the
    verdicts of several families or of several sets of own categories.
    """

    def __init__(self, source: Path) -> None:
        if not source.exists():
            raise ConfigError(f"{source}: no such file or folder")
        self.source = source
        self._files = {
            path: _opened(path) for path in (sorted(source.rglob("*.parquet")) if source.is_dir() else [source])
        }
        told = {(named["family"], named["own"]) for named, _ in self._files.values()}
        if len(told) != 1:
            what = "verdicts of several model families or policies" if told else "there is no Parquet file in it"
            raise ConfigError(f"{source}: {what}")
        ((self.family, self._own),) = told
        self.total = sum(file.metadata.num_rows for _, file in self._files.values())

    def fit(self, policy: Policy) -> None:
        """Raise `ConfigError` where `policy` asks the model about other categories than it was asked about."""
        if self._own != _own(policy):
            raise ConfigError(
                f"{self.source}: the model was asked about other categories under policy.custom than this policy has: "
                "what it would say now is not known, so ask again with 'turnguard batch IN OUT'"
            )

    def fingerprint(self) -> str:
        """A digest of all files."""
        digest = hashlib.sha256()
        for path in self._files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def rows(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """The values of these columns, row by row."""
        for path, (_, file) in self._files.items():
            try:
                for batch in file.iter_batches(batch_size=GROUP, columns=list(columns)):
                    yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
            except Exception as error:  # noqa: BLE001 - as above
                raise ConfigError(f"{path}: damaged ({type(error).__name__})") from None


def _opened(path: Path) -> tuple[dict[str, Any], Any]:
    try:
        file = need("pyarrow.parquet").ParquetFile(path, memory_map=True)
        named = dict(json.loads((file.schema_arrow.metadata or {})[_KEY]))
    except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds
        raise ConfigError(
            f"{path}: not a file of verdicts ({type(error).__name__}); 'turnguard batch --verdicts FILE' writes one"
        ) from None
    if named.get("format") != FORMAT:
        raise ConfigError(f"{path}: verdicts of another version of Turnguard: {named.get('format')!r}, not {FORMAT!r}")
    if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names]:
        raise ConfigError(f"{path}: the column {missing[0]!r} is missing")
    return named, file


def redecide(source: Path, config: Config, out: Path, *, progress: Progress | None = None) -> Summary:
    """Decide every row of `source` again under the policy of `config` into `out` (JSON lines). No model is asked.

    Raises `ConfigError` for a file that holds no verdicts, or that this policy cannot decide about. A rewrite that
    would fail, and so block, cannot be seen from verdicts alone.
    """
    started = time.monotonic()
    verdicts = Verdicts(source)
    verdicts.fit(config.policy)
    if config.policy.calibration is not None and verdicts.family != config.moderator.family:
        raise ConfigError(
            f"{source}: verdicts of the family {verdicts.family!r}, and policy.calibration was measured on "
            f"{config.moderator.family!r}"
        )
    total = max(1, verdicts.total)
    origin = {"format": FORMAT, "input": verdicts.fingerprint(), "settings": config.policy.digest}
    summary = Summary()
    with Ledger(out, origin) as ledger:
        already = ledger.done
        decided = lru_cache(ENDINGS)(partial(_ending, config.policy))
        for done, (number, name, *told) in enumerate(verdicts.rows(*_COLUMNS), 1):
            try:
                made = decided(*told)
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigError(f"{source}: row {number}: not a verdict: {error}") from None
            summary.count(number, made.status, made.data)
            if done > already:
                ledger.append(line(number, name, made))
            if progress is not None:
                progress(done, done / total, "deciding")
        ledger.flush()
        summary.finished = Finished(ledger.done, ledger.done - already, time.monotonic() - started, 0)
    return summary


def _ending(policy: Policy, status: str, stage: Any, label: str | None, evidence: str | None, error: str) -> Ending:
    if status == "unreadable":
        return not_read(error)
    if evidence is None:
        raise ValueError("the evidence is missing")
    made = Evidence.load(evidence)
    return ending(stage, label, made, made.decide(policy, stage))
