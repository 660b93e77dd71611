"""The example of eight workers in docs/operate.md, against a real redis-server."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.scale.conftest import KEY, PASSWORD, Store
from turnguard.testing import FakeVLLM

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate.md"


def block(title: str, holds: str) -> str:
    found = re.findall(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [each for each in found if holds in each]
    return str(text)


def test_eight_workers_share_one_memory(tmp_path: Path, store: Store) -> None:
    with FakeVLLM() as server:
        settings = block("turnguard.yaml", "TURNGUARD_MEMORY_KEY")
        assert "localhost:6379" in settings
        settings = settings.replace("localhost:6379", f"127.0.0.1:{store.port}")
        settings = settings.replace("http://localhost:8000/v1", server.base_url)
        (tmp_path / "turnguard.yaml").write_text(settings)
        (tmp_path / "workers.py").write_text(block("workers.py", "Pool(7)"))
        given = {"REDIS_PASSWORD": PASSWORD.replace(" ", "%20"), "TURNGUARD_MEMORY_KEY": KEY}
        done = subprocess.run(
            [sys.executable, "workers.py"],
            check=True,
            cwd=tmp_path,
            env={**os.environ, **given},
            capture_output=True,
            text=True,
        )
        remembered = ast.literal_eval(done.stdout)
        assert len(remembered) == 7
        assert len(server.chats) == 50 + sum(50 - each for each in remembered)
        if "shared memory" not in done.stderr:  # a loaded machine may keep a look-up waiting for longer than it may
            assert remembered == [49] * 7
        assert sum(remembered) > 0
