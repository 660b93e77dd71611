"""A service on loopback: uvicorn in a thread, and `turnguard serve` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from turnguard import Guard
from turnguard.config.service import ServiceSettings
from turnguard.config.settings import RecordsSettings
from turnguard.service.app import create_app
from turnguard.service.server import Patient
from turnguard.service.state import Shared, over_http
from turnguard.testing import FakeVLLM

CHECK, READ, REVIEW, ADMIN = ("check", "read", "review", "admin")
KEYS = {role: f"key-of-role-{role}-0123456789" for role in (CHECK, READ, REVIEW, ADMIN)}


@dataclass(slots=True)
class Running:
    """Where a service listens."""

    url: str

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False, **options)


@contextmanager
def served(
    guard: Guard,
    settings: ServiceSettings | None = None,
    records: RecordsSettings | None = None,
    shared: Shared = Shared(),  # noqa: B008 - frozen
) -> Iterator[Running]:
    """Serve a guard from a thread of this process."""
    app = create_app(guard, settings, records=records, shared=shared)
    config = uvicorn.Config(app, port=0, http=Patient, ws="none", lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[socket])), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{socket.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()


@contextmanager
def process(config: Path, *options: str) -> Iterator[tuple[Running, subprocess.Popen[str], str]]:
    """`turnguard serve` on a free port: where it listens, the process, and what it said."""
    command = [sys.executable, "-m", "turnguard", "serve", "--config", str(config), "--port", "0", *options]
    environment = {**os.environ, "NO_PROXY": "*"}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=config.parent)
    try:
        assert running.stderr is not None
        said = running.stderr.readline()
        found = re.search(r"serving on (http://\S+?),", said)
        assert found is not None, said + running.stderr.read()
        place = Running(found[1])
        deadline = time.monotonic() + 100
        while True:
            try:
                with place.client() as client:
                    client.get("/health/live")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the service did not answer"
                time.sleep(0.1)
        yield place, running, said
    finally:
        if running.poll() is None:
            running.terminate()
        try:
            running.wait(90)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        assert running.stderr is not None
        running.stderr.close()


def settings(**more: Any) -> ServiceSettings:
    """A key of each role."""
    keys = [{"key": key, "role": role} for role, key in KEYS.items()]
    return ServiceSettings.model_validate({"keys": keys, **more})


@pytest.fixture
def vllm() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        yield fake


@pytest.fixture
def guard_of(vllm: FakeVLLM) -> Callable[..., Guard]:
    """A guard that asks the fake server, with a policy given as a mapping."""

    def made(policy: dict[str, Any] | None = None, **options: Any) -> Guard:
        from turnguard.config.document import from_dict

        config = from_dict({"moderator": {"base_url": vllm.base_url}, "policy": policy or {}, **options}, {})
        return Guard.from_config(over_http(config))

    return made
