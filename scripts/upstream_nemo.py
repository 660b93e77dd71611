"""NeMo Guardrails' own tests with Turnguard around every engine: `python scripts/upstream_nemo.py FOLDER`.

FOLDER is a checkout of NeMo Guardrails or of a fork, whose tests are never part of this project. They are run against
the installed nemoguardrails, twice: as they are and with `guarded` around each `LLMRails` and `Guardrails` (`--way
guarded`), or with no-op rails and with the drop-in's in every Colang 1.0 configuration (`--way rails`). The moderator
finds everything safe. Tests that pass with the first and not with the second are printed; `EXPECTED` holds the reasons.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENGINE = re.compile(r"\b(LLMRails|Guardrails|TestChat)\(")
"""What a file of tests holds that makes an engine."""
SLOW = 10
"""Seconds that one of their tests may take: some wait for models that nobody can download."""

PLUGIN = '''
import contextvars, functools, inspect, os
os.environ["NEMO_GUARDRAILS_NO_USAGE_STATS"] = "1"
from nemoguardrails import RailsConfig
from nemoguardrails.guardrails.guardrails import Guardrails
from nemoguardrails.rails.llm.llmrails import LLMRails
from turnguard import Guard
from turnguard.core.verdict import Verdict
from turnguard.nemo import guarded

class Safe:
    async def judge(self, exchange, deadline):
        return Verdict(user="safe", response=None if exchange.response is None else "safe")

guard = Guard(moderator=Safe())
METHODS = ("generate", "generate_async", "stream_async", "check", "check_async")

own = contextvars.ContextVar("own", default=frozenset())

def alone(method, engine):
    """A method of an engine, whose calls to its own other methods no guard sees."""
    @functools.wraps(method)
    def call(*args, **kwargs):
        token = own.set(own.get() | {id(engine)})
        try:
            return method(engine, *args, **kwargs)
        finally:
            own.reset(token)
    @functools.wraps(method)
    async def awaited(*args, **kwargs):
        token = own.set(own.get() | {id(engine)})
        try:
            return await method(engine, *args, **kwargs)
        finally:
            own.reset(token)
    return awaited if inspect.iscoroutinefunction(method) else call

class Bare:
    """An engine with its own methods, which the class's no longer are."""
    def __init__(self, engine, methods):
        self.__dict__.update({name: alone(each, engine) for name, each in methods.items()}, engine_=engine)
    def __getattr__(self, name):
        return getattr(self.__dict__["engine_"], name)

def around(cls):
    methods = {name: vars(cls)[name] for name in METHODS}
    def wrapped(name):
        @functools.wraps(methods[name])
        def call(self, *args, **kwargs):
            if id(self) in own.get():
                return methods[name](self, *args, **kwargs)
            return getattr(guarded(Bare(self, methods), guard), name)(*args, **kwargs)
        return call
    for name in METHODS:
        setattr(cls, name, wrapped(name))

WAY = os.environ["TURNGUARD_WAY"]
if WAY == "guarded":
    around(LLMRails)
    around(Guardrails)
elif WAY in ("rails", "no-op"):
    from turnguard.nemo import checked_rails
    begin = LLMRails.__init__
    NOOP = "define flow nothing in\\n  $x = execute nothing\\n\\ndefine flow nothing out\\n  $x = execute nothing\\n"
    def init(self, config, *args, **kwargs):
        if config.colang_version == "1.0" and not config.custom_data:
            config = config.model_copy(deep=True)
            ours = WAY == "rails"
            more = RailsConfig.from_content(NOOP, "import_paths: [turnguard/rails]" if ours else "")
            config.flows = [*more.flows, *config.flows]
            if ours:
                config.imported_paths = {**(config.imported_paths or {}), **more.imported_paths}
                config.custom_data = {"turnguard": guard}
            names = ("turnguard check input", "turnguard check output") if ours else ("nothing in", "nothing out")
            for kind, name in zip(("input", "output"), names):
                getattr(config.rails, kind).flows.insert(0, name)
        begin(self, config, *args, **kwargs)
        if config.colang_version == "1.0":
            async def nothing(): return True
            self.register_action(nothing, "nothing")
    LLMRails.__init__ = init
'''

_LISTED = "the log lists Turnguard's checks as rails, and no option switches them off"
_UNASKED = "check asks no engine that has no rails of its own"
EXPECTED = {
    "test_triggered_rails_info_2": _LISTED,
    "test_rails_options_combinations": _LISTED,
    "test_input_rails_only.py::test_1": _LISTED,
    "test_input_rails_only_parallel_with_exceptions": _LISTED,
    "test_output_rails_only_parallel_with_exceptions": _LISTED,
    "test_check_delegates": _UNASKED,
    "test_check_async_delegates": _UNASKED,
    "test_token_usage_integration_multiple_calls": "the log counts the moderator's calls beside the main model's",
    "test_v2_spans_generated_with_events": "the log holds no text of the moderator's calls, and their spans no events",
    "test_with_custom_embedding_search_provider.py::test_1": "an engine with a knowledge base is refused",
    "test_stream_async_dict_state_rejected_2_x": "the engine is called, and raises, once the stream is read",
}
"""Parts of test names, and why these differ."""


def run(folder: Path, plugin: Path, way: str, tests: list[str]) -> dict[str, str]:
    """Test name → outcome."""
    chosen = [test for test in tests if (folder / test.split("::")[0]).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "turnguard_around", "-p", "no:cacheprovider", "-rA"]
    command += ["--continue-on-collection-errors", f"--timeout={SLOW}", *chosen]
    path = os.pathsep.join([str(plugin), str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    # FOLDER's own package would hide the installed one
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OPENAI_API_KEY": "none"}
    environment["TURNGUARD_WAY"] = way
    made = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL) (tests/\S+(?: \S+\])?)", made.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(made.stdout[-2000:] + made.stderr[-2000:])
    return {name: outcome for outcome, name in found}


def main() -> None:
    """Run both and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", choices=("guarded", "rails"), default="guarded")
    parser.add_argument("tests", nargs="*", help="files in FOLDER; without any, all that make an engine")
    asked = parser.parse_args()
    asked.tests = asked.tests or sorted(
        str(path.relative_to(asked.folder))
        for path in (asked.folder / "tests").rglob("test_*.py")
        if ENGINE.search(path.read_text(encoding="utf-8"))
    )
    with tempfile.TemporaryDirectory() as plugin:
        (Path(plugin) / "turnguard_around.py").write_text(PLUGIN, encoding="utf-8")
        base = "plain" if asked.way == "guarded" else "no-op"
        before, after = (run(asked.folder, Path(plugin), way, asked.tests) for way in (base, asked.way))
    print(f"{base}: {sum(each == 'PASSED' for each in before.values())} of {len(before)} pass")
    print(f"{asked.way}: {sum(each == 'PASSED' for each in after.values())} of {len(after)} pass")
    for name, outcome in before.items():
        if outcome == "PASSED" and after.get(name) != "PASSED":
            why = next((why for part, why in EXPECTED.items() if part in name), "NOT EXPECTED")
            print(f"  {after.get(name, 'gone')} {name}: {why}")


if __name__ == "__main__":
    main()
