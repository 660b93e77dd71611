"""Check that logprobs are on. Without them there is no P(unsafe), and rules with a threshold fail closed."""

from __future__ import annotations

from turnguard.config.document import Config
from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Told, failed, ok, skipped


def logprobs(seen: Seen) -> Told:
    """Read P(unsafe) of the two plain texts."""
    answers = [heard for heard in (seen.contact, seen.get("unsafe")) if heard.verdict is not None]
    values = [heard.verdict.p_user for heard in answers if heard.verdict is not None]
    known = [p for p in values if p is not None]
    if len(known) == len(answers) == 2:
        return ok(f"P(unsafe) is {known[0]:.3f} for the harmless text and {known[1]:.3f} for the unsafe one.")
    if not answers:
        return skipped("Not told: they come with a verdict, and there was none.")
    if not any(heard.choice.get("logprobs") for heard in answers):
        return failed(
            f"Logprobs were asked for, and the replies hold none: there is no P(unsafe){_and_so(seen.config)}.",
            "Let the gateway pass the body's fields logprobs and top_logprobs on, and the reply's field logprobs back.",
        )
    return failed(
        f"Logprobs come, but no P(unsafe) can be read from them{_and_so(seen.config)}.",
        "Let the gateway pass top_logprobs on (5 each), and force no structured output, which changes them.",
    )


def _and_so(config: Config) -> str:
    """What the configured policy makes of a missing P."""
    stages = config.policy.stages.items()
    by_p = sorted({stage for stage, own in stages if own.unsafe_above is not None})
    if by_p:
        return f", so that every check of {', '.join(by_p)} fails (unsafe_above needs it)"
    if any(rule.above is not None for _, own in stages for rule in (own.default, *own.categories.values())):
        return ", so that each rule with above: acts as if it was reached"
    return ""
