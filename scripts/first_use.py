"""From an empty folder to a blocked prompt in one's own agent, in six commands, as docs/start.md tells it.

python scripts/first_use.py WHEEL [EXTRA]

Everything runs in a folder and an environment of its own: all that it takes from this machine is Python, and from the
project the wheel. EXTRA is `sandbox` as in the page; `''` installs the base alone, without OCR.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "start.md"
REFUSED = "I'm sorry, I can't help with getting, making or using weapons."
MOST = 6


def main(wheel: Path, extra: str = "sandbox") -> None:
    """Raise SystemExit with a sentence where a command fails or the prompt is not blocked."""
    agent = re.search(r'```python title="agent.py"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert agent is not None  # noqa: S101 - the page has one
    port = _free_port()
    name = f"turnguard[{extra}]" if extra else "turnguard"
    package = shlex.quote(f"{name} @ {wheel.resolve().as_uri()}")
    python = shlex.quote(getattr(sys, "_base_executable", sys.executable))
    commands = (
        f"{python} -m venv env",
        f"env/bin/pip install --quiet --disable-pip-version-check {package}",
        f"env/bin/turnguard sandbox --port {port} &",
        "env/bin/turnguard init",
        f"cat > agent.py <<'END'\n{agent[1]}END",
        "env/bin/python agent.py",
    )
    assert len(commands) <= MOST  # noqa: S101
    with tempfile.TemporaryDirectory() as folder:
        # the sandbox starts in seconds; a person would see that it has, a script waits for its port
        wait = f"until (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do kill -0 $sandbox; sleep 0.1; done"
        steps = [*commands[:3], "sandbox=$!", "trap 'kill $sandbox' EXIT", *commands[3:5], wait, commands[5]]
        ran = subprocess.run(
            ["bash", "-euc", "\n".join(steps)],
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
                "TURNGUARD_BASE_URL": f"http://127.0.0.1:{port}/v1",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=900,
        )
    if ran.returncode != 0:
        raise SystemExit(f"first use failed with exit code {ran.returncode}: {ran.stdout}")
    said = [line for line in ran.stdout.splitlines() if line.startswith("agent:")]
    if said[0].endswith(REFUSED) or not said[1].endswith(REFUSED):
        raise SystemExit(f"the agent's second prompt was to be blocked, and that alone: {ran.stdout}")
    sys.stdout.write(f"a prompt is blocked in one's own agent after {len(commands)} commands\n")


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
