"""A real vLLM for the tests marked ``vllm``: one server for the whole session, started by the first test that asks.

A plugin rather than a ``conftest``, since the tests of several folders share that one server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vllm.server import START_SECONDS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PYTHON = "TURNGUARD_VLLM_PYTHON"
"""Names the Python of the environment that scripts/vllm_env.py makes."""


_RUNNING = pytest.StashKey[Server]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The start of a server counts into the first test's time, so that these tests get a longer one."""
    for item in items:
        if item.get_closest_marker("vllm") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(START_SECONDS + 120))


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The Python beside which ``vllm`` is installed, for tests that start a server with options of their own."""
    named = os.environ.get(PYTHON)
    if not named:
        pytest.skip(f"{PYTHON} is not set: `python scripts/vllm_env.py` makes the environment and prints its value")
    python = Path(named)
    if not (python.parent / "vllm").exists():
        pytest.fail(f"{PYTHON}={named}, but there is no vllm beside it")
    return python


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of the server's log beside a failure of a test that uses it."""
    report = yield
    server = item.config.stash.get(_RUNNING, None)
    if report.failed and server is not None and item.get_closest_marker("vllm"):
        report.sections.append((f"end of {server.log}", server.log_tail()))
    return report


@pytest.fixture(scope="session")
def vllm_server(vllm_python: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    """The base URL, without ``/v1``, of a vLLM that serves the tiny moderator as ``nemotron_moderator``."""
    with serve(vllm_python) as server:
        pytestconfig.stash[_RUNNING] = server
        yield server.base_url
        del pytestconfig.stash[_RUNNING]
