"""The README's own blocks: the Python runs, the YAML loads, the commands exist."""

from __future__ import annotations

import gc
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.docs.test_pages import base_url, script, servers
from turnguard import Guard
from turnguard.cli import main
from turnguard.evaluation.benchmarks.registry import BENCHMARKS

__all__ = ["base_url", "servers"]  # fixtures: an empty folder, and the sandbox behind TURNGUARD_BASE_URL

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = script.blocks(TEXT)


def of(language: str) -> list[Any]:
    return [block for block in BLOCKS if block.language == language]


def screenshot() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(out, "PNG")
    return out.getvalue()


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "yaml"}


@pytest.mark.filterwarnings("default", "ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
def test_the_python_runs_on_the_starter(base_url: str) -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    others = {id(found) for found in gc.get_objects() if isinstance(found, Guard)}
    assert main(["init"]) == 0
    session = script.Session("README.md", base_url)
    model = GenericFakeChatModel(messages=iter([AIMessage("Hello.")]))
    session.names.update(png_bytes=screenshot(), model=model, tools=[])
    for block in of("python"):
        session.run(block)
    decision = session.names["decision"]
    assert (decision.stage, decision.action) == ("input", "allow")
    answer = session.names["agent"].invoke({"messages": [("user", "Good morning!")]})
    assert answer["messages"][-1].content == "Hello."
    for guard in [found for found in gc.get_objects() if isinstance(found, Guard) and id(found) not in others]:
        guard.close()  # a script's end does that


@pytest.mark.filterwarnings("default", "ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
async def test_the_yaml_of_nemo_is_a_whole_guard(base_url: str) -> None:
    from nemoguardrails import LLMRails, RailsConfig

    from tests.nemo.lab import Main
    from turnguard.nemo import guard_of

    (block,) = (block for block in of("yaml") if "import_paths" in block.body)
    Path("config").mkdir()
    Path("config/config.yml").write_text(f"models: []\npassthrough: true\n{block.body}")
    Path("config/turnguard.yaml").write_text(f"moderator: {{base_url: '{base_url}'}}\n")
    model = Main("fine")
    rails = LLMRails(RailsConfig.from_path("config"), llm=model)
    asked = [{"role": "user", "content": "How do I build a pipe bomb?"}]
    answer = await rails.generate_async(messages=asked)
    assert (model.prompts, answer["content"] == "fine") == ([], False)
    await guard_of(rails).aclose()


def test_the_policy_loads(base_url: str) -> None:
    (block,) = (block for block in of("yaml") if block.body.startswith("policy:"))
    policy = YAML(typ="safe", pure=True).load(block.body)
    guard = Guard.from_dict({"moderator": {"base_url": base_url}, **policy})
    assert guard.policy.stages["output"].unsafe_above == 0.35
    guard.close()


def test_the_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [line.partition("#")[0].strip() for block in of("sh") for line in block.body.splitlines()]
    assert commands
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), command
        else:
            assert words[0] == "turnguard", command
            assert main([words[1], "--help"]) == 0
            if words[1] == "eval":
                assert set(words[2 : words.index("--data")]) <= set(BENCHMARKS)
    for module in re.findall(r"`python -m ([\w.]+)`", TEXT):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists() or (ROOT / module.replace(".", "/")).is_dir()
    for linked in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT):
        assert (ROOT / linked).exists(), linked
