"""Check what only some families can: a trace before the verdict, and categories of one's own.

Both are template arguments, which a gateway or an endpoint may drop in silence.
"""

from __future__ import annotations

from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import SAFE, Seen
from turnguard.doctor.findings import Told, failed, note, ok

_PASS_ON = "Let every proxy and gateway pass the body's field chat_template_kwargs on, with {name} in it."


def reasoning(seen: Seen) -> Told | None:
    """Say whether a trace comes, where reasoning is asked for."""
    if seen.endpoint.reasoning != "always":
        return None
    answers = [heard.verdict for heard in (seen.contact, seen.get("unsafe")) if heard.verdict is not None]
    if any(verdict.reasoning for verdict in answers):
        return ok("The model reasons before its verdict, and the trace is kept.")
    return failed("Reasoning is asked for, and no reply holds any.", _PASS_ON.format(name="enable_thinking"))


def example(seen: Seen) -> dict[str, Question]:
    """An example of the first category of the policy's own, with the policy's categories."""
    own = seen.config.policy.own
    if own is None or own.text is not None or not seen.family.own_categories:
        return {}
    first = own.categories[0]
    return {"own": Question(Exchange(first.disallowed[0] if first.disallowed else first.name, own=own))}


def own_categories(seen: Seen) -> Told | None:
    """Say whether the definitions reach the model."""
    heard, own = seen.heard.get("own"), seen.config.policy.own
    if heard is None or own is None:
        return None
    first = own.categories[0].name
    if heard.verdict is None:
        told = f"A text beside categories of your own brought no verdict: {heard.cause}."
        return failed(told, "Shorten the definitions, or raise --max-model-len.")
    if first in heard.verdict.categories:
        return ok(f"An example of {first} is named so.")
    if (heard.prompt_tokens or 0) <= (seen.contact.prompt_tokens or 0) + 50:
        told = "The definitions of your own categories do not reach the model: the prompt is no longer with them."
        return failed(told, _PASS_ON.format(name="custom_taxonomy"))
    told = f"The definitions reach the model, but an example of {first} is not named so."
    return note(told, "Define it more sharply, and give examples under disallowed.")


def beside_policy(seen: Seen) -> dict[str, Question]:
    """A harmless text, to be judged by the policy's own words."""
    own = seen.config.policy.own
    if own is None or own.text is None or not seen.family.own_categories:
        return {}
    return {"own policy": Question(Exchange(SAFE, own=own))}


def custom_policy(seen: Seen) -> Told | None:
    """Say whether a policy in words reaches the model. Where a proxy drops it, the prompt has the same length."""
    heard = seen.heard.get("own policy")
    if heard is None:
        return None
    if heard.verdict is None:
        told = f"A text beside your custom_policy brought no verdict: {heard.cause}."
        return failed(told, "Shorten the policy, or raise --max-model-len.")
    if seen.contact.prompt_tokens is not None and heard.prompt_tokens == seen.contact.prompt_tokens:
        told = "Your custom_policy does not reach the model: the prompt is as long without it."
        return failed(told, _PASS_ON.format(name="custom_policy"))
    return ok("Your custom_policy reaches the model.")
