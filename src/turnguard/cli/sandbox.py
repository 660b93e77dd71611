"""`turnguard sandbox`: the embedded stand-in for the GPU server, on loopback."""

from __future__ import annotations

from typing import Optional

import typer


def sandbox(
    host: str = typer.Option("127.0.0.1", "--host", help="The address to listen on."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="The port; 0 takes a free one."),
    model: str = typer.Option("nemotron_moderator", "--model", help="The name that the server answers to."),
    api_key: Optional[str] = typer.Option(  # noqa: UP045 - typer reads annotations at run time, on 3.10 too
        None, "--api-key", envvar="TURNGUARD_API_KEY", show_envvar=True, help="Ask clients for this key."
    ),
) -> int:
    """Serve vLLM's wire format without GPU and network: small transparent rules, not the Nemotron model."""
    from turnguard.cli import output
    from turnguard.sandbox import Sandbox

    server = Sandbox(host=host, port=port, model=model, api_key=api_key or None, announce=output.note)
    server.serve_forever()  # announces itself and what it is not; returns only when it was interrupted
    return output.INTERRUPTED
