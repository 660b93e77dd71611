"""An image under `redact`: its unsafe tiles are painted over, and the result is judged again."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from turnguard import Guard, Policy, Step
from turnguard.core.exchange import Exchange
from turnguard.core.step import Image
from turnguard.core.verdict import Verdict
from turnguard.testing import FakeModerator

REDACT = Policy.from_dict({"categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}})


def drawn(size: tuple[int, int], *reds: tuple[int, int, int, int]) -> Pillow.Image:
    picture = Pillow.new("RGB", size, (240, 240, 240))
    draw = ImageDraw.Draw(picture)
    for at in range(0, size[0], 60):
        draw.line((at, 0, at, size[1]), fill=(60, 60, 200), width=3)
    for red in reds:
        draw.rectangle(red, fill=(220, 0, 0))
    return picture


def png(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def is_red(data: bytes) -> bool:
    with Pillow.open(io.BytesIO(data)) as picture:
        red, green, _ = picture.convert("RGB").split()
    return any(r > 180 and g < 60 for r, g in zip(red.tobytes(), green.tobytes(), strict=True))


def red_is_private(exchange: Exchange) -> Verdict:
    unsafe = exchange.picture is not None and is_red(exchange.picture.data)
    return Verdict(user="unsafe" if unsafe else "safe", categories=("PII/Privacy",) if unsafe else ())


async def passed(part: bytes | str, text: str = "") -> tuple[str, list[Image], int]:
    moderator = FakeModerator(script=red_is_private)
    async with Guard(REDACT, moderator=moderator) as guard:
        decision = await guard.acheck(Step.input(text, images=[part]))
    return decision.action, [part for part in decision.content if isinstance(part, Image)], len(moderator.asked)


@pytest.mark.parametrize("size", [(600, 400), (1600, 1200)])
@pytest.mark.parametrize("text", ["", "What is this?"])
async def test_unsafe_tiles_are_painted_over_and_the_rest_stays(size: tuple[int, int], text: str) -> None:
    original = drawn(size, (10, 10, 60, 60))
    action, (image,), asked = await passed(png(original), text)
    assert action == "rewrite"
    assert isinstance(image.source, bytes)
    assert not is_red(image.source)
    with Pillow.open(io.BytesIO(image.source)) as made:
        assert made.size == size
        corner = (size[0] - 50, size[1] - 50, size[0], size[1])
        assert made.crop(corner).tobytes() == original.crop(corner).tobytes()
    assert asked <= 32 + 8


async def test_a_data_uri_stays_one() -> None:
    uri = "data:image/png;base64," + base64.b64encode(png(drawn((600, 400), (10, 10, 60, 60)))).decode()
    action, (image,), _ = await passed(uri)
    assert action == "rewrite"
    assert isinstance(image.source, str)
    assert image.source.startswith("data:image/png;base64,")
    assert not is_red(base64.b64decode(image.source.partition(",")[2]))


async def test_a_picture_that_is_unsafe_everywhere_is_covered_whole() -> None:
    action, images, _ = await passed(png(Pillow.new("RGB", (600, 400), (220, 0, 0))))
    assert action == "rewrite"
    assert not any(is_red(image.source) for image in images if isinstance(image.source, bytes))


@pytest.mark.parametrize("kind", ["small", "animated"])
async def test_what_cannot_be_painted_is_dropped(kind: str) -> None:
    red = drawn((40, 40), (0, 0, 39, 39)) if kind == "small" else drawn((300, 200), (10, 10, 60, 60))
    out = io.BytesIO()
    more = {"save_all": True, "append_images": [drawn((300, 200))]} if kind == "animated" else {}
    red.save(out, "GIF" if kind == "animated" else "PNG", **more)
    action, images, _ = await passed(out.getvalue(), "What is this?")
    assert action == "rewrite"
    assert not images
