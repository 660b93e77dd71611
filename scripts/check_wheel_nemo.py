"""What the wheel must be able to do beside NeMo Guardrails, as users have it: no source tree, no COLANGPATH.

python -I scripts/check_wheel_nemo.py
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["NEMO_GUARDRAILS_NO_USAGE_STATS"] = "1"
os.environ.pop("COLANGPATH", None)

SETTINGS = "moderator: {{base_url: '{url}'}}\npolicy: {{messages: {{Violence: {{en: No.}}}}}}\n"
DROP_IN = """
models: []
passthrough: true
import_paths: [turnguard/rails]
custom_data: {turnguard: turnguard.yaml}
rails:
  input: {flows: [turnguard check input]}
  output: {flows: [turnguard check output]}
  tool_output: {flows: [turnguard check tool call]}
  tool_input: {flows: [turnguard check tool result]}
  retrieval: {flows: [turnguard check retrieval]}
"""
COLANG_2 = """
import core
import guardrails
import turnguard.nemo.v2

flow main
  activate answering

flow answering
  global $user_message
  user said something
  $answer = await PassthroughLLMAction(user_message=$user_message)
  bot say $answer

flow input rails $input_text
  turnguard check input

flow output rails $output_text
  turnguard check output
"""


def main() -> None:
    """Raise SystemExit with a sentence when anything is wrong."""
    from nemoguardrails import RailsConfig

    # NeMo looks beside its own package: that finds the rails before anything of ours was imported
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yml").write_text(DROP_IN)
        config = RailsConfig.from_path(folder)
        _must("turnguard" not in sys.modules, "loading a configuration imports turnguard: this proves nothing")
        named = {flow.get("id") for flow in config.flows if isinstance(flow, dict)}
        _must("turnguard check input" in named, "NeMo does not find turnguard/rails in an installed wheel")
    import turnguard

    _must("site-packages" in str(turnguard.__file__), f"turnguard was imported from {turnguard.__file__}")
    asyncio.run(_drive({"config.yml": DROP_IN}))
    second = 'colang_version: "2.x"\nmodels: []\ncustom_data: {turnguard: turnguard.yaml}\n'
    asyncio.run(_drive({"config.yml": second, "main.co": COLANG_2}))
    sys.stdout.write(f"the wheel of turnguard {turnguard.__version__} guards NeMo Guardrails\n")


async def _drive(files: dict[str, str]) -> None:
    """A safe turn passes and an unsafe one is refused before the main model is asked."""
    from nemoguardrails import LLMRails, RailsConfig
    from nemoguardrails.testing import FakeLLMModel

    from turnguard.nemo import guard_of
    from turnguard.testing import FakeVLLM

    with tempfile.TemporaryDirectory() as folder, FakeVLLM() as server:
        server.when("BOMB", user="unsafe", categories=["Violence"])
        _write(folder, {**files, "turnguard.yaml": SETTINGS.format(url=server.base_url)})
        model = FakeLLMModel(responses=["fine"] * 3)
        rails = LLMRails(RailsConfig.from_path(folder), llm=model)
        for said, expected in (("hello", "fine"), ("a BOMB", "No.")):
            answer: Any = await rails.generate_async(messages=[{"role": "user", "content": said}])
            _must(answer["content"] == expected, f"{said!r} is answered {answer['content']!r}, not {expected!r}")
        await guard_of(rails).aclose()
        _must(model.inference_count == 1, "the main model was asked what is unsafe")


def _write(folder: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(folder, name).write_text(text)


def _must(right: bool, sentence: str) -> None:
    if not right:
        raise SystemExit(sentence)


if __name__ == "__main__":
    main()
