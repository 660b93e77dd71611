"""What every test stands on: no network but loopback (pytest-socket), warnings as errors (pyproject.toml)."""

from __future__ import annotations

import os

import pytest

# Nothing on the machine may decide what a test sees; set before anything is imported.
for _name in ("TURNGUARD_BASE_URL", "TURNGUARD_API_KEY", "TURNGUARD_TRACEBACK", "FORCE_COLOR", "COLUMNS"):
    os.environ.pop(_name, None)
os.environ["NO_PROXY"] = "*"

pytest_plugins = ["tests.vllm.plugin"]


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as exhaustive what the selections of `pairwise` tests leave out."""
    from tests import pairwise

    pairwise.mark(items)
