"""What records cost, and how fast they answer: `python -m benchmarks.records [cost | rate | million] [--rows N]`.

Everything runs on one core, in a folder that is deleted afterwards; SQLite as Python ships it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from turnguard import Guard, Policy, Step, Verdict
from turnguard.config.settings import RecordsSettings
from turnguard.core.verdict import Coverage, Covered, Judgement, Label
from turnguard.records.evidence import Evidence, dump_reasons
from turnguard.records.overview import overview
from turnguard.records.query import Filter, find, one
from turnguard.records.replay import replay_store
from turnguard.records.store import Store, now
from turnguard.records.top import top
from turnguard.records.why import explained
from turnguard.testing import FakeModerator

ROUNDS, CALLS = 12, 1_500
RATE, SECONDS = 2_000, 60
DAY = 86_400_000
QUESTIONS = ("why", "top", "overview", "replay")
POLICY = {"categories": {"Profanity": "flag", "Guns and Illegal Weapons": {"action": "block", "above": 0.85}}}
NEXT = {"categories": {"Profanity": "block", "Guns and Illegal Weapons": {"action": "block", "above": 0.95}}}


def settings(folder: Path) -> RecordsSettings:
    return RecordsSettings.model_validate({"url": f"sqlite:///{folder / 'records.db'}", "keep": None})


# ---------------------------------------------------------------- what a check costs


async def cost(folder: Path) -> None:
    """CPU time of a check in this process, its writer included, with records and without, in rounds that alternate."""
    policy = Policy.from_dict(POLICY)
    plain = Guard(policy, FakeModerator())
    recording = Guard(policy, FakeModerator(), records=settings(folder))
    spent: dict[str, list[float]] = {"plain": [], "recording": []}
    slowest: dict[str, list[float]] = {"plain": [], "recording": []}
    number = 0
    for turn in range(ROUNDS + 1):
        for name, guard in (("plain", plain), ("recording", recording)):
            times = []
            began = time.process_time()
            for _ in range(CALLS):
                number += 1
                step = Step.input(f"What is {number}?", metadata={"user": f"u{number % 100}", "thread": f"t{number}"})
                started = time.perf_counter()
                await guard.acheck(step)
                times.append(time.perf_counter() - started)
            if guard._kept is not None and guard._kept.writer is not None:
                guard._kept.writer.flush()
            if turn:  # the first round warms up
                spent[name].append((time.process_time() - began) / CALLS * 1000)
                slowest[name].append(statistics.quantiles(times, n=100)[98] * 1000)
    print(f"load: {os.getloadavg()[0]:.1f}; a busy machine raises CPU figures too")
    more = [b - a for a, b in zip(spent["plain"], spent["recording"], strict=True)]
    print(f"CPU of a check: {statistics.median(spent['plain']):.3f} ms without records")
    print(f"a record adds {statistics.median(more):.3f} ms (rounds: {min(more):.3f} to {max(more):.3f}; goal: 0.05)")
    for name, found in slowest.items():
        print(f"p99 {name}: median {statistics.median(found):.2f} ms, rounds {min(found):.2f} to {max(found):.2f}")
    await plain.aclose()
    await recording.aclose()


async def rate(folder: Path) -> None:
    """Records at a steady rate, from decisions that were made before."""
    guard = Guard(Policy.from_dict(POLICY), FakeModerator(), records=settings(folder))
    kept = guard._kept
    assert kept is not None
    assert kept.writer is not None
    step = Step.input("What is the capital of France?", metadata={"user": "ann", "thread": "t"})
    decision, check = await guard._whole.decide(step, None)

    began, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < RATE * SECONDS:
        due = min(RATE * SECONDS, int((time.perf_counter() - began) * RATE) + 1)
        for _ in range(due - done):
            made = replace(decision, id=os.urandom(12).hex())
            await kept.keep(step, check.plan.parts, guard.policy, made, None)
        done = due
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    flushed = kept.writer.flush(30)
    cpu = time.process_time() - cpu
    lost = kept.writer.lost
    store = Store.open(settings(folder))
    with store.begin() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM records").scalar()
    store.close()
    await guard.aclose()
    print(f"{done:,} records in {took:.1f} s ({done / took:,.0f} a second), {cpu / took:.0%} of a core")
    print(f"in the database: {rows:,} (one more was made to begin with); lost: {lost}; all written: {flushed}")


# ---------------------------------------------------------------- a million records


def made(count: int, policy: Policy, edition: str) -> Iterator[list[dict[str, Any]]]:
    """Rows over 30 days. Nearly each has a P of its own, so that hardly two are alike."""
    chosen = random.Random(1)  # noqa: S311 - the same rows each time
    start = now() - 30 * DAY
    batch: list[dict[str, Any]] = []
    names = (("Profanity",), ("Guns and Illegal Weapons",), ("Violence", "Threat"), ())
    for number in range(count):
        unsafe = chosen.random() < 0.06
        p = chosen.betavariate(8, 1) if unsafe else chosen.betavariate(1, 30)
        label: Label = "unsafe" if unsafe else "safe"
        verdict = Verdict(user=label, categories=chosen.choice(names) if unsafe else (), p_user=p, model="nemotron")
        evidence = Evidence((Judgement(verdict, "user", (0,)),), Coverage((Covered(0, "text"),)))
        outcome = evidence.decide(policy, "input")
        decisive = outcome.decisive[0] if outcome.decisive else None
        batch.append(
            {
                "id": f"{chosen.getrandbits(96):024x}",
                "time": start + number * 30 * DAY // count,
                "event": "check",
                "stage": "input",
                "action": outcome.action,
                "asked": outcome.action,
                "shadow": None,
                "failed": False,
                "reduced": False,
                "complete": True,
                "remembered": False,
                "rule": decisive.rule if decisive else None,
                "category": decisive.category if decisive else None,
                "latency": chosen.lognormvariate(-3.5, 0.4),
                "policy": policy.digest,
                "edition": edition,
                "model": "nemotron",
                "family": "nemotron-3",
                "user": f"user-{chosen.randrange(20_000)}",
                "thread": f"thread-{number // 8}",
                "request": None,
                "tenant": f"tenant-{chosen.randrange(20)}",
                "trace": f"{chosen.getrandbits(128):032x}",
                "span": f"{chosen.getrandbits(64):016x}",
                "language": None,
                "metadata": None,
                "parts": json.dumps([{"kind": "text", "digest": f"{chosen.getrandbits(128):032x}"}]),
                "reasons": dump_reasons(outcome.reasons),
                "shadow_reasons": None,
                "evidence": evidence.dump(),
                "content": None,
            }
        )
        if len(batch) == 5_000:
            yield batch
            batch = []
    if batch:
        yield batch


def write(folder: Path, count: int) -> None:
    from turnguard.records.store import policy_row

    policy = Policy.from_dict(POLICY)
    store = Store.open(settings(folder))
    store.keep_policy(policy)
    for rows in made(count, policy, policy_row(policy)["edition"]):
        store.add(rows)
    store.close()


def asked(folder: Path, question: str) -> None:
    """One question in this process; prints its time and the most memory that the process ever had."""
    store = Store.open(settings(folder))
    week = Filter(since=now() - 7 * DAY)
    if question == "why":
        newest = find(store, Filter(), limit=1, offset=1000)[0]
        row = one(store, newest.id)[0]
        by_user = Filter(user=newest.user, since=newest.time - DAY, until=newest.time)
        # the first explanation loads what reads policies
        told = ", ".join(
            f"{name} {took * 1000:.1f} ms ({cpu * 1000:.1f} ms of CPU)"
            for name, (took, cpu) in (
                ("query by id", _timed(lambda: one(store, newest.id))),
                ("query by user and day", _timed(lambda: find(store, by_user))),
                ("first explanation", _timed(lambda: explained(store, row))),
                ("next explanation", _timed(lambda: explained(store, row))),
            )
        )
    elif question == "top":
        took, cpu = _timed(lambda: top(store, week, "rule"))
        told = f"{took:.2f} s over 7 days ({cpu:.2f} s of CPU)"
    elif question == "overview":
        took, cpu = _timed(lambda: overview(store, replace(week, until=now())))
        told = f"{took:.2f} s over 7 days ({cpu:.2f} s of CPU)"
    else:
        found = {}
        took, cpu = _timed(lambda: found.update(replay_store(store, Policy.from_dict(NEXT), Filter()).to_dict()))
        told = f"{took:.1f} s ({cpu:.1f} s of CPU) for {found['records']:,}, of which {found['changed']:,} change"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{question}: {told}; {memory:.0f} MB at most; load {os.getloadavg()[0]:.1f}")
    store.close()


def _timed(work: Any) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def million(folder: Path, count: int) -> None:
    began = time.perf_counter()
    write(folder, count)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{count:,} records written in {time.perf_counter() - began:.0f} s, {size:,.0f} MB")
    for question in QUESTIONS:
        command = [sys.executable, "-m", "benchmarks.records", "ask", "--folder", str(folder), "--question", question]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["cost", "rate", "million"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--question", choices=QUESTIONS)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if given.what == ["ask"]:
        asked(given.folder, given.question)
        return
    for what in given.what:
        with tempfile.TemporaryDirectory(prefix="turnguard-records-") as name:
            if what == "cost":
                asyncio.run(cost(Path(name)))
            elif what == "rate":
                asyncio.run(rate(Path(name)))
            else:
                million(Path(name), given.rows)


if __name__ == "__main__":
    main()
