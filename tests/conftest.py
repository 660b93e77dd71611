"""What every test stands on: no network but loopback (pytest-socket), warnings as errors (pyproject.toml)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Nothing on the machine may decide what a test sees; set before anything is imported.
for _name in ("TURNGUARD_BASE_URL", "TURNGUARD_API_KEY", "TURNGUARD_TRACEBACK", "FORCE_COLOR", "COLUMNS"):
    os.environ.pop(_name, None)
os.environ["NO_PROXY"] = "*"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data sets beside the checkout, which are not part of the repository; the test is skipped without them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not beside this checkout (../shared/data)")
    return folder
