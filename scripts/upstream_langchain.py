"""LangChain's own agent tests with Turnguard added to every agent: `python scripts/upstream_langchain.py`.

Downloads the source distribution of the installed langchain from the package index into a temporary folder (its tests
are never part of this project) and runs its middleware, wrapping and streaming tests with one more middleware as the
first and as the last of every stack: one that has the same hooks and does nothing, then Turnguard's, whose moderator
finds everything safe. It prints which tests pass with the first and fail with the second. Those that fail with either
and pass with no extra middleware at all, mostly because they draw or count the graph's nodes, are printed too.

What differs for a reason is listed in `EXPECTED`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NEEDS = (
    "blockbuster>=1.5.26",
    "forbiddenfruit",
    "langchain-tests>=1.1.9",
    "pytest-mock",
    "pytest-recording",
    "syrupy>=5",
    "toml",
    "vcrpy",
    "wrapt",
)
TESTS = (
    "middleware/core",
    "middleware/implementations",
    "test_agent_streaming.py",
    "test_invalid_tool_calls.py",
    "test_response_format.py",
    "test_return_direct_graph.py",
    "test_subagent_streaming.py",
    "test_injected_runtime_create_agent.py",
    "test_system_message.py",
    "test_state_schema.py",
)

PLUGIN = """
import os, functools
import langchain.agents, langchain.agents.factory as factory
from langchain.agents.middleware import AgentMiddleware
from turnguard import Guard
from turnguard.langchain import TurnguardMiddleware
from turnguard.core.verdict import Verdict

class Safe:
    async def judge(self, exchange, deadline):
        return Verdict(user="safe", response=None if exchange.response is None else "safe")

class Nothing(AgentMiddleware):
    def before_agent(self, state, runtime):
        return None

    async def abefore_agent(self, state, runtime):
        return None

    def wrap_model_call(self, request, handler):
        return handler(request)

    async def awrap_model_call(self, request, handler):
        return await handler(request)

    def wrap_tool_call(self, request, handler):
        return handler(request)

    async def awrap_tool_call(self, request, handler):
        return await handler(request)

guard = Guard(moderator=Safe())
original = factory.create_agent

@functools.wraps(original)
def create_agent(*args, middleware=(), **kwargs):
    who, _, where = os.environ["TURNGUARD_WHERE"].partition(" ")
    extra = TurnguardMiddleware(guard) if who == "turnguard" else Nothing()
    return original(*args, middleware=[extra, *middleware] if where == "first" else [*middleware, extra], **kwargs)

if os.environ["TURNGUARD_WHERE"] != "without":
    langchain.agents.create_agent = factory.create_agent = create_agent
"""

_WAITS = "a synchronous run inside a running event loop waits for the check, and this test forbids any waiting there"
EXPECTED = {
    "test_execution_order[False]": _WAITS,
    "test_hook_execution[before-False]": _WAITS,
    "test_hook_execution[after-False]": _WAITS,
    "test_hook_with_class_inheritance": _WAITS,
    "test_fallback_can_handle_refusal[False]": _WAITS,
    "test_non_refusals_pass_through[": _WAITS,
    "test_refusal_is_opt_in[False]": _WAITS,
    "test_refusal_with_provider_strategy[False]": _WAITS,
}
"""Parts of test names, and why these differ."""


def fetch(folder: Path) -> Path:
    """The unpacked source of the installed langchain."""
    version = importlib.metadata.version("langchain")
    pip = [sys.executable, "-m", "pip", "-q"]
    download = ["download", "--no-deps", "--no-binary", ":all:", f"langchain=={version}", "-d", folder]
    subprocess.run([*pip, *download], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "extra", *NEEDS], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (folder / "extra" / "turnguard_everywhere.py").write_text(PLUGIN, encoding="utf-8")
    return folder / archive.name.removesuffix(".tar.gz")


def run(source: Path, where: str) -> dict[str, str]:
    """Test name → outcome."""
    tests = [str(Path("tests/unit_tests/agents") / test) for test in TESTS]
    tests = [test for test in tests if (source / test).exists()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "turnguard_everywhere",
        "-q",
        "-rA",
        "--tb=line",
        "--continue-on-collection-errors",
    ]
    command += ["-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", *tests]
    path = os.pathsep.join([str(source.parent / "extra"), str(source), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=source,
        env={**os.environ, "PYTHONPATH": path, "TURNGUARD_WHERE": where},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = {name: kind for kind, name in re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)}
    print(f"{where:>15}: {done.stdout.strip().splitlines()[-1]}", flush=True)
    if not outcomes:
        print(done.stdout[-3000:], done.stderr[-3000:])
    return outcomes


def main() -> int:
    """0 when every test that passes without us passes with us, or is expected not to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, help="a folder to keep the download in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = [path for path in folder.glob("langchain-*") if path.is_dir()]
        source = unpacked[0] if unpacked and (folder / "extra").exists() else fetch(folder)
        broken = 0
        alone = {name for name, kind in run(source, "without").items() if kind == "PASSED"}
        for where in ("first", "last"):
            as_they_are = run(source, f"nothing {where}")
            outcomes = run(source, f"turnguard {where}")
            passing = {name for name, kind in as_they_are.items() if kind == "PASSED"}
            for name in sorted(alone - passing):
                print(f"  fails with a middleware that does nothing, too: {name}")
            for name in sorted(name for name in passing if outcomes.get(name) != "PASSED"):
                reason = next((why for part, why in EXPECTED.items() if part in name), None)
                broken += reason is None
                print(f"  {'expected: ' + reason if reason else 'BROKEN'}: {name}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
