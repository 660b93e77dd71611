"""Check that the configured model is the one that is served."""

from __future__ import annotations

import re
from collections.abc import Iterator

from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Finding, failed, note, ok

FAMILY_OF = (
    (re.compile(r"nemotron[-_. ]?3\.5[-_. ]content[-_. ]safety", re.IGNORECASE), "nemotron-3.5"),
    (re.compile(r"nemotron[-_. ]?3[-_. ]content[-_. ]safety", re.IGNORECASE), "nemotron-3"),
    (re.compile(r"nemotron[-_. ]content[-_. ]safety[-_. ]vl", re.IGNORECASE), "nemotron-3"),
)
_OTHER = re.compile(
    r"gemma|llama|qwen|mistral|granite|shieldgemma|gpt-oss|phi-|deepseek|reasoning-4b|safety-guard", re.IGNORECASE
)
SERVE = "vllm serve nvidia/Nemotron-3-Content-Safety --served-model-name {model}"


def read(seen: Seen) -> Iterator[Finding]:
    """The served name, what stands behind it, and whether that is of the configured family."""
    model, family = seen.endpoint.model, seen.endpoint.family
    if seen.models.status in (401, 403):
        return  # key.py tells
    if seen.cards and not seen.card:
        served = ", ".join(str(card.get("id")) for card in seen.cards[:5])
        yield failed(
            "model",
            f"The server does not serve {model!r}; it serves {served}.",
            f"Set moderator.model: {seen.cards[0].get('id')} if that is the moderator, or start the server with "
            f"--served-model-name {model}.",
        )
        return
    if seen.contact.status == 404 and "does not serve" in seen.contact.cause:
        yield failed(
            "model",
            f"The server does not serve {model!r}.",
            f"Set moderator.model to a name it serves, or start it with --served-model-name {model}.",
        )
        return
    if seen.sandbox:
        told = f"This is the sandbox, not the Nemotron model: {model} stands for small rules on the CPU."
        if seen.accept_sandbox:
            yield note("model", told)
        else:
            yield failed(
                "model",
                told,
                f"For production: {SERVE.format(model=model)}. To try things out: turnguard doctor --accept-sandbox.",
            )
        return
    if not seen.card:
        yield note("model", f"What stands behind {model!r} could not be learned: {_no_list(seen)}.")
        return
    yield _root(str(seen.card.get("root") or seen.card.get("id")), model, family)


def _root(root: str, model: str, family: str) -> Finding:
    named = root if root == model else f"{model} ({root})"
    found = next((name for pattern, name in FAMILY_OF if pattern.search(root)), None)
    if found == family:
        return ok("model", f"{named}, family {family}.")
    if found is not None:
        return _other_version(named, found, family)
    if _OTHER.search(root):
        return failed(
            "model", f"The server serves {named}, which is not a Nemotron content-safety model.",
            f"Start the right one: {SERVE.format(model=model)}.",
        )  # fmt: skip
    return note("model", f"{named} is served from a name that says nothing of its family; the canaries must speak.")


def _other_version(named: str, found: str, family: str) -> Finding:
    from turnguard.core.families import FAMILIES

    if found in FAMILIES:
        told = f"{named} is of the family {found}, and {family} is configured."
        return failed("model", told, f"Set moderator.family: {found}.")
    return note("model", f"{named} is of the family {found}; it is asked and read as {family}, which it also speaks.")


def _no_list(seen: Seen) -> str:
    return seen.models.cause or f"/v1/models does not list it (HTTP {seen.models.status})"
