"""What a benchmark is, and the file reading that the loaders share."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Label
from turnguard.evaluation.examples import Example
from turnguard.evaluation.rows import need

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the `datasets` library finds the official release: repository, configurations, split."""

    repository: str
    split: str
    configurations: tuple[str | None, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    `load` reads a folder with the official release's own files; `rows`, where there is one, makes examples of the
    records that `datasets` gives, and `source` says where from. `gated` tells how to get access. `rule` says how
    truth was derived.
    """

    name: str
    title: str
    licence: str
    home: str
    files: str
    load: Callable[[Path], Iterator[Example]]
    rule: str
    source: Source | None = None
    rows: Callable[[Iterable[Record]], Iterator[Example]] | None = None
    gated: str | None = None
    size: str = ""
    sensitive: bool = True
    keywords: tuple[str, ...] = field(default=())


def missing(folder: Path, what: str) -> ConfigError:
    """The official files are not there: one sentence that says which."""
    return ConfigError(f"{folder}: {what} not found there; see 'turnguard eval --list' for the files of each benchmark")


def one_of(folder: Path, *patterns: str) -> Path:
    """The first file that fits one of the patterns. Raises `ConfigError`."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise missing(folder, " or ".join(patterns))


def all_of(folder: Path, *patterns: str) -> list[Path]:
    """Every file that fits the first pattern that any file fits. Raises `ConfigError`."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise missing(folder, " or ".join(patterns))


def table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records (from 1) of a CSV, JSON (a list), JSONL or Parquet file."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        with need("pyarrow.parquet").ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=128):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid UTF-8") from None
    if kind == ".csv":
        yield from enumerate(csv.DictReader(io.StringIO(text, newline="")), 1)
    elif kind == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _json(line, path, number)
    else:
        found = _json(text, path, None)
        if not isinstance(found, list):
            raise ConfigError(f"{path}: expected a list of records, not {type(found).__name__}")
        yield from enumerate(found, 1)


def _json(text: str, path: Path, number: int | None) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        where = f"row {number:,}: " if number else ""
        raise ConfigError(f"{path}: {where}not valid JSON") from None


def records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of several files, one after the other."""
    for path in paths:
        for _, record in table(path):
            yield record


def field_of(record: Record, name: str, where: str) -> Any:
    """A field that every record of the release has. Raises `ConfigError` naming it and the row."""
    if name not in record:
        raise ConfigError(f"{where}: the field {name!r} is missing; it has {', '.join(map(str, record)) or 'none'}")
    return record[name]


def label_of(value: Any, names: Mapping[str, Label], where: str) -> Label | None:
    """A release's own label as ours; None for an empty one. Raises `ConfigError` for a label outside the scheme."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    found = names.get(str(value).strip().lower())
    if found is None:
        raise ConfigError(f"{where}: label {str(value)[:40]!r} is none of {', '.join(names)}")
    return found


HARMFUL: Mapping[str, Label] = {"harmful": "unsafe", "unharmful": "safe"}
PLAIN: Mapping[str, Label] = {"unsafe": "unsafe", "safe": "safe"}
LANGUAGES = {
    "arabic": "ar",
    "chinese": "zh",
    "czech": "cs",
    "dutch": "nl",
    "english": "en",
    "filipino": "tl",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "serbian": "sr",
    "spanish": "es",
    "swedish": "sv",
    "tagalog": "tl",
    "thai": "th",
}
"""Languages as releases spell them out → ISO 639-1."""


def code_of(language: Any) -> str | None:
    """The code of a language given by name or by code; None where it is not known."""
    text = str(language or "").strip().lower()
    return LANGUAGES.get(text) or (text[:2] if len(text) in (2, 5) else None)
