"""Check that the API key is accepted, and that a wrong one is refused."""

from __future__ import annotations

from collections.abc import Iterator

from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Finding, failed, note, ok

WRONG = "turnguard-doctor-wrong-key"


def read(seen: Seen) -> Iterator[Finding]:
    """Check that the key is accepted and a wrong one refused. vLLM's `--api-key` guards `/v1` alone."""
    configured = bool(seen.endpoint.api_key.get_secret_value())
    if seen.contact.status in (401, 403):
        if configured:
            yield failed(
                "api_key",
                f"The server refuses the configured API key (HTTP {seen.contact.status}).",
                "Set moderator.api_key (TURNGUARD_API_KEY) to what the server was started with: vLLM's --api-key or "
                "VLLM_API_KEY.",
            )
        else:
            yield failed(
                "api_key",
                f"The server wants an API key and none is configured (HTTP {seen.contact.status}).",
                "Set the environment variable TURNGUARD_API_KEY, and moderator.api_key: ${TURNGUARD_API_KEY}.",
            )
        return
    if seen.contact.status is None or seen.wrong_key is None or seen.wrong_key.status is None:
        return
    if seen.wrong_key.status in (401, 403):
        yield ok("api_key", "The key is accepted, and a wrong one is refused.")
    elif configured:
        yield note(
            "api_key",
            "The server answers to a wrong key too: it asks for none.",
            "Start vLLM with --api-key (or VLLM_API_KEY), and let nobody else reach its port: /invocations and "
            "/metrics stay open even so.",
        )
    else:
        yield note("api_key", "The server asks for no key: whoever reaches its port can use it.")
