"""Shared memory, Ray and deciding again: `python -m benchmarks.scale [PART...]`; without a part, all of them.

    hit        CPU of a check whose verdict comes from the shared memory. Reach: 0.35 ms
    workers    4 processes, one after the other, 2,000 checks of 500 texts each. Reach: 1.05 x 500 requests
    killed     the store is killed in the middle of 2,000 checks. Reach: none fails
    hostile    10,000 forged, truncated and foreign entries each. Reach: none is believed
    redecide   1,000,000 rows under another policy. Reach: 60 s on one core
    cpu        CPU a row over Ray, beside the local engine's, start-up left out. Reach: 2 x
    deaths     100,000 rows over Ray, a worker killed five times. Reach: the records of the local engine
    folder     10,000 texts, pictures and documents over Ray. Reach: every file that was not judged is named

`ROWS=n` in the environment makes the runs over rows and files smaller. Needs redis-server.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnguard import Guard, Step
from turnguard.config.document import from_dict
from turnguard.core.verdict import Coverage, Covered, Judgement, Verdict
from turnguard.moderators import memory_shared
from turnguard.moderators.memory_entries import Entries, Refused

KEY = "k" * 32
ROWS = int(os.environ.get("ROWS", "0"))
SERVER = """
import sys, threading
from turnguard.testing import FakeVLLM
with FakeVLLM() as fake:
    fake.when("bomb", categories=["Violence"])
    print(fake.base_url, flush=True)
    for _ in sys.stdin:
        print(len(fake.chats), flush=True)
        fake.requests.clear()
"""


class Server:
    """A fake server in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.base_url = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def asked(self) -> int:
        """Requests since this was last asked for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def server() -> Iterator[Server]:
    made = Server()
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def store() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = f"redis-server --port {port} --bind 127.0.0.1 --appendonly no --requirepass password".split()
    process = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    time.sleep(1.0)
    try:
        yield f"redis://:password@127.0.0.1:{port}/0", process
    finally:
        process.kill()
        process.wait()


def settings(base_url: str, url: str) -> dict[str, Any]:
    return {"moderator": {"base_url": base_url, "deadline": "20s"}, "memory": {"url": url, "key": KEY}}


def reach(told: str, *, held: bool) -> bool:
    print(f"  {told}: {'reached' if held else 'MISSED'}", flush=True)
    return held


async def _check(guard: Guard, texts: list[str], at_once: int = 16) -> int:
    """Check all; the number of failed ones."""
    failed = 0
    todo = iter(texts)

    async def work() -> None:
        nonlocal failed
        for text in todo:
            failed += (await guard.acheck(Step.input(text))).failed

    await asyncio.gather(*(work() for _ in range(at_once)))
    return failed


def hit() -> bool:
    texts = [f"text {number}" for number in range(2000)]

    async def cost(configured: dict[str, Any], at_once: int) -> tuple[float, int]:
        async with Guard.from_dict(configured) as guard:
            await _check(guard, ["the first check"], 1)
            began = time.process_time()
            await _check(guard, texts, at_once)
            spent = time.process_time() - began
            return spent / len(texts) * 1000, guard.moderator.shared.counts["hit"]  # type: ignore[attr-defined]

    # a machine that is busy with something else is no slow store
    memory_shared.LONGEST, memory_shared.SHARE = 5.0, 0.5
    with server() as fake, store() as (url, _):
        configured = settings(fake.base_url, url)
        asyncio.run(cost(configured, 16))
        alone, found = asyncio.run(cost(configured, 1))
        together, _ = asyncio.run(cost(configured, 16))
    print(f"  one at a time {alone:.3f} ms, 16 at once {together:.3f} ms ({found} of {len(texts)} hits)")
    return reach(f"{alone:.3f} ms of CPU for a hit", held=alone <= 0.35)


WORKER = """
import asyncio, json, random, sys
from benchmarks.scale import _check
from turnguard import Guard
async def main():
    async with Guard.from_dict(json.loads(sys.argv[1])) as guard:
        texts = [f"text {number % 500}" for number in range(2000)]
        random.Random(sys.argv[2]).shuffle(texts)
        print(await _check(guard, texts, 1))
