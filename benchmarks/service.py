"""The service: what it adds to a check, how many it answers, how even it is; what survives faults, and the console
over a million records.

    python -m benchmarks.service            # CPU and latency, beside the guard alone
    python -m benchmarks.service soak       # 10,000 requests with faults, clients that leave, a worker that is killed
    python -m benchmarks.service console    # each page over 1,000,000 records
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import instant, rows

CHECKS = 3000
CLIENTS = 64
HERTZ = os.sysconf("SC_CLK_TCK")


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else "checks"
    return {"checks": checks, "soak": soak, "console": console}[what]()


# ---------------------------------------------------------------- what a check costs


def checks() -> int:
    with instant.server(18765) as moderator, tempfile.TemporaryDirectory() as folder:
        alone = asyncio.run(_guard_alone(moderator))
        instant.pin(1)  # the client shares the moderator's core, so that the service has one of its own
        with serving(Path(folder), moderator, core=0) as (port, pid):
            asyncio.run(_load(port, 300, 8))
            before = _cpu(pid)
            started = time.perf_counter()
            latencies = asyncio.run(_load(port, CHECKS, CLIENTS))
            seconds = time.perf_counter() - started
            cpu = (_cpu(pid) - before) / CHECKS * 1000
    latencies.sort()
    median, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    per_core = 1000 / cpu
    print(f"guard alone        {alone:6.2f} ms of CPU a check")
    print(
        f"/v1/check          {cpu:6.2f} ms of CPU a check: {cpu - alone:+.2f} ms, {cpu / alone:.1f} x the guard's own"
    )
    print(f"on one core        {per_core:6.0f} checks a second by CPU, {CHECKS / seconds:.0f} seen by the clients")
    print(f"with {CLIENTS} clients    {median * 1000:6.1f} ms median, {p99 * 1000:.1f} ms p99: {p99 / median:.1f} x")
    rows.add(
        "a check over HTTP, CPU beyond the guard's own",
        f"{cpu - alone:.2f} ms, {per_core:.0f} checks/s a core",
        "at most 1.0 ms, 500 checks/s a core",
        met=cpu - alone <= 1.0 and per_core >= 500,
    )
    rows.add(
        f"p99 of a check over HTTP with {CLIENTS} clients, beside the median",
        f"{p99 / median:.1f} x",
        "at most 4 x",
        met=p99 <= 4 * median,
    )
    return 0


async def _guard_alone(moderator: str) -> float:
    from turnguard import Guard, Step
    from turnguard.service import metrics

    metrics.set_up()  # as in the service: what the guard's own instruments cost is the guard's
    async with Guard.from_dict({"moderator": {"base_url": moderator}}) as guard:
        for number in range(300):
            await guard.acheck(Step.input(f"warm {number}"))
        before = time.process_time()
        for begin in range(0, CHECKS, CLIENTS):
            await asyncio.gather(
                *(guard.acheck(Step.input(f"question {number}")) for number in range(begin, begin + CLIENTS))
            )
        return (time.process_time() - before) / CHECKS * 1000


async def _load(port: int, total: int, clients: int) -> list[float]:
    """Ask `total` different questions over `clients` connections; seconds of each."""
    latencies: list[float] = []
    numbers = iter(range(total))
    mark = random.random()  # noqa: S311 - makes the questions new

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            request = _request(f"question {mark} {number}", number)
            began = time.perf_counter()
            writer.write(request)
            status, answer = await _answer(reader)
            latencies.append(time.perf_counter() - began)
            assert status == 200, answer
            assert json.loads(answer)["row"] == str(number)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


def _request(text: str, number: int) -> bytes:
    body = json.dumps({"text": text, "id": str(number)}).encode()
    head = b"POST /v1/check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
    return head + b"%d\r\n\r\n" % len(body) + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


@contextmanager
def serving(folder: Path, moderator: str, *, core: int | None = None, workers: int = 1) -> Iterator[tuple[int, int]]:
    """`turnguard serve` in a process of its own: its port and its id."""
    config = folder / "turnguard.yaml"
    config.write_text(f"moderator: {{base_url: {moderator}, deadline: 20s}}\npolicy: {{default: block}}\n")
    command = [sys.executable, "-m", "turnguard", "serve", "--config", str(config), "--port", "0"]
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().partition("127.0.0.1:")[2].partition(",")[0])
        if core is not None:
            cores = sorted(os.sched_getaffinity(0) | {0})
            os.sched_setaffinity(process.pid, {cores[core % len(cores)]})
        asyncio.run(_until(port))
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()


async def _until(port: int) -> None:
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit("the service did not start")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


# ---------------------------------------------------------------- what survives


REQUESTS = 10_000
GROWTH = 20e6
"""Bytes that the workers may hold more after the second half of the requests than after the first."""
WRONG = ("another's", "truncated 200", "unsafe passed", "lost by the stop")


def soak() -> int:
    """5 % faults, 1 % clients that leave, a worker killed in the middle, and a graceful stop at the end."""
    from turnguard.testing import FakeVLLM

    outcomes: Counter[str] = Counter()
    with FakeVLLM() as fake, tempfile.TemporaryDirectory() as folder:
        for fault in ("crash", "reset", "truncated_json", "null_content", "slow_headers"):
            fake.fail(fault, probability=0.01)
        fake.when("odd", user="unsafe", categories=["Violence"], p=0.98)
        with serving(Path(folder), fake.base_url, workers=2) as (port, parent):
            asyncio.run(_storm(port, parent, outcomes, REQUESTS // 2))
            while len(children(parent)) < 2:  # the one that takes the dead one's place
                time.sleep(0.2)
            asyncio.run(_storm(port, None, outcomes, REQUESTS // 4))  # the new worker is warm after this
            before = {pid: _memory(pid) for pid in children(parent)}
            asyncio.run(_storm(port, None, outcomes, REQUESTS // 2))
            grown = sum(_memory(pid) - size for pid, size in before.items())
            fake.reset()
            fake.latency = 2.0
            asyncio.run(_stopped(port, parent, lambda: len(fake.chats), outcomes))
    for name, count in sorted(outcomes.items()):
        print(f"{count:6} {name}")
    print(f"{grown / 1e6:6.1f} MB more memory in the two workers after the last {REQUESTS // 2:,} requests")
    wrong = sum(outcomes[each] for each in WRONG)
    print("wrong answers:", wrong)
    return 1 if wrong or grown >= GROWTH or not outcomes["answered during the stop"] else 0


async def _stopped(port: int, parent: int, asked: Callable[[], int], outcomes: Counter[str]) -> None:
    """Ask over 32 connections, end the service while the moderator thinks, and count who is answered."""

    async def client(number: int) -> str:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request(f"even {number}", number))
            answer = json.loads((await _answer(reader))[1])
        except (OSError, asyncio.IncompleteReadError):
            return "lost by the stop"
        writer.close()
        return "answered during the stop" if answer.get("row") == str(number) else "another's"

    clients = [asyncio.ensure_future(client(number)) for number in range(32)]
    while asked() < len(clients):  # noqa: ASYNC110 - asked of a server in another thread
        await asyncio.sleep(0.02)
    os.kill(parent, signal.SIGTERM)
    outcomes.update(await asyncio.gather(*clients))


async def _storm(port: int, parent: int | None, outcomes: Counter[str], total: int) -> None:
    numbers = iter(range(total))
    chance = random.Random(7)  # noqa: S311
    mark = random.random()  # noqa: S311

    async def client() -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in numbers:
            if parent is not None and number == total // 2:
                os.kill(children(parent)[0], signal.SIGKILL)
                outcomes["worker killed"] += 1
            odd = number % 10 == 0
            begun = False
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                writer.write(_request(f"{'odd' if odd else 'even'} {mark} {number}", number))
                if chance.random() < 0.01:
                    writer.close()
                    connection = None
                    outcomes["client left"] += 1
                    continue
                head = await reader.readuntil(b"\r\n\r\n")
                begun = head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                answer = json.loads(await reader.readexactly(length))
            except (OSError, asyncio.IncompleteReadError):
                outcomes["truncated 200" if begun else "connection lost"] += 1
                if connection is not None:
                    connection[1].close()
                connection = None
                continue
            if answer.get("row") != str(number):
                outcomes["another's"] += 1
            elif odd and answer["action"] != "block":
                outcomes["unsafe passed"] += 1
            else:
                outcomes["failed, blocked" if answer["failed"] else answer["action"]] += 1
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(32)))


def children(parent: int) -> list[int]:
    """The workers of a service. The resource tracker of multiprocessing is a child, too."""
    pids = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---------------------------------------------------------------- the console


RECORDS = 1_000_000
DAYS = 30


def console() -> int:
    """Every page over a million records of 30 days."""
    import httpx

    with tempfile.TemporaryDirectory() as folder, instant.server(18765) as moderator:
        key = "k" * 40
        config = Path(folder) / "turnguard.yaml"
        config.write_text(
            f"moderator: {{base_url: {moderator}}}\npolicy: {{default: block}}\n"
            f'records: {{url: "sqlite:///records.db", keep: null}}\n'
            f"service: {{keys: [{{key: {key}, role: admin}}]}}\n"
        )
        last = _fill(config)
        command = [sys.executable, "-m", "turnguard", "serve", "--config", str(config), "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        slow = 0
        try:
            port = int(process.stderr.readline().partition("127.0.0.1:")[2].partition(",")[0])
            asyncio.run(_until(port))
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, headers={"origin": url}, trust_env=False, timeout=120) as client:
                assert client.post("/console/login", data={"key": key, "person": "x"}).status_code == 303
                for place in (
                    "",
                    "/decisions",
                    "/decisions?action=block",
                    "/decisions?category=Violence",
                    "/decisions?user=user-7",
                    f"/decisions/{last}",
                    "/reviews",
                    "/policy",
                    "?span=7d",
                ):
                    took = []
                    for _ in range(3):
                        began = time.perf_counter()
                        answer = client.get(f"/console{place}")
                        took.append(time.perf_counter() - began)
                        assert answer.status_code == 200, answer.text
                    slow += statistics.median(took) > 1.0 and place != "?span=7d"
                    print(
                        f"{statistics.median(took) * 1000:7.0f} ms {len(answer.content) / 1000:6.0f} kB  {place or '/'}"
                    )
        finally:
            process.terminate()
            process.wait(60)
            process.stderr.close()
    return 1 if slow else 0


def _fill(config: Path) -> str:
    """A million records, as a guard writes them; the newest one's id."""
    import sqlalchemy as sa

    from turnguard import Guard, Step
    from turnguard.config.files import load
    from turnguard.records import schema
    from turnguard.records.store import Store

    settings = load(config)
    guard = Guard.from_config(settings)
    decision = guard.check(Step.input("a question"))
    guard.close()
    store = Store.open(settings.records)
    chance = random.Random(1)  # noqa: S311
    now, span = time.time_ns() // 1_000_000, DAYS * 86_400_000
    with store.begin() as connection:
        pattern = dict(connection.execute(sa.select(schema.records)).mappings().one())
        for begin in range(0, RECORDS, 20_000):
            made = []
            for number in range(begin, begin + 20_000):
                action = chance.choices(("allow", "flag", "block", "review"), (90, 4, 5, 1))[0]
                fired = action != "allow"
                row = {
                    **pattern,
                    "id": f"{number:024x}",
                    "time": now - span * (RECORDS - number) // RECORDS,
                    "action": action,
                    "asked": action,
                    "rule": f"policy.categories.{'Violence' if number % 3 else 'Profanity'}" if fired else None,
                    "category": ("Violence" if number % 3 else "Profanity") if fired else None,
                    "reasons": '[{"kind":"verdict","category":"Violence","rule":"policy.categories.Violence",'
                    '"action":"block"}]'
                    if fired
                    else None,
                    "latency": chance.expovariate(20),
                    "user": f"user-{number % 1000}",
                    "tenant": f"tenant-{number % 10}",
                }
                made.append(row)
            connection.execute(sa.insert(schema.records), made)
    store.close()
    return decision.id


if __name__ == "__main__":
    sys.exit(main())
