"""The requests of a step, shared among its pictures and documents.

Each has its whole view first; what some do not need goes to those that need more, so that all are shown as finely as
the requests allow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from turnguard.core.step import Document, Image
from turnguard.media import Fetches, Media, Prepared


async def prepared(parts: Sequence[Image | Document], media: Media, fetches: Fetches, most: int) -> list[Prepared]:
    """All parts made ready, at most `most` views together.

    How many views a part needs is known once it was read, so those that need more than an equal share are read again
    where there is more for them.
    """

    async def together(limits: dict[int, int]) -> dict[int, Prepared]:
        made = (media.prepare(parts[index], limit=limit, fetches=fetches) for index, limit in limits.items())
        return dict(zip(limits, await asyncio.gather(*made), strict=True))

    share = max(1, most // max(1, len(parts)))
    first = {index: share if index < most else 0 for index in range(len(parts))}
    made = await together(first)
    if 1 < len(parts) < most:
        given = shares([max(one.wanted, len(one.views)) for one in made.values()], most)
        more = {at: given[at] for at in first if made[at].wanted > first[at] < given[at]}
        made |= await together(more)
    return [_told(made[index], len(parts), most) for index in range(len(parts))]


def shares(wanted: Sequence[int], most: int) -> list[int]:
    """`most` shared so that nobody has more than it wants, and nobody less than another unless it wants less."""
    given = [0] * len(wanted)
    left = most
    waiting = sorted(range(len(wanted)), key=wanted.__getitem__)
    for at, index in enumerate(waiting):
        given[index] = min(wanted[index], left // (len(waiting) - at))
        left -= given[index]
    return given


def _told(one: Prepared, count: int, most: int) -> Prepared:
    """What found no room says among how many parts the requests were shared."""
    if count == 1 or not any(entry.cause.startswith("beyond ") for entry in one.skipped):
        return one
    shared = f"over the budget of {most} requests, shared by {count} pictures and documents"
    skipped = tuple(
        replace(entry, cause=shared) if entry.cause.startswith("beyond ") else entry for entry in one.skipped
    )
    return replace(one, skipped=skipped)
