"""What the wheel must be able to do on its own. Run by the Python of an environment that holds nothing but the wheel.

python -I scripts/check_wheel.py path/to/turnguard
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path

FOREIGN = ("nemoguardrails", "langchain", "langchain_core", "langgraph", "openai", "aiohttp", "PIL", "numpy", "torch")
"""What `import turnguard` must not load: frameworks, clients, and what is only needed once something is judged."""


def main(command: str) -> None:
    """Raise SystemExit with a sentence when anything is wrong."""
    import turnguard

    _must("site-packages" in str(turnguard.__file__), f"turnguard was imported from {turnguard.__file__}")
    loaded = [name for name in FOREIGN if name in sys.modules]
    _must(not loaded, f"import turnguard loads {', '.join(loaded)}")
    _must(importlib.util.find_spec("nemoguardrails") is None, "this is not an environment of base dependencies alone")
    _data(Path(turnguard.__file__).parent)
    _files()
    _commands(command)
    sys.stdout.write(f"the wheel of turnguard {turnguard.__version__} works alone\n")


def _data(package: Path) -> None:
    for name in (
        "py.typed",
        "text/messages/en.json",
        "config/starters/balanced.yaml",
        "moderators/rules/violence.yaml",
        "rails/flows.co",
    ):
        _must((package / name).is_file(), f"the wheel lacks {name}")
    import json

    from turnguard.config.starters import STYLES, starter
    from turnguard.text.language import LANGUAGES
    from turnguard.text.messages import builtin

    _must(all(builtin(language) for language in LANGUAGES), "a language has no messages")
    _must(all(starter(style) for style in STYLES), "a starter is empty")
    json.loads((package / "text" / "messages" / "en.json").read_text(encoding="utf-8"))


def _files() -> None:
    distribution = metadata.distribution("turnguard")
    names = [str(file) for file in distribution.files or ()]
    _must(any(name.endswith("licenses/LICENSE") for name in names), "the wheel lacks its licence")
    strangers = [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]
    _must(not strangers, f"the wheel carries {strangers[:3]}")


def _commands(command: str) -> None:
    for arguments, code in (
        (["--version"], 0),
        (["--help"], 0),
        (["policy", "schema"], 0),
        (["init", "made.yaml"], 0),
        (["policy", "lint", "made.yaml"], 0),
        (["policy", "show", "made.yaml"], 0),
        (["check", "--config", "absent.yaml", "hello"], 2),
        (["check", "--config", "made.yaml", "hello"], 3),  # nobody listens on the discard port
    ):
        ran = subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "", "TURNGUARD_BASE_URL": "http://127.0.0.1:9/v1"},
        )
        said = ran.stdout + ran.stderr
        _must(ran.returncode == code, f"turnguard {' '.join(arguments)}: exit {ran.returncode}, not {code}: {said}")
        _must("Traceback" not in said, f"turnguard {' '.join(arguments)}: a traceback")


def _must(right: bool, sentence: str) -> None:
    if not right:
        raise SystemExit(sentence)


if __name__ == "__main__":
    main(sys.argv[1])