asyncio.run(main())
"""


def workers() -> bool:
    with server() as fake, store() as (url, _):
        configured = json.dumps(settings(fake.base_url, url))
        failed = 0
        for number in range(4):
            done = subprocess.run(
                [sys.executable, "-c", WORKER, configured, str(number)], check=True, capture_output=True, text=True
            )
            failed += int(done.stdout)
        asked = fake.asked()
    return reach(f"{asked} requests for 4 x 2,000 checks of 500 texts, {failed} failed", held=asked <= 525)


def killed() -> bool:
    async def run() -> tuple[int, int]:
        with server() as fake, store() as (url, process):
            async with Guard.from_dict(settings(fake.base_url, url)) as guard:
                failed = await _check(guard, [f"text {number}" for number in range(1000)])
                process.kill()
                process.wait()
                failed += await _check(guard, [f"text {number}" for number in range(500, 1500)])
            return failed, fake.asked()

    failed, asked = asyncio.run(run())
    return reach(f"{failed} of 2,000 checks failed, {asked} requests", held=failed == 0)


def hostile() -> bool:
    own, foreign, verdict = Entries(KEY, 3600.0), Entries("x" * 32, 3600.0), Verdict(user="safe", identity="model")
    draw = random.Random(7)  # noqa: S311 - no secret
    believed = dict.fromkeys(("forged", "truncated", "foreign key", "other name", "other time"), 0)
    now = time.time()
    for number in range(10_000):
        name, other = own.name("model", b"%d" % number), own.name("model", b"other %d" % number)
        entry = own.seal(name, verdict, None, now)
        place = draw.randrange(len(entry))
        tried = {
            "forged": entry[:place] + bytes([entry[place] ^ draw.randrange(1, 256)]) + entry[place + 1 :],
            "truncated": entry[: draw.randrange(len(entry))],
            "foreign key": foreign.seal(name, verdict, None, now),
            "other name": own.seal(other, verdict, None, now),
            "other time": own.seal(name, verdict, None, now + draw.choice((-3601.0, 61.0))),
        }
        for what, data in tried.items():
            try:
                own.open(name, data, now)
            except Refused:
                continue
            believed[what] += 1
    told = ", ".join(f"{what} {count}" for what, count in believed.items())
    return reach(f"believed of 10,000 each: {told}", held=not any(believed.values()))


def redecide() -> bool:
    from turnguard.evaluation import batch_verdicts
    from turnguard.records.evidence import Evidence

    count = ROWS or 1_000_000
    draw = random.Random(1)  # noqa: S311 - no secret
    config = from_dict({"policy": {"categories": {"Profanity": "flag"}}}, {})

    def lines() -> Iterator[bytes]:
        for number in range(1, count + 1):
            p = draw.random() ** 4  # every P differs, so that every verdict is decided; one in six is unsafe
            names = ("Violence", "Threat") if p > 0.5 else ()
            verdict = Verdict("unsafe" if p > 0.5 else "safe", None, names, p_user=p, model="nemotron_moderator")
            made = Evidence((Judgement(verdict, "user", (0,)),), Coverage((Covered(0, "text"),)))
            told = {"row": number, "id": str(number), "status": "judged", "stage": "input", "evidence": made.dump()}
            yield json.dumps(told).encode()

    with tempfile.TemporaryDirectory() as folder:
        batch_verdicts.write(Path(folder, "verdicts.parquet"), lines(), config)
        wall, cpu = time.perf_counter(), time.process_time()
        batch_verdicts.redecide(Path(folder, "verdicts.parquet"), config, Path(folder, "out.jsonl"))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    whole = cpu / count * 1_000_000
    return reach(
        f"{count:,} rows in {cpu:.1f} s of CPU ({wall:.1f} s), {whole:.1f} s for a million", held=whole <= 60.0
    )


def _source(folder: Path, count: int) -> Path:
    path = folder / "in.jsonl"
    with path.open("w") as file:
        for number in range(count):
            file.write(
                json.dumps({"id": f"n{number}", "text": f"{'bomb' if number % 50 == 7 else 'text'} {number}"}) + "\n"
            )
    return path


@contextmanager
def cluster() -> Iterator[Any]:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, object_store_memory=200_000_000, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


def _judges(name: bytes = b"ray::_Worker") -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(name):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _spent(pids: list[int]) -> float:
    """Seconds of CPU of this process and others."""
    total = time.process_time()
    for pid in pids:
        told = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _local(config: Any, source: Path, out: Path) -> float:
    from turnguard.evaluation.batch import moderate
    from turnguard.evaluation.rows import open_rows

    async def run() -> None:
        async with Guard.from_config(config) as guard:
            await moderate(guard, config, open_rows(source), out)

    began = time.process_time()
    asyncio.run(run())
    return time.process_time() - began


def _over_ray(config: Any, source: Path, out: Path) -> float:
    """CPU of this process and of the workers, in seconds, their start-up included."""
    from turnguard.evaluation import batch_ray

    spent = 0.0
    real = batch_ray.Parts.finish

    def noted(parts: Any) -> None:
        nonlocal spent
        spent = _spent(_judges()) - began
        real(parts)

    batch_ray.Parts.finish = noted  # type: ignore[method-assign]
    began = _spent([])
    try:
        batch_ray.distribute(config, str(source), str(out), workers=2)
    finally:
        batch_ray.Parts.finish = real  # type: ignore[method-assign]
    return spent


def cpu() -> bool:
    few, many = 1000, (ROWS or 10_000) + 1000

    def slope(run: Callable[[Any, Path, Path], float], folder: Path, config: Any) -> float:
        times = []
        for count in (few, many):
            (folder / str(count)).mkdir(parents=True)
            times.append(run(config, _source(folder / str(count), count), folder / str(count) / "out"))
        return (times[1] - times[0]) / (many - few) * 1000

    with server() as fake, cluster(), tempfile.TemporaryDirectory() as folder:
        config = from_dict({"moderator": {"base_url": fake.base_url, "deadline": "60s"}}, {})
        local = slope(_local, Path(folder, "local"), config)
        over = slope(_over_ray, Path(folder, "ray"), config)
    return reach(
        f"CPU a row: local {local:.2f} ms, over Ray {over:.2f} ms ({over / local:.2f} x)", held=over <= 2 * local
    )


def deaths() -> bool:
    from turnguard.evaluation import batch_ray

    count = ROWS or 100_000
    gone: list[int] = []
    over = threading.Event()
    done = [0]

    def kill() -> None:
        while len(gone) < 5 and not over.wait(0.2):
            alive = [pid for pid in _judges(b"ray::_Worker.judge") if pid not in gone]
            if alive and done[0] > count * (len(gone) + 1) / 7:
                os.kill(alive[0], signal.SIGKILL)
                gone.append(alive[0])

    def progress(rows: int, _share: float, _phase: str) -> None:
        done[0] = rows

    with server() as fake, cluster(), tempfile.TemporaryDirectory() as folder:
        config = from_dict({"moderator": {"base_url": fake.base_url, "deadline": "60s"}}, {})
        source, out = _source(Path(folder), count), Path(folder, "out")
        assassin = threading.Thread(target=kill)
        assassin.start()
        try:
            batch_ray.distribute(config, str(source), str(out), workers=2, progress=progress)
        finally:
            over.set()
            assassin.join()
        _local(config, source, Path(folder, "local.jsonl"))
        with Path(folder, "local.jsonl").open("rb") as local:
            parts = (line for part in sorted(out.glob("part-*")) for line in part.open("rb"))
            same = all(mine == theirs for mine, theirs in zip(local, parts, strict=True))
    return reach(f"{count:,} rows, {len(gone)} workers killed, the same records: {same}", held=same and len(gone) == 5)


def folder() -> bool:
    from PIL import Image

    from turnguard.evaluation import batch_ray

    count = ROWS or 10_000
    with server() as fake, cluster(), tempfile.TemporaryDirectory() as place:
        source = Path(place, "in")
        spoilt = set()
        for number in range(count):
            inside = source / f"{number % 100:02}"
            inside.mkdir(parents=True, exist_ok=True)
            kind = number % 20
            if kind == 19:
                path, data = inside / f"{number}.png", b"\x89PNG\r\n\x1a\n" + b"broken" * 9
                spoilt.add(path.relative_to(source).as_posix())
            elif kind == 18:
                out = io.BytesIO()
                Image.new("RGB", (64, 64), (number % 256, 80, 80)).save(out, "PNG")
                path, data = inside / f"{number}.png", out.getvalue()
            elif kind == 17:
                path, data = inside / f"{number}.html", f"<p>page {number}</p>".encode()
            else:
                path, data = inside / f"{number}.txt", f"text {number}".encode()
            path.write_bytes(data)
        config = from_dict({"moderator": {"base_url": fake.base_url, "deadline": "60s"}}, {})
        began = time.perf_counter()
        batch_ray.distribute(config, str(source), str(Path(place, "out")), workers=2)
        wall = time.perf_counter() - began
        named = {json.loads(line)["id"] for line in Path(place, "out", "not-judged.jsonl").read_text().splitlines()}
        lines = sum(1 for part in Path(place, "out").glob("part-*") for _ in part.open("rb"))
    told = f"{count:,} files in {wall:.0f} s, {lines:,} records, {len(named):,} of {len(spoilt):,} broken ones named"
    return reach(told, held=named == spoilt and lines == count)


PARTS: dict[str, Callable[[], bool]] = {
    part.__name__: part for part in (hit, workers, killed, hostile, redecide, cpu, deaths, folder)
}


def main(names: list[str]) -> int:
    held = True
    for name in names or list(PARTS):
        print(f"{name}:", flush=True)
        held = PARTS[name]() and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
