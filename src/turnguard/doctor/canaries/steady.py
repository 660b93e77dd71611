"""Check that every request gets a verdict. A flaky server passes canaries that are sent once."""

from __future__ import annotations

from collections import Counter
from secrets import token_hex

from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import Seen
from turnguard.doctor.canaries.answering import who
from turnguard.doctor.findings import Told, failed, note, ok, skipped

PROBES = 48
"""One reply in five that fails is missed by all of them in 2 of 100,000 runs."""


def probes() -> list[Question]:
    """Return harmless texts that differ from each other and from those of any other run, so that nothing is cached."""
    return [Question(Exchange(f"What is {number} plus {number + 7}? ({token_hex(3)})")) for number in range(PROBES)]


def steady(seen: Seen) -> Told:
    """Count the probes without a verdict, by cause."""
    heard = seen.probes
    lost = [one for one in heard if one.verdict is None]
    if lost:
        causes = ", ".join(
            f"{count} times {cause}" for cause, count in Counter(one.cause for one in lost).most_common(3)
        )
        return failed(
            f"{len(lost)} of {len(heard)} harmless checks brought no verdict: {causes}.",
            f"Look at the server's log for these requests. {who(lost[0], seen.family)}",
        )
    if len(heard) < PROBES:
        return skipped(f"Not told: {len(heard)} of {PROBES} repeated checks fitted into the time.")
    if wrong := sum(one.label == "unsafe" for one in heard):
        return note(f"{wrong} of {len(heard)} harmless checks are called unsafe.")
    return ok(f"{len(heard)} checks in a row brought a verdict each.")
