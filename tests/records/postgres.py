"""A PostgreSQL of Debian's packages on loopback, in a folder of its own, run by the user `postgres`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BIN = Path("/usr/lib/postgresql/15/bin")


def available() -> bool:
    """Whether the binaries are there, and a user that may run them: PostgreSQL refuses root."""
    if not (BIN / "postgres").exists():
        return False
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return os.geteuid() != 0
    return True


class Postgres:
    """A running server. `url` names its database."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"postgresql://turnguard@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off -c full_page_writes=off"
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def stop(self) -> None:
        """Stop it at once: connections end, nothing that was committed is lost."""
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "fast", "stop")


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for the length of a test session."""
    folder = Path(tempfile.mkdtemp(prefix="turnguard-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        _run("initdb", "-D", str(folder / "data"), "-U", "turnguard", "-A", "trust", "-E", "UTF8", "--no-sync")
        server = Postgres(folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> None:
    command: Sequence[str] = (str(BIN / program), *arguments)
    user = "postgres" if os.geteuid() == 0 else None
    # no pipes: the server would inherit them and keep its starter waiting
    with tempfile.TemporaryFile() as out:
        done = subprocess.run(command, user=user, cwd="/", stdout=out, stderr=out, check=False)
        out.seek(0)
        assert done.returncode == 0, out.read().decode()
