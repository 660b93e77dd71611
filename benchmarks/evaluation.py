"""How fast `turnguard batch` is on one core against a server that answers at once, and in how much memory; and how long
the bootstrap takes. Run: `python -m benchmarks.evaluation [ROWS] [--kills N]`. With kills, the same rows once more,
killed at random points and resumed, must give the same bytes.

The server is a process of its own (on another core where there is one) that parses nothing and sends a canned verdict.
On a machine that others use, the rate by CPU time is the one that can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROWS = 100_000
WATCHED = (
    "import sys, time; from turnguard.cli import main; code = main();"
    "peak = next(s for s in open('/proc/self/status') if s.startswith('VmHWM'));"
    "print('cpu', time.process_time(), peak.split()[1], file=sys.stderr); sys.exit(code)"
)


def canned() -> tuple[bytes, bytes]:
    """The replies to a chat request and to /v1/models."""
    tokens = ["User", " Safety", ":", " safe"]
    logprobs = [
        {
            "token": token,
            "logprob": -0.01,
            "bytes": None,
            "top_logprobs": [
                {"token": token, "logprob": -0.01, "bytes": None},
                {"token": " unsafe", "logprob": -5.0, "bytes": None},
            ],
        }
        for token in tokens
    ]
    message = {"role": "assistant", "content": "".join(tokens)}
    choice = {"index": 0, "message": message, "logprobs": {"content": logprobs}, "finish_reason": "stop"}
    chat = {"id": "x", "object": "chat.completion", "created": 1, "model": "nemotron_moderator", "choices": [choice]}
    card = {"id": "nemotron_moderator", "object": "model", "root": "canned", "max_model_len": 4096}
    return _http(chat), _http({"object": "list", "data": [card]})


def _http(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


class AtOnce(asyncio.Protocol):
    """Reads up to the end of each request and answers."""

    chat, models = canned()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length :]
            self.transport.write(self.models if head.startswith(b"get") else self.chat)


async def serve(port_file: Path) -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_server(AtOnce, "127.0.0.1", 0, backlog=1024)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))  # noqa: ASYNC240 - nothing else runs yet
    await server.serve_forever()


def pinned(core: int) -> list[str]:
    """A command prefix that keeps a process on one core, where the system can."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "-c", str(cores[core % len(cores)])] if cores else []


@contextlib.contextmanager
def prepared(rows: int) -> Iterator[Path]:
    """A folder with the rows and a configuration, and a server that it names."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.jsonl").open("w") as file:
            for index in range(rows):
                file.write(json.dumps({"id": f"r{index}", "text": f"How do I water plant number {index}?"}) + "\n")
        port_file = folder / "port"
        server = subprocess.Popen([*pinned(1), sys.executable, __file__, "serve", str(port_file)])
        try:
            while not port_file.exists() or not port_file.read_text():
                time.sleep(0.01)
            url = f"http://127.0.0.1:{port_file.read_text()}/v1"
            (folder / "turnguard.yaml").write_text(f"moderator: {{base_url: '{url}', deadline: 60s}}\npolicy: {{}}\n")
            yield folder
        finally:
            server.kill()
            server.wait()


def command(out: str) -> list[str]:
    """The batch on one core, which says at its end what it took."""
    return [*pinned(0), sys.executable, "-c", WATCHED, "batch", "in.jsonl", out]


def batch(rows: int, kills: int) -> None:
    """Moderate `rows` short texts and print rate and memory; then again with `kills`, and compare."""
    with prepared(rows) as folder:
        started = time.perf_counter()
        done = subprocess.run(command("out.jsonl"), cwd=folder, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - started
        assert done.returncode == 0, done.stderr
        _, cpu, peak = done.stderr.splitlines()[-1].split()
        print(
            f"batch: {rows:,} rows in {wall:.1f} s ({rows / wall:,.0f}/s); {float(cpu):.1f} s of one core's time "
            f"({rows / float(cpu):,.0f}/s), start included; peak {int(peak) / 1000:.0f} MB"
        )
        if kills:
            at = killed(folder, kills, wall)
            same = (folder / "out.jsonl").read_bytes() == (folder / "killed.jsonl").read_bytes()
            print(f"killed {kills} times, at {at}% of the output: {'the same bytes' if same else 'OTHER BYTES'}")
            assert same


def killed(folder: Path, kills: int, wall: float) -> str:
    """Run the batch, kill it so many times at random, run it to its end; how far each kill let it come."""
    out, whole, far = folder / "killed.jsonl", (folder / "out.jsonl").stat().st_size, []
    for _ in range(kills):
        process = subprocess.Popen(command(out.name), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1 + random.random() * 1.4 * wall / kills)  # noqa: S311 - a second goes by before it asks
        assert process.poll() is None, "it ended before it was killed: use more rows"
        process.kill()
        process.wait()
        far.append(round(100 * out.stat().st_size / whole) if out.exists() else 0)
    subprocess.run(command(out.name), cwd=folder, capture_output=True, check=True)
    return ", ".join(map(str, far))


def bootstrap() -> None:
    """10,000 resamples over 30,000 rows, as rows and as groups."""
    import numpy as np

    from turnguard.evaluation.metrics import with_intervals

    dice = np.random.default_rng(0)
    truth = (dice.random(30_000) < 0.5).tolist()
    called = (dice.random(30_000) < 0.5).tolist()
    for name, groups in (("rows", None), ("groups of 17", [str(index // 17) for index in range(30_000)])):
        started = time.process_time()
        with_intervals(truth, called, groups)
        print(f"bootstrap over 30,000 rows ({name}): {time.process_time() - started:.2f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        arguments.add_argument("rows", type=int, nargs="?", default=ROWS)
        arguments.add_argument("--kills", type=int, default=0)
        chosen = arguments.parse_args()
        bootstrap()
        batch(chosen.rows, chosen.kills)
