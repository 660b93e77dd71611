"""Check that the API key is accepted, and that a wrong one is refused."""

from __future__ import annotations

from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Told, failed, note, ok

WRONG = "turnguard-doctor-wrong-key"


def api_key(seen: Seen) -> Told | None:
    """Check that the key is accepted and a wrong one refused. vLLM's `--api-key` guards `/v1` alone."""
    configured = bool(seen.endpoint.api_key.get_secret_value())
    if seen.contact.status in (401, 403):
        if configured:
            return failed(
                f"The server refuses the configured API key (HTTP {seen.contact.status}).",
                "Set moderator.api_key (TURNGUARD_API_KEY) to what the server was started with: vLLM's --api-key or "
                "VLLM_API_KEY.",
            )
        return failed(
            f"The server wants an API key and none is configured (HTTP {seen.contact.status}).",
            "Set the environment variable TURNGUARD_API_KEY, and moderator.api_key: ${TURNGUARD_API_KEY}.",
        )
    if seen.contact.status is None or seen.wrong_key is None or seen.wrong_key.status is None:
        return None
    if seen.wrong_key.status in (401, 403):
        return ok("The key is accepted, and a wrong one is refused.")
    if configured:
        return note(
            "The server answers to a wrong key too: it asks for none.",
            "Start vLLM with --api-key (or VLLM_API_KEY), and let nobody else reach its port: /invocations and "
            "/metrics stay open even so.",
        )
    return note("The server asks for no key: whoever reaches its port can use it.")
