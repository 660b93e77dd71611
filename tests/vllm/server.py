"""Starts and stops a real vLLM server over the tiny moderator, on a free port of the loopback."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKPOINT = Path(__file__).parent / "checkpoint"
MODEL = "nemotron_moderator"
MAX_MODEL_LEN = 4096
START_SECONDS = 240.0
"""Patience with the start, which takes half a minute on two idle cores (compiling would add one: hence eager mode)."""

SERVE = (
    "--served-model-name", MODEL, "--host", "127.0.0.1", "--max-model-len", str(MAX_MODEL_LEN), "--dtype", "bfloat16",
    "--enforce-eager", "--limit-mm-per-prompt", '{"image":1}', "--max-num-seqs", "32",
)  # fmt: skip


class ServerFailedError(RuntimeError):
    """The server ended or did not get healthy in time; the message ends with the tail of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: ``base_url`` without ``/v1``, its process, and the file with all it printed."""

    base_url: str
    process: subprocess.Popen[bytes]
    log: Path

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port below those that the system hands out by itself: vLLM binds seconds later, and nobody may take it until
    then, be it for an outgoing connection."""
    rng = random.SystemRandom()
    while True:
        port = rng.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _healthy(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(base_url + "/health", timeout=2) as reply:  # noqa: S310 - our own http URL
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(server: Server, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _healthy(server.base_url):
        code = server.process.poll()
        if code is not None or time.monotonic() > deadline:
            what = f"ended with {code}" if code is not None else f"was not healthy after {seconds:.0f} s"
            raise ServerFailedError(f"vLLM {what}; the end of {server.log}:\n{server.log_tail()}")
        time.sleep(0.25)


def stop(process: subprocess.Popen[bytes], grace: float = 20.0) -> None:
    """Asks the server to stop, then kills what is left of its process group (the engine is a process of its own)."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def serve(
    python: Path, *extra: str, checkpoint: Path = CHECKPOINT, environ: Sequence[tuple[str, str]] = ()
) -> Iterator[Server]:
    """Serves a checkpoint with the vLLM of the environment that ``python`` belongs to, until the block ends.

    ``extra`` are further options of ``vllm serve``; a later option overrides an earlier one. Raises ServerFailedError.
    """
    base_url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        **dict(environ),
    }
    with tempfile.NamedTemporaryFile(prefix="turnguard-vllm-", suffix=".log", delete=False) as log:
        command = [str(python.parent / "vllm"), "serve", str(checkpoint), "--port", str(port), *SERVE, *extra]
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    server = Server(base_url, process, Path(log.name))
    try:
        _wait(server, START_SECONDS)
        yield server
    except BaseException:
        stop(process)
        raise  # the log stays for whoever looks into it
    stop(process)
    server.log.unlink(missing_ok=True)
