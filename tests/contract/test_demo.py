"""`turnguard demo`, its scenes played over a real vLLM in place of the sandbox.

The toy behind that server cannot read print in pictures: unsafe ones are therefore red here. What it misses is its own affair; that every step gets a verdict, and that every surface
acts on it, is the product's.
"""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from tests.contract.wire import Server
from tests.nemo.conftest import guards_closed  # noqa: F401 - NeMo's apps cannot be closed; it is used by being here
from turnguard import Guard
from turnguard.cli.demo import drawing, langchain, pictures
from turnguard.cli.demo._world import Line, Scene, Skipped, World, world

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")]
SCENES: dict[str, tuple[Scene, set[str]]] = {
    "pictures": (pictures.scene, {"a PNG with white letters on transparent ground"}),
    "langchain": (langchain.scene, set()),
}


def red(words: str, size: tuple[int, int], part: float) -> bytes:
    """Green, with a red patch in the lower right corner where the words are the demo's unsafe ones."""
    image = Image.new("RGB", size, (20, 160, 60))
    if words in {pictures.UNSAFE, pictures.SMALL}:
        corner = int(size[0] * (1 - part)), int(size[1] * (1 - part))
        image.paste((220, 20, 30), (*corner, *size))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(autouse=True)
def red_for_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "screenshot", lambda words: red(words, (900, 600), 0.8))
    monkeypatch.setattr(drawing, "small_print", lambda words: red(words, (3840, 2160), 0.12))


@pytest.mark.parametrize("name", SCENES)
async def test_a_scene_ends_as_it_must(vllm: Server, name: str) -> None:
    scene, unknown = SCENES[name]
    async with world() as stage:
        moderator = stage.config.moderator.model_copy(update={"base_url": vllm.base_url, "deadline": 60.0})
        config = replace(stage.config, moderator=moderator)
        async with Guard.from_config(config) as guard:
            lines = [line async for line in scene(World(guard, stage.sandbox, config))]
    assert not [line for line in lines if isinstance(line, Skipped)]
    found = [line for line in lines if isinstance(line, Line)]
    assert {line.sent: line.problem for line in found if not line.ok and line.sent not in unknown} == {}
    assert not [line for line in found if line.decision is not None and line.decision["failed"]]
    assert {line.action for line in found if line.ok} & {"block", "rewrite"}
