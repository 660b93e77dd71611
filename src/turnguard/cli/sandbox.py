"""`turnguard sandbox`: the embedded stand-in for the GPU server, on loopback."""

from __future__ import annotations

from typing import Optional

import typer

from turnguard.core.families import FAMILIES


def sandbox(
    host: str = typer.Option("127.0.0.1", "--host", help="The address to listen on."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="The port; 0 takes a free one."),
    model: str = typer.Option("nemotron_moderator", "--model", help="The name that the server answers to."),
    family: str = typer.Option(
        "nemotron-3", "--family", help=f"Whose requests it takes and whose replies it gives: {', '.join(FAMILIES)}."
    ),
    api_key: str | None = typer.Option(
        None, "--api-key", envvar="TURNGUARD_API_KEY", show_envvar=True, help="Ask clients for this key."
    ),
    latency: float = typer.Option(
        0.0, "--latency", min=0.0, help="Seconds that each answer takes beyond its judging, as a GPU would."
    ),
    max_running: Optional[int] = typer.Option(  # noqa: UP045
        None, "--max-running", min=1, help="Requests at work at once (vLLM: --max-num-seqs). Without limit by default."
    ),
    max_queued: Optional[int] = typer.Option(  # noqa: UP045
        None,
        "--max-queued",
        min=0,
        help="How many more may wait; further ones get 503. Without limit by default.",
    ),
) -> int:
    """Serve vLLM's wire format without GPU and network: small transparent rules, not the Nemotron model."""
    from turnguard.cli import output
    from turnguard.core.errors import ConfigError
    from turnguard.sandbox import Sandbox

    if family not in FAMILIES:
        raise ConfigError(f"--family: unknown family {family!r}; one of: {', '.join(FAMILIES)}")
    server = Sandbox(
        host=host,
        port=port,
        model=model,
        family=family,
        api_key=api_key or None,
        latency=latency,
        max_running=max_running,
        max_queued=max_queued,
        announce=output.note,
    )
    server.serve_forever()  # announces itself and what it is not; returns only when it was interrupted
    return output.INTERRUPTED
