"""A real redis-server on loopback, with a password."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

PASSWORD = "a password of this test"
KEY = "k" * 32


@dataclass
class Store:
    """A server that can be stopped and started again."""

    port: int
    folder: Path
    more: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD)

    def start(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "save": "", "dir": self.folder}
        told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            ["redis-server", *told, *self.more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20.0
        while time.monotonic() < until:
            try:
                with self.client as client:
                    client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError("redis-server does not answer")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def names(self) -> list[bytes]:
        with self.client as client:
            return sorted(client.keys("*"))


@pytest.fixture
def start_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    started: list[Store] = []

    def start(*more: str) -> Store:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        store = Store(port, tmp_path, more)
        store.start()
        started.append(store)
        return store

    yield start
    for store in started:
        store.kill()


@pytest.fixture
def store(start_store: Callable[..., Store]) -> Store:
    return start_store()
