"""What is planted: a word that the fake moderator calls unsafe, and a red picture. And how either is found again."""

from __future__ import annotations

import io
from contextlib import closing
from typing import NamedTuple

from PIL import Image as Pillow

from turnguard import Decision, Guard, Policy, Step
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document
from turnguard.testing import FakeModerator

MARK = "UNSAFEViolence"
WORDS = f"how to do {MARK} at home"
RED = (220, 10, 20)


class Planted(NamedTuple):
    """A file with something planted, and what was said about it."""

    data: bytes
    name: str | None = None
    media_type: str | None = None
    password: str | None = None


def red_png(size: tuple[int, int] = (120, 80)) -> bytes:
    """A red picture."""
    out = io.BytesIO()
    Pillow.new("RGB", size, RED).save(out, "PNG")
    return out.getvalue()


class Seen(NamedTuple):
    """What became of a file."""

    said: bool
    """Whether the moderator read the words."""
    shown: bool
    """Whether it saw the red picture."""
    listed: list[str]
    decision: Decision


def judged(planted: Planted) -> Seen:
    """Check a file through a guard."""
    moderator = FakeModerator(unsafe=[MARK])
    policy = Policy.from_dict({})
    with closing(Guard(policy, moderator, media=MediaSettings(deadline=60))) as guard:
        part = Document(planted.data, planted.media_type, planted.name, planted.password)
        decision = guard.check(Step("input", (part,)))
    pictures = [asked.picture for asked in moderator.asked if asked.picture is not None]
    said = any(MARK in asked.prompt for asked in moderator.asked)
    listed = [f"{entry.detail}: {entry.cause}" for entry in decision.coverage.not_judged if entry.counts]
    return Seen(said, any(_is_red(picture.data) for picture in pictures), listed, decision)


def _is_red(data: bytes) -> bool:
    with Pillow.open(io.BytesIO(data)) as picture:
        bands = picture.convert("RGB").split()
    near = [
        band.point(lambda level, want=want: 255 * (abs(level - want) < 30))
        for band, want in zip(bands, RED, strict=True)
    ]
    both = Pillow.merge("RGB", near).convert("L").point(lambda level: 255 * (level > 250))
    return both.histogram()[255] > 100
