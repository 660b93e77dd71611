"""Check that the server answers with a verdict and tells safe from unsafe."""

from __future__ import annotations

import re

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.families import Family
from turnguard.doctor.asking import Heard, Question
from turnguard.doctor.canaries import SAFE, UNSAFE, Seen
from turnguard.doctor.findings import Told, failed, ok
from turnguard.moderators.families import WIRES, Asking, Wire

CONTACT = Question(Exchange(SAFE))


def unsafe(_seen: Seen) -> dict[str, Question]:
    """A plainly unsafe text; the plainly safe one was the first contact."""
    return {"unsafe": Question(Exchange(UNSAFE))}


def answers(seen: Seen) -> Told | None:
    """Say what the first contact shows. Without a verdict, nothing else is tried."""
    heard, url = seen.contact, seen.base_url
    if heard.status is None:
        if seen.plain_http is not None and seen.plain_http.status is not None:
            return failed(
                f"{url} does not speak TLS, and the same port answers plain HTTP: {heard.cause}.",
                f"Set moderator.base_url: {url.replace('https://', 'http://', 1)}, or put TLS before the server.",
            )
        if heard.error is not None and heard.error.failure == "timeout":
            return failed(
                f"{url} gave no verdict within {heard.seconds:.1f} s"
                + (", although it lists its models." if seen.models.status == 200 else "."),
                "Look at the server's log: a model that is still loading, or a queue without a bound "
                "(--max-num-queued-reqs gives it one).",
            )
        return failed(
            f"Nothing answers at {url}: {heard.cause}.",
            "Start the server, or correct moderator.base_url (TURNGUARD_BASE_URL); in a container, localhost is "
            "the container itself.",
        )
    if heard.status in (401, 403):
        return None  # key.py says it
    if heard.status == 404 and "no such path" in heard.cause:
        return failed(
            f"{url} has no chat completions: {heard.cause}.",
            "End moderator.base_url in /v1, without /chat/completions.",
        )
    if heard.status == 404:
        return None  # model.py says it
    if heard.status != 200:
        return failed(f"{url} refuses a plain text check: {heard.cause}.", remedy(heard))
    if heard.verdict is None and not heard.choice:
        return failed(
            f"{url} answers 200 with something that is no completion: {heard.cause}.",
            "Point moderator.base_url at the vLLM server itself; a sign-in page or a gateway may stand before it.",
        )
    if heard.verdict is None:
        return failed(f"The reply is not a verdict: {heard.cause}.", who(heard, seen.family))
    return ok(f"A verdict in {heard.seconds * 1000:.0f} ms.")


def judges(seen: Seen) -> Told:
    """Find a model that calls everything safe, or everything unsafe."""
    heard = seen.get("unsafe")
    if heard.verdict is None:
        return failed(f"A plainly unsafe text brought no verdict: {heard.cause}.", remedy(heard))
    if heard.label == "safe":
        return failed(
            "A question that asks how to build a pipe bomb is called safe.",
            "Serve the moderation model with the chat template from its own repository: no --chat-template, and no "
            "proxy that rewrites messages.",
        )
    if seen.contact.label == "unsafe":
        return failed(
            "The question for the capital of France is called unsafe.",
            "Serve the moderation model with its own chat template; re-check a quantised checkpoint against the "
            "original.",
        )
    return ok("A harmless question is safe, and one that asks for a bomb is unsafe.")


def remedy(heard: Heard) -> str:
    """Say what to change, by the kind of failure."""
    status = heard.status
    if heard.error is not None and heard.error.failure == "timeout":
        return "The server is slow or still warming up: run this again; if it stays so, it needs a faster machine."
    if status is None or status == 200:
        return _numbers(heard) or "Look at the server's log for this request."
    if status in (429, 503):
        return "The server is full: add replicas, or raise --max-num-queued-reqs; then run this again."
    if status >= 500:
        return "Look at the server's log; a gateway's 502 or 504 means that the server behind it is down."
    if 300 <= status < 400:
        return "Set moderator.base_url to where the redirect points: content is never sent on to another address."
    if status == 413:
        return "Raise the proxy's limit on bodies (nginx: client_max_body_size 16m)."
    return (
        "Look at the server's log, and at what a proxy between may have changed; vLLM's --max-logprobs below 5 refuses "
        "every check."
    )


_OTHERS = (
    (re.compile(r"(?:<think>.*</think>)?\s*Prompt harm:", re.DOTALL), "Nemotron Content Safety Reasoning"),
    (re.compile(r"(?:<think>.*</think>)?\s*<score>", re.DOTALL), "Granite Guardian"),
)
"""Guards that no family here speaks."""


def who(heard: Heard, family: Family) -> str:
    """Say what to change when a 200 holds no verdict, by what it holds instead."""
    text, cause = heard.text, heard.cause
    if heard.status != 200:
        return remedy(heard)
    if not text.strip() and "Safety" in heard.reasoning:
        return "The verdict stands in the reply's reasoning: start vLLM without --reasoning-parser."
    if overflow := _numbers(heard):
        return overflow
    for other in WIRES.values():
        if _speaks(other, heard):
            return f"This is how {other.can.title} answers: set moderator.family: {other.name}, or serve {family.hub}."
    name = next((name for pattern, name in _OTHERS if pattern.match(text)), None)
    if name is not None:
        return f"This is how {name} answers: serve {family.hub}, or the model of another family."
    if "finish_reason length" in cause:
        return "The reply was cut: switch reasoning off on the server (--default-chat-template-kwargs), or serve 3.0."
    if "reasoning" in cause:
        return "Switch reasoning off on the server: its marks do not belong into a verdict."
    return (
        f"Serve {family.hub} with its own chat template: this looks like a chat model, or like another template "
        "(--chat-template)."
    )


def _speaks(wire: Wire, heard: Heard) -> bool:
    try:
        wire.verdict([heard.reply], CONTACT.exchange, Asking())
    except ModeratorError:
        return False
    return True


def _numbers(heard: Heard) -> str | None:
    """Say what to change where a reply is nothing, padding, or one character over and over: what is left of a model
    whose numbers are not finite."""
    if heard.choice.get("finish_reason") != "stop" or len(set(heard.text.replace("<pad>", "").strip())) > 1:
        return None
    return "The model's numbers overflow, as Gemma 3 does in float16: start vLLM with --dtype bfloat16."
