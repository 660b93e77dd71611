"""Check that the configured model is the one that is served."""

from __future__ import annotations

import re
from collections.abc import Iterator

from turnguard.core.families import FAMILIES, Family, recognised
from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Finding, failed, note, ok

_OTHER = re.compile(
    r"gemma|llama|qwen|mistral|granite|shieldgemma|gpt-oss|phi-|deepseek|reasoning-4b|safety-guard", re.IGNORECASE
)


def serve(family: Family, model: str) -> str:
    """The command that serves a family's model under this name."""
    return f"vllm serve {family.hub} --served-model-name {model}"


def read(seen: Seen) -> Iterator[Finding]:
    """The served name, what stands behind it, and whether that is of the configured family."""
    model = seen.endpoint.model
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
        meant = "the Nemotron model" if "nemotron" in seen.family.name else seen.family.title
        told = f"This is the sandbox, not {meant}: {model} stands for small rules on the CPU."
        if seen.accept_sandbox:
            yield note("model", told)
        else:
            yield failed(
                "model",
                told,
                f"For production: {serve(seen.family, model)}. To try things out: turnguard doctor --accept-sandbox.",
            )
        return
    if not seen.card:
        yield note("model", f"What stands behind {model!r} could not be learned: {_no_list(seen)}.")
        return
    yield _root(str(seen.card.get("root") or seen.card.get("id")), model, seen.family)


def _root(root: str, model: str, family: Family) -> Finding:
    named = root if root == model else f"{model} ({root})"
    found = recognised(root)
    if found == family:
        return ok("model", f"{named}, family {family.name}.")
    if found is not None and found.name.startswith(f"{family.name}."):
        told = f"{named} is of the family {found.name}; it is asked and read as {family.name}, which it also speaks."
        return note("model", told, f"Set moderator.family: {found.name} for all that it can do.")
    if found is not None:
        told = f"{named} is of the family {found.name}, and {family.name} is configured."
        return failed(
            "model", told, f"Set moderator.family: {found.name}, or start the right one: {serve(family, model)}."
        )
    if _OTHER.search(root):
        return failed(
            "model",
            f"The server serves {named}, which is of none of the families: {', '.join(FAMILIES)}.",
            f"Start the right one: {serve(family, model)}.",
        )
    return note("model", f"{named} is served from a name that says nothing of its family; the canaries must speak.")


def _no_list(seen: Seen) -> str:
    return seen.models.cause or f"/v1/models does not list it (HTTP {seen.models.status})"
