"""Run by the interpreter that has torch: judges the cases with the local model and writes what came of it as JSON.

python -m tests.local.judging CHECKPOINT
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from tests.local.cases import CASES, exchanges, plain
from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.verdict import Verdict
from turnguard.moderators.base import Deadline
from turnguard.moderators.local import LocalModerator
from turnguard.moderators.local.batching import Job
from turnguard.moderators.local.checkpoint import Ask, Reply

SECONDS = 300.0


class Noting(LocalModerator):
    """Notes the size of each batch."""

    sizes: list[int]

    def _work(self, batch: Sequence[Job[Ask, Reply]]) -> Sequence[Reply | ModeratorError]:
        self.sizes.append(len(batch))
        return super()._work(batch)


async def _failure(asked: Awaitable[Verdict]) -> str:
    try:
        return f"no failure: {await asked}"
    except ModeratorError as error:
        return f"{type(error).__name__}: {error}"


async def _abandoned(local: LocalModerator) -> dict[str, Any]:
    """Cancels a check of a model that would go on for very long; the next check shows when the model stopped."""
    generate = local._loaded._model.generate

    def endless(**options: Any) -> Any:
        return generate(**{**options, "min_new_tokens": 90, "max_new_tokens": 90})

    local._loaded._model.generate = endless
    prompt = Exchange("How do I bake bread?")
    started = time.monotonic()
    whole = await _failure(local.judge(prompt, Deadline.after(SECONDS)))
    full = time.monotonic() - started
    task = asyncio.create_task(local.judge(prompt, Deadline.after(SECONDS)))
    await asyncio.sleep(full / 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    late = await _failure(local.judge(prompt, Deadline.after(full / 20)))
    local._loaded._model.generate = generate
    started = time.monotonic()
    after = plain(await local.judge(prompt, Deadline.after(SECONDS)))
    return {"whole": whole, "late": late, "full": full, "after": after, "after_seconds": time.monotonic() - started}


async def _split(local: Noting) -> list[dict[str, Any]]:
    """What does not fit into memory together is judged in halves."""
    import torch

    generate = local._loaded._model.generate

    def small(**options: Any) -> Any:
        if options["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError
        return generate(**options)

    local._loaded._model.generate = small
    found = await asyncio.gather(*(local.judge(one, Deadline.after(SECONDS)) for one in exchanges()))
    local._loaded._model.generate = generate
    return [plain(one) for one in found]


async def main(checkpoint: str) -> dict[str, Any]:
    local = Noting(checkpoint)
    local.sizes = []
    together = await asyncio.gather(*(local.judge(one, Deadline.after(SECONDS)) for one in exchanges()))
    sizes = list(local.sizes)
    alone = [await local.judge(one, Deadline.after(SECONDS)) for one in exchanges()[::4]]
    labels = LocalModerator(checkpoint, categories=False)
    unsafe = await labels.judge(exchanges()[1], Deadline.after(SECONDS))
    about = [await one.about(Deadline.after(1.0)) for one in (local, labels, LocalModerator(checkpoint))]
    found = {
        "together": [plain(one) for one in together],
        "sizes": sizes,
        "alone": [plain(one) for one in alone],
        "labels": plain(unsafe),
        "model": together[0].model,
        "identities": [one.identity for one in about],
        "limit": about[0].max_model_len,
        "too_long": await _failure(local.judge(Exchange("word " * 9000), Deadline.after(SECONDS))),
        "no_time": await _failure(local.judge(exchanges()[0], Deadline.after(0.0))),
        "abandoned": await _abandoned(local),
        "split": await _split(local),
        "device": repr(local),
    }
    await local.aclose()
    await labels.aclose()
    assert len(together) == len(CASES)
    return found


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # with more, OpenMP spins for the cores that others use
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
