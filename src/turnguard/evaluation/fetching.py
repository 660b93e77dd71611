"""Rows from the official source through the `datasets` library, only where the user asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turnguard.core.errors import ConfigError
from turnguard.evaluation.benchmarks import Benchmark
from turnguard.evaluation.examples import Example
from turnguard.evaluation.rows import need


def fetched(benchmark: Benchmark) -> Callable[[], Iterable[Example]]:
    """Examples of a benchmark as `datasets` gives them. Raises `ConfigError` where it cannot be had that way."""
    source, rows = benchmark.source, benchmark.rows
    if source is None or rows is None:
        raise ConfigError(
            f"{benchmark.name} cannot be fetched this way; get its files from {benchmark.home} ({benchmark.licence}) "
            f"and name their folder with --data: {benchmark.files}"
        )
    loaded = [_load(benchmark, source.repository, name, source.split) for name in source.configurations]

    def records() -> Iterator[Any]:
        for part in loaded:
            yield from part

    return lambda: rows(records())


def _load(benchmark: Benchmark, repository: str, configuration: str | None, split: str) -> Any:
    datasets = need("datasets")
    try:
        return datasets.load_dataset(repository, configuration, split=split)
    except Exception as error:  # noqa: BLE001 - the library and its hub raise dozens of kinds
        told = f"{benchmark.name}: {repository} could not be fetched ({type(error).__name__})"
        if benchmark.gated:
            told += f"; it is gated: {benchmark.gated}"
        raise ConfigError(f"{told}; its licence: {benchmark.licence}") from None
