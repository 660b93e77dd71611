"""Compare the deadline with the time that checks take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from turnguard.config.settings import ModeratorSettings
from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Told, failed, note, ok

_PLACES = (  # noqa: SIM905 - twenty quoted names are harder to read
    "Spain Italy Poland Norway Sweden Finland Greece Austria Ireland Portugal Hungary Romania Estonia Latvia Croatia "
    "Serbia Albania Malta Cyprus Iceland"
).split()


def samples() -> list[Question]:
    """Twenty short texts, all different, so that no whole answer is remembered anywhere."""
    return [Question(Exchange(f"What is the capital of {place}?")) for place in _PLACES]


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of at least one value."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def deadline(seen: Seen) -> Told:
    """One check after another, unloaded: a busy server is slower."""
    settings, times = seen.config.moderator, seen.times
    median, p95 = quantile(times, 0.5), quantile(times, 0.95)
    told = f"A text check takes {_ms(median)} (median) and {_ms(p95)} (p95 of {len(times)})"
    limit, name = _limit(settings)
    if p95 > limit:
        return failed(
            f"{told}, and {name} is {_ms(limit)}: checks will fail, and on_failure decides.",
            f"Set moderator.{_key(settings)}: {math.ceil(p95 * 4)}s, or make the server faster (a GPU, fewer "
            "--max-num-seqs, more replicas).",
        )
    if p95 > limit / 2:
        told = f"{told}; {name} of {_ms(limit)} leaves no room for a retry."
        return note(told, f"Set moderator.{_key(settings)}: {math.ceil(p95 * 4)}s.")
    return ok(f"{told}; {name} is {_ms(limit)}.")


def media_deadline(seen: Seen) -> Told | None:
    """A picture takes longer than a text, and has a deadline of its own. Nothing where it suffices."""
    if not seen.family.images:
        return None
    answers = [seen.get(name) for name in ("picture_safe", "picture_unsafe", "joint_both")]
    times = [heard.seconds for heard in answers if heard.verdict is not None]
    limit = seen.config.media.deadline
    if times and max(times) > limit:
        return failed(
            f"A check with one small picture took {_ms(max(times))}, and media.deadline is {_ms(limit)}.",
            f"Set media.deadline: {math.ceil(max(times) * 4)}s, or make the server faster.",
        )
    return None


def _limit(settings: ModeratorSettings) -> tuple[float, str]:
    if settings.attempt_timeout is not None and settings.attempt_timeout < settings.deadline:
        return settings.attempt_timeout, "moderator.attempt_timeout"
    if len(settings.base_urls) > 1 and settings.attempt_timeout is None:
        return settings.deadline / 2, "one attempt (half of moderator.deadline: there are replicas)"
    return settings.deadline, "moderator.deadline"


def _key(settings: ModeratorSettings) -> str:
    """Return the setting to raise: the one that binds."""
    bound = settings.attempt_timeout
    return "attempt_timeout" if bound is not None and bound < settings.deadline else "deadline"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"
