"""Check what only some families can: a trace before the verdict, and categories of one's own.

Both are template arguments, which a gateway or an endpoint may drop in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Finding, failed, note, ok

_PASS_ON = "Let every proxy and gateway pass the body's field chat_template_kwargs on, with {name} in it."


def questions(seen: Seen) -> dict[str, Question]:
    """An example of the first category of the policy's own, with the policy's categories."""
    own = seen.config.policy.own
    if own is None or not seen.family.own_categories:
        return {}
    first = own.categories[0]
    return {"own": Question(Exchange(first.disallowed[0] if first.disallowed else first.name, own=own))}


def read(seen: Seen) -> Iterator[Finding]:
    """Yield nothing for what the configuration does not use."""
    if seen.endpoint.reasoning == "always":
        answers = [heard.verdict for heard in (seen.contact, seen.get("unsafe")) if heard.verdict is not None]
        if any(verdict.reasoning for verdict in answers):
            yield ok("reasoning", "The model reasons before its verdict, and the trace is kept.")
        else:
            told = "Reasoning is asked for, and no reply holds any."
            yield failed("reasoning", told, _PASS_ON.format(name="enable_thinking"))
    heard = seen.heard.get("own")
    if heard is None or seen.config.policy.own is None:
        return
    first = seen.config.policy.own.categories[0].name
    if heard.verdict is None:
        told = f"A text beside categories of your own brought no verdict: {heard.cause}."
        yield failed("own_categories", told, "Shorten the definitions, or raise --max-model-len.")
    elif first in heard.verdict.categories:
        yield ok("own_categories", f"An example of {first} is named so.")
    elif (heard.prompt_tokens or 0) <= (seen.contact.prompt_tokens or 0) + 50:
        told = "The definitions of your own categories do not reach the model: the prompt is no longer with them."
        yield failed("own_categories", told, _PASS_ON.format(name="custom_taxonomy"))
    else:
        told = f"The definitions reach the model, but an example of {first} is not named so."
        yield note("own_categories", told, "Define it more sharply, and give examples under disallowed.")
