"""Ordinary pictures pass under the default settings: judged whole, at a scale at which small print is legible."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw

from tests.media.drawing import encoded, font
from tests.media.test_pictures import lines, moving
from turnguard import Decision, Guard, Policy, Step
from turnguard.checking.budget import shares
from turnguard.config.settings import MediaSettings
from turnguard.testing import FakeModerator


def photo(size: tuple[int, int], seed: int = 0, **more: Any) -> bytes:
    """Grain on large shapes, as JPEG."""
    small = Pillow.effect_noise((size[0] // 8 + seed, size[1] // 8), 90).resize(size, Pillow.Resampling.BICUBIC)
    grain = Pillow.effect_noise((size[0] // 2, size[1] // 2), 30).resize(size, Pillow.Resampling.NEAREST)
    return encoded(Pillow.merge("RGB", (small, grain, small.transpose(Pillow.Transpose.ROTATE_180))), "JPEG", **more)


def screen(size: tuple[int, int], number: int = 0) -> bytes:
    picture = lines(size)
    ImageDraw.Draw(picture).text((40, 8), f"screen {number}", font=font(14), fill=(200, 0, 0))
    return encoded(picture)


def display_p3() -> bytes:
    """A profile with the primaries and the curve of Display P3, as phones and Macs embed it."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def point(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"para\0\0\0\0\0\3\0\0" + b"".join(map(number, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 11) + b"Display P3\0" + bytes(78),
        b"wtpt": point(0.96419, 1, 0.82489),
        b"rXYZ": point(0.51512, 0.2412, -0.00105),
        b"gXYZ": point(0.29198, 0.69225, 0.04189),
        b"bXYZ": point(0.1571, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", at + len(body), len(value))
        body += padded
    head = struct.pack(">I4sI", at + len(body), b"appl", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acspAPPL"
    head += bytes(24) + number(0.9642) + number(1) + number(0.8249) + b"appl" + bytes(44)
    return head + table + body


def diagram() -> bytes:
    """Boxes and labels on nothing, RGBA."""
    picture = Pillow.new("RGBA", (1520, 2239), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for upper in range(40, 2200, 120):
        for left in range(40, 1400, 300):
            draw.rectangle((left, upper, left + 220, upper + 80), outline=(30, 60, 120, 255), fill=(220, 230, 250, 200))
            draw.text((left + 10, upper + 30), f"component {left} {upper}", font=font(14), fill=(0, 0, 0, 255))
    return encoded(picture)


ORDINARY: dict[str, Callable[[], list[bytes]]] = {
    "two photos of 12 megapixels": lambda: [photo((4032, 3024), seed) for seed in (0, 3)],
    "ten screenshots of a phone": lambda: [screen((1080, 2400), at) for at in range(10)],
    "twenty pictures of 1280 x 960": lambda: [screen((1280, 960), at) for at in range(20)],
    "two 4K screenshots": lambda: [screen((3840, 2160), at) for at in range(2)],
    "a 5K screenshot": lambda: [screen((5120, 2880))],
    "a page of 1280 x 10667": lambda: [screen((1280, 10667))],
    "a GIF of a hundred frames": lambda: [moving(100, (480, 270))],
    "a Display P3 photo": lambda: [photo((4032, 3024), icc_profile=display_p3())],
    "a diagram on a transparent ground": lambda: [diagram()],
    "seventeen thumbnails": lambda: [screen((200 + at, 150)) for at in range(17)],
}


async def check(images: list[bytes], policy: Policy | None = None, **media: Any) -> tuple[Decision, FakeModerator]:
    moderator = FakeModerator()
    async with Guard(policy, moderator=moderator, media=MediaSettings(deadline=100, **media)) as guard:
        return await guard.acheck(Step.input("What is this?", images=images)), moderator


@pytest.mark.parametrize("name", ORDINARY)
async def test_ordinary_pictures_are_judged_in_full_by_default(name: str) -> None:
    decision, moderator = await check(ORDINARY[name]())
    assert decision.action == "allow", decision.reasons
    assert decision.coverage.complete
    assert len(moderator.asked) <= 64


async def test_a_display_p3_photo_costs_no_second_view() -> None:
    data = photo((1600, 1200))
    plain, managed = photo((1600, 1200)), photo((1600, 1200), icc_profile=display_p3())
    assert len((await check([managed]))[1].asked) == len((await check([plain]))[1].asked)
    assert len(data) > 0


@pytest.mark.parametrize("corner", [(4, 4), (3640, 2140)])
async def test_small_print_in_a_corner_of_a_4k_screenshot_is_seen_at_full_scale(corner: tuple[int, int]) -> None:
    picture = Pillow.new("RGB", (3840, 2160), (250, 250, 250))
    ImageDraw.Draw(picture).text(corner, "kill the witness", font=font(12), fill=(30, 30, 30))
    decision, moderator = await check([encoded(picture)])
    assert decision.coverage.complete
    tiles = [entry.detail for entry in decision.coverage.judged if entry.kind == "image" and entry.detail]
    assert len(tiles) == 1
    assert len(moderator.asked) == 2


async def test_what_is_judged_coarsely_says_its_scale_and_follows_its_own_rule() -> None:
    images = [screen((3840, 2160), at) for at in range(2)]
    decision, moderator = await check(images, max_requests=14)
    assert len(moderator.asked) <= 14
    assert {entry.part for entry in decision.coverage.reduced} == {1, 2}
    assert all(0.41 <= entry.scale < 0.81 and entry.kind == "image" for entry in decision.coverage.reduced)
    assert not decision.coverage.complete
    assert decision.action == "block"
    assert decision.reasons[0].rule == "policy.on_reduced"
    assert decision.reasons[0].kind == "reduced"
    told = decision.to_dict()["coverage"]["reduced"]
    assert told[0].keys() == {"part", "kind", "detail", "scale"}
    flagged, _ = await check(images, Policy.from_dict({"on_reduced": {"image": "flag"}}), max_requests=14)
    assert flagged.action == "flag"
    assert flagged.reasons[0].rule == "policy.on_reduced.image"
    at_stage = Policy.from_dict({"stages": {"input": {"on_reduced": "allow"}}})
    assert (await check(images, at_stage, max_requests=14))[0].action == "allow"


async def test_a_large_picture_takes_what_small_ones_leave() -> None:
    decision, moderator = await check([screen((300, 200), at) for at in range(8)] + [screen((5120, 2880))])
    assert decision.coverage.complete
    assert len(moderator.asked) == 8 + 19


async def test_what_is_too_coarse_even_for_that_is_uncheckable() -> None:
    decision, _ = await check([screen((3840, 2160))], max_requests=2)
    assert decision.action == "block"
    assert decision.reasons[0].kind == "uncheckable"


async def test_pictures_in_a_text_share_the_same_requests() -> None:
    import base64

    uris = [f"data:image/png;base64,{base64.b64encode(screen((1080, 2400), at)).decode()}" for at in range(3)]
    moderator = FakeModerator()
    async with Guard(moderator=moderator, media=MediaSettings(max_requests=12)) as guard:
        decision = await guard.acheck(Step.tool_result("browser", "\n".join(uris), images=[screen((1080, 2400), 9)]))
    assert len(moderator.asked) <= 12
    assert not any(entry.counts for entry in decision.coverage.not_judged)
    assert {entry.part for entry in decision.coverage.reduced} == {0, 1}


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 80))
def test_shares_are_even_and_nobody_has_more_than_it_wants(wanted: list[int], most: int) -> None:
    given_ = shares(wanted, most)
    assert sum(given_) <= most
    assert all(0 <= got <= want for got, want in zip(given_, wanted, strict=True))
    assert sum(given_) == min(most, sum(wanted))
    lacking = [got for got, want in zip(given_, wanted, strict=True) if got < want]
    if lacking:
        assert max(given_) - min(lacking) <= 1
