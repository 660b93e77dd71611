"""Our cost beside the peers', in one run on one machine: `benchmarks/peers/setup.sh && python -m benchmarks.peers`.

Every contestant is a process of its own on one core, the server that answers at once another on another core; rounds
alternate, and ratios are taken round by round.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import rows as table
from benchmarks.instant import server

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".venv-peers"
OURS = sys.executable
ROUNDS = 7
CALLS = 60
PORT = 18_433

CONTESTANTS = {
    "turnguard_check": ("turnguard, one check", str(PEERS / "turnguard/bin/python")),
    "openai_bare": ("openai client, one call, unguarded", str(PEERS / "guardrails/bin/python")),
    "openai_guardrails_check": ("openai-guardrails, one Moderation check", str(PEERS / "guardrails/bin/python")),
    "litellm_call": ("litellm SDK, one call, unguarded", str(PEERS / "litellm/bin/python")),
    "turnguard_turn": ("turnguard, turn: input + model + output", str(PEERS / "turnguard/bin/python")),
    "openai_guardrails_turn": ("openai-guardrails, the same turn", str(PEERS / "guardrails/bin/python")),
    "nemo_iorails_turn": ("NeMo IORails, content-safety rail, the same turn", OURS),
    "nemo_llmrails_turn": ("NeMo LLMRails, content-safety rail, the same turn", OURS),
    "langchain_moderation_turn": ("LangChain agent, OpenAIModerationMiddleware", str(PEERS / "langchain/bin/python")),
}


def _start(name: str, python: str, url: str) -> subprocess.Popen[str] | None:
    if not Path(python).exists():
        print(f"{name}: skipped, {python} is not there; run benchmarks/peers/setup.sh", file=sys.stderr)
        return None
    command = [python, str(HERE / "worker.py"), name, url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1])
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            return process
    print(f"{name}: did not start", file=sys.stderr)
    return None


def main() -> None:
    rounds: dict[str, list[dict[str, float]]] = {}
    with server(PORT) as url, contextlib.ExitStack() as stack:
        running = {}
        for name, (_, python) in CONTESTANTS.items():
            process = _start(name, python, url)
            if process is not None:
                stack.callback(process.wait)
                stack.callback(process.terminate)
                running[name] = process
        for turn in range(ROUNDS):
            for name, process in running.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{turn * 1000} {CALLS}\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                rounds.setdefault(name, []).append(json.loads(answer))
    if not rounds:
        return
    print(f"{'':52}{'CPU ms':>9}{'median ms':>11}{'rate @64':>10}   CPU, turnguard / this one (spread)")
    for name, (told, _) in CONTESTANTS.items():
        if name not in rounds:
            continue
        ours = rounds["turnguard_turn" if name.endswith("_turn") else "turnguard_check"]
        ratios = sorted(our["cpu"] / their["cpu"] for our, their in zip(ours, rounds[name], strict=True))
        middle = {key: statistics.median(row[key] for row in rounds[name]) for key in ("cpu", "median", "rate")}
        shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{told:52}{middle['cpu']:9.2f}{middle['median']:11.2f}{middle['rate']:10.0f}   {shown}")
        if name == "openai_guardrails_turn":
            ratio = statistics.median(ratios)
            turn = (f"{ratio:.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})", "at most 0.3 ×", ratio <= 0.3)
    if "openai_guardrails_turn" in rounds:
        measured, reach, met = turn
        table.add("full turn (input + model + output), CPU, against openai-guardrails", measured, reach, met=met)


if __name__ == "__main__":
    main()
