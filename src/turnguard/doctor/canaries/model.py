"""Check that the configured model is the one that is served."""

from __future__ import annotations

import re

from turnguard.core.families import FAMILIES, Family, recognised
from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Told, failed, note, ok

_OTHER = re.compile(
    r"gemma|llama|qwen|mistral|granite|shieldgemma|gpt-oss|phi-|deepseek|reasoning-4b|safety-guard", re.IGNORECASE
)


def serve(family: Family, model: str) -> str:
    """The command that serves a family's model under this name."""
    return f"vllm serve {family.hub} --served-model-name {model}"


def model(seen: Seen) -> Told | None:
    """The served name, what stands behind it, and whether that is of the configured family."""
    name = seen.endpoint.model
    if seen.models.status in (401, 403):
        return None  # key.py says it
    if seen.cards and not seen.card:
        served = ", ".join(str(card.get("id")) for card in seen.cards[:5])
        return failed(
            f"The server does not serve {name!r}; it serves {served}.",
            f"Set moderator.model: {seen.cards[0].get('id')} if that is the moderator, or start the server with "
            f"--served-model-name {name}.",
        )
    if seen.contact.status == 404 and "does not serve" in seen.contact.cause:
        return failed(
            f"The server does not serve {name!r}.",
            f"Set moderator.model to a name it serves, or start it with --served-model-name {name}.",
        )
    if seen.sandbox:
        meant = "the Nemotron model" if "nemotron" in seen.family.name else seen.family.title
        told = f"This is the sandbox, not {meant}: {name} stands for small rules on the CPU."
        if seen.accept_sandbox:
            return note(told)
        real = f"For production: {serve(seen.family, name)}. To try things out: turnguard doctor --accept-sandbox."
        return failed(told, real)
    if not seen.card:
        return note(f"What stands behind {name!r} could not be learned: {_no_list(seen)}.")
    return _root(str(seen.card.get("root") or seen.card.get("id")), name, seen.family)


def _root(root: str, model: str, family: Family) -> Told:
    named = root if root == model else f"{model} ({root})"
    found = recognised(root)
    if found == family:
        return ok(f"{named}, family {family.name}.")
    if found is not None and found.name.startswith(f"{family.name}."):
        told = f"{named} is of the family {found.name}; it is asked and read as {family.name}, which it also speaks."
        return note(told, f"Set moderator.family: {found.name} for all that it can do.")
    if found is not None:
        told = f"{named} is of the family {found.name}, and {family.name} is configured."
        return failed(told, f"Set moderator.family: {found.name}, or start the right one: {serve(family, model)}.")
    if _OTHER.search(root):
        return failed(
            f"The server serves {named}, which is of none of the families: {', '.join(FAMILIES)}.",
            f"Start the right one: {serve(family, model)}.",
        )
    return note(f"{named} is served from a name that says nothing of its family; the canaries must speak.")


def _no_list(seen: Seen) -> str:
    return seen.models.cause or f"/v1/models does not list it (HTTP {seen.models.status})"
