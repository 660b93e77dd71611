"""The fixtures, in a test suite of an adopter's: a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
from turnguard import Guard, Step

def test_server(turnguard_server, turnguard_config):
    turnguard_server.when("bomb", categories=["Violence"])
    guard = Guard.from_yaml(turnguard_config)
    assert guard.check(Step.input("a bomb", language="en")).action == "block"
    assert guard.check(Step.input("a cake")).action == "allow"
    guard.close()

def test_moderator(turnguard_moderator, turnguard_guard):
    turnguard_moderator.unsafe = {"bomb": ["Violence"]}
    assert turnguard_guard({"default": "flag"}).check(Step.input("a bomb")).action == "flag"
    assert len(turnguard_moderator.asked) == 1
"""


def test_fixtures_are_enabled_by_one_line(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["turnguard.testing.plugin"]\n')
    (tmp_path / "test_mine.py").write_text(SUITE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
