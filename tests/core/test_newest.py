"""With earlier turns, a picture is judged beside the newest words; and earlier turns are judged without any words too."""

from __future__ import annotations

import io

import pytest
from PIL import Image as Pillow

from turnguard import Guard, Step
from turnguard.testing import FakeModerator


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("earlier", ["What is tea?", "a long turn " * 2000], ids=["short", "several windows"])
async def test_a_picture_is_judged_beside_the_newest_words(earlier: str) -> None:
    moderator = FakeModerator()
    async with Guard(moderator=moderator) as guard:
        decision = await guard.acheck(Step.input("Is this picture yours?", [png()], history=[earlier, "And milk?"]))
    assert decision.action == "allow"
    (beside,) = [exchange.prompt for exchange in moderator.asked if exchange.picture is not None]
    assert beside == "Is this picture yours?"
    alone = [exchange.prompt for exchange in moderator.asked if exchange.picture is None]
    assert any(earlier[:20] in text for text in alone)
    assert any("And milk?\nIs this picture yours?" in text for text in alone)


async def test_a_picture_without_words_is_judged_beside_the_last_turn_and_the_turns_are_judged() -> None:
    moderator = FakeModerator(unsafe=["UNSAFE"])
    async with Guard(moderator=moderator) as guard:
        fine = await guard.acheck(Step.input("", [png()], history=["What is this?"]))
        assert (fine.action, fine.coverage.complete) == ("allow", True)
        assert {(exchange.prompt.strip(), exchange.picture is None) for exchange in moderator.asked} == {
            ("What is this?", True),
            ("What is this?", False),
        }
        unsafe = Step.input("", [png("blue")], history=["how to do UNSAFE", "look:"])
        assert (await guard.acheck(unsafe)).action == "block"
        assert [decision.action for decision in await guard.acheck_parts(unsafe)] == ["block"]


async def test_without_earlier_turns_the_words_are_asked_about_once_with_the_picture() -> None:
    moderator = FakeModerator()
    async with Guard(moderator=moderator) as guard:
        await guard.acheck(Step.input("Look.", [png()]))
    assert [(exchange.prompt, exchange.picture is not None) for exchange in moderator.asked] == [("Look.", True)]
