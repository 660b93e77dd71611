"""What every test stands on: no network but loopback (pytest-socket), warnings as errors (pyproject.toml)."""

from __future__ import annotations

import os

# Nothing on the machine may decide what a test sees; set before anything is imported.
for _name in ("TURNGUARD_BASE_URL", "TURNGUARD_API_KEY", "TURNGUARD_TRACEBACK", "FORCE_COLOR", "COLUMNS"):
    os.environ.pop(_name, None)
os.environ["NO_PROXY"] = "*"

pytest_plugins = ["tests.vllm.plugin"]
