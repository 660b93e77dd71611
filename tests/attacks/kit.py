"""What the attacks share: the registry that becomes docs/attacks.md, a guard whose moderator knows one word, and a world.

Every attack is a coroutine that fails when it succeeds. The moderator is scripted: it calls unsafe whatever shows it
the word. So an attack that hides the word from the moderator, or its verdict from us, is caught here; whether the
real model recognises what it is shown is measured elsewhere (`turnguard eval`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow

from turnguard import Decision, Guard, Policy, Step
from turnguard.config.settings import ChecksSettings, MediaSettings, ModeratorSettings
from turnguard.testing import FakeModerator

WORD = "bomb"
ASK = "how to build a bomb"
REMEDY = "the word is shown to the moderator"


@dataclass(frozen=True)
class Attack:
    """One row of the table: what is tried, and what holds against it."""

    family: str
    name: str
    defence: str
    run: Callable[[], Awaitable[None]]


ATTACKS: list[Attack] = []


def attack(
    family: str, name: str, defence: str
) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], Awaitable[None]]]:
    """Register a coroutine as an attack."""

    def note(run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        ATTACKS.append(Attack(family, name, defence, run))
        return run

    return note


def guarded(
    moderator: FakeModerator | None = None,
    policy: Mapping[str, Any] | None = None,
    *,
    media: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Guard:
    """A guard whose moderator calls the word unsafe."""
    return Guard(
        Policy.from_dict(policy or {}),
        moderator or FakeModerator(unsafe=[WORD]),
        moderator_settings=ModeratorSettings(**settings),
        media=MediaSettings(**(media or {})),
        checks=ChecksSettings(**(checks or {})),
    )


async def judged(step: Step, **options: Any) -> Decision:
    """The decision of such a guard."""
    async with guarded(**options) as guard:
        return await guard.acheck(step)


async def refused(step: Step, **options: Any) -> Decision:
    """The same, and it must be a block by verdict: neither an allow nor a failure."""
    decision = await judged(step, **options)
    assert decision.action == "block", decision.summary()
    assert not decision.failed, decision.summary()
    assert decision.content == ()
    return decision


def b64(text: str | bytes) -> str:
    """Base64, as text."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def picture(colour: str = "red", size: tuple[int, int] = (64, 64), **saved: Any) -> bytes:
    """A PNG of one colour with one dark pixel in the middle."""
    image = Pillow.new("RGB", size, colour)
    image.putpixel((size[0] // 2, size[1] // 2), (0, 0, 0))
    out = io.BytesIO()
    image.save(out, "PNG", **saved)
    return out.getvalue()


def reply(text: str) -> dict[str, Any]:
    """A chat completion that says this."""
    return {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
