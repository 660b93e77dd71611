"""`turnguard serve`: the guard over HTTP, for every language and gateway, and its console."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

CONFIG = Path("turnguard.yaml")


def serve(
    config: Path = typer.Option(CONFIG, "--config", "-c", metavar="FILE", help="The policy and the moderator."),
    host: Optional[str] = typer.Option(  # noqa: UP045
        None, "--host", help="The address to listen on; elsewhere than on loopback keys are needed."
    ),
    port: Optional[int] = typer.Option(  # noqa: UP045
        None, "--port", min=0, max=65535, help="The port; 0 takes a free one. 8080 by default."
    ),
    workers: Optional[int] = typer.Option(None, "--workers", min=1, help="Processes that serve."),  # noqa: UP045
) -> int:
    """Serve checks over HTTP, and a console at /console. A changed configuration is taken over while it runs."""
    from turnguard.cli import output
    from turnguard.core.errors import ConfigError

    if config == CONFIG and not config.exists():
        raise ConfigError(f"{config}: no such file here; 'turnguard init' writes one, --config FILE names another")
    from turnguard.service.server import serve as run

    run(config, host=host, port=port, workers=workers, announce=output.note)
    return output.PASSED
