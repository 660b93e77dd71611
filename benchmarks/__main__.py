"""Every measurement, one after the other: `make bench`. The peers join in once `benchmarks/peers/setup.sh` has run."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

PARTS = {
    "benchmarks.core": "one check, beside the bare clients",
    "benchmarks.media": "pictures, beside the bare Pillow operations that they need",
    "benchmarks.langchain": "an agent's turn, beside the same agent without Turnguard",
    "benchmarks.nemo": "a rail, beside a rail that does nothing",
    "benchmarks.peers": "a check and a turn, beside the peers'",
}


def main() -> int:
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, {_processor()}")  # noqa: DTZ011
    failed = 0
    for module, told in PARTS.items():
        print(f"\n== {module}: {told}", flush=True)
        failed += subprocess.run([sys.executable, "-m", module], check=False).returncode != 0
    return 1 if failed else 0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
