"""Every measurement, one after the other: `make bench`. The peers join in once `benchmarks/peers/setup.sh` has run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks import rows

PARTS = {
    "benchmarks.core": "one check, beside the bare clients",
    "benchmarks.policies": "a shadow and ten named policies, beside one policy",
    "benchmarks.transcripts": "a step behind a history that was judged before",
    "benchmarks.media": "pictures beside bare Pillow, texts of 1 MB, and a PDF beside a bomb",
    "benchmarks.langchain": "an agent's turn, beside the same agent without Turnguard",
    "benchmarks.langchain_history": "a step behind a long conversation, beside the same agent without Turnguard",
    "benchmarks.first_token": "the first token, with the input judged beside the model call",
    "benchmarks.nemo": "a rail, beside a rail that does nothing",
    "benchmarks.service": "a check over HTTP, beside the guard alone",
    "benchmarks.peers.counts": "moderator calls of one agent run, beside the peers'",
    "benchmarks.peers": "a check and a turn, beside the peers'",
}


def main() -> int:
    machine = f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, {_processor()}"  # noqa: DTZ011
    print(machine)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        collected = Path(folder) / "rows"
        collected.touch()
        environment = {**os.environ, rows.FILE: str(collected)}
        for module, told in PARTS.items():
            print(f"\n== {module}: {told}", flush=True)
            command = [sys.executable, "-m", module]
            failed += subprocess.run(command, check=False, env=environment).returncode != 0
        print(f"\n{machine}\n\n" + "\n".join(rows.table(collected)))
    return 1 if failed else 0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
