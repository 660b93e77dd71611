"""Pictures: from the person, and from a tool, where agents forget to look."""

from __future__ import annotations

from turnguard.testing.contracts.base import HARMLESS, Contract, Scene, expect, png
from turnguard.testing.contracts.scripts import Result

GREEN, RED = (20, 150, 60), (210, 20, 30)


class ImageContract(Contract):
    """Input and tool results. Set `takes_images = False` for an agent that takes none from people."""

    takes_images = True

    def test_a_harmless_picture_goes_through(self) -> None:
        """And the model sees it."""

        async def play(scene: Scene) -> None:
            _needs_images(self.takes_images)
            scene.model.says(HARMLESS)
            turn = await scene.agent.run("What is on this ticket?", image=png(GREEN))
            expect(HARMLESS in turn.answer, "a harmless answer was not shown")
            expect(any(exchange.picture for exchange in scene.moderator.asked), "the picture was not judged")

        self.scene(play)

    def test_an_unsafe_picture_never_reaches_the_model(self) -> None:
        """Beside a harmless text."""

        async def play(scene: Scene) -> None:
            _needs_images(self.takes_images)
            picture = png(RED)
            scene.model.says(HARMLESS)
            turn = await scene.agent.run("What is on this ticket?", image=picture)
            scene.never_saw(picture)
            scene.is_clean(turn, picture)
            expect(HARMLESS not in turn.answer, "the turn went on after its picture was blocked")

        self.scene(play)

    def test_an_unsafe_picture_from_a_tool_never_reaches_the_model(self) -> None:
        """A screenshot is a tool result like any other."""

        async def play(scene: Scene) -> None:
            picture = png(RED)
            scene.tool.result = Result("Page loaded.", picture)
            scene.model.calls("look_up", query="news").says(HARMLESS)
            turn = await scene.agent.run("What is new?")
            expect(bool(scene.tool.ran), "the tool did not run")
            scene.never_saw(picture)
            scene.is_clean(turn, picture)

        self.scene(play)


def _needs_images(takes: bool) -> None:
    import pytest

    if not takes:
        pytest.skip("this agent takes no pictures from people (takes_images = False)")
