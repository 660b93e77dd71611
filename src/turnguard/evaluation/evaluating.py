"""Run labelled examples through the guard and keep the results, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError, ModeratorError
from turnguard.evaluation.batch_record import example_of
from turnguard.evaluation.bulk import Finished, Progress, Run, pace_of, run
from turnguard.evaluation.examples import BadRow, Example
from turnguard.evaluation.ledger import Ledger
from turnguard.evaluation.results import Result, read, result_of
from turnguard.evaluation.rows import Rows
from turnguard.evaluation.shaping import settings_digest
from turnguard.guard import Guard
from turnguard.moderators.base import HERE, Deadline, about
from turnguard.moderators.build import asking
from turnguard.moderators.vllm import VLLMModerator

FORMAT = "turnguard eval 1"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The results of one set, in order, and how the run went."""

    results: list[Result]
    finished: Finished


def labelled(rows: Rows) -> Iterator[Example]:
    """Examples of your own data. Every row must be sound and have a label; the first that is not ends it, with its
    number.
    """
    for row in rows:
        try:
            example = example_of(row, rows.base, anywhere=rows.anywhere)
            if example.label is None:
                raise BadRow("label is missing")
            example.step()
        except BadRow as problem:
            raise ConfigError(f"{getattr(rows, 'path', rows.base)}: row {row.number:,}: {problem}") from None
        yield example


def survey(examples: Iterable[Example]) -> tuple[int, str]:
    """Count the examples and digest them. Reading all of them first finds a bad row before anything is asked."""
    digest = hashlib.sha256()
    total = 0
    for example in examples:
        total += 1
        try:
            example.step()
        except BadRow as problem:
            raise ConfigError(f"{example.id}: {problem}") from None
        shown = (
            example.id,
            example.stage,
            example.text,
            example.prompt,
            example.label,
            example.language,
            example.categories,
            example.attack,
            example.group,
        )
        digest.update(repr(shown).encode("utf-8", "backslashreplace"))
        for source in (*example.images, *example.documents):
            digest.update(_source_digest(source, example))
    if not total:
        raise ConfigError("there is no example in it")
    return total, digest.hexdigest()


def _source_digest(source: Any, example: Example) -> bytes:
    if isinstance(source, PathLike):
        path = Path(source)
        try:
            return f"{path.name}:{path.stat().st_size};".encode()
        except OSError:
            raise ConfigError(f"{example.id}: the file {path.name} is missing") from None
    if isinstance(source, str):
        source = source.encode("utf-8", "backslashreplace")
    elif not isinstance(source, bytes):
        source = source.tobytes()  # a Pillow picture
    return hashlib.sha256(source).digest()


async def identity(guard: Guard) -> str:
    """Return which model answers. Raises `ConfigError` where none does."""
    said = (await about(guard.moderator, Deadline.after(guard.moderator_settings.deadline))).identity
    if said is None:
        raise ConfigError("the replicas serve different models: figures would be those of neither")
    if said.startswith(HERE):
        raise ConfigError("the moderator does not answer at /v1/models; is the server up, and the model's name right?")
    return said


async def server_name(config: Config) -> str:
    """Return what the server serves: the `root` of its model card, since an alias proves nothing."""
    settings = config.moderator
    if settings.checkpoint is not None:
        return settings.checkpoint
    url = settings.base_urls[0]
    client = VLLMModerator(url, **asking(settings, config.folder))
    try:
        cards = (await client.served(Deadline.after(settings.deadline)))["data"]
        card = next(card for card in cards if card.get("id") == settings.model)
        return str(card.get("root") or settings.model)
    except (ModeratorError, AttributeError, TypeError, LookupError, StopIteration):
        raise ConfigError(
            f"{url}/models does not name {settings.model!r}: is the server up, and the name right?"
        ) from None
    finally:
        await client.aclose()


async def evaluate(
    guard: Guard,
    config: Config,
    examples: Callable[[], Iterable[Example]],
    out: Path,
    *,
    concurrency: int | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Judge every example into `out` (JSON lines). An output of the same examples, settings and model is gone on
    with.
    """
    total, digest = survey(examples())
    origin = {"format": FORMAT, "input": digest, "settings": settings_digest(config), "model": await identity(guard)}
    taken = 0

    def numbered() -> Iterator[tuple[int, Example]]:
        nonlocal taken
        for number, example in enumerate(examples(), 1):
            taken = number
            yield number, example

    async def record(item: tuple[int, Example]) -> bytes:
        number, example = item
        decision = await guard.acheck(example.step(), hold=False)
        return result_of(number, example, decision).line()

    job = Run(numbered, record, pace_of(guard, concurrency), lambda: taken / total)
    if progress is not None:
        job.progress = progress
    with Ledger(out, origin) as ledger:
        finished = await run(job, ledger)
        return Evaluated(read(ledger.lines()), finished)
