"""Plain turns: what is harmless goes through, what is unsafe neither reaches the model nor the person."""

from __future__ import annotations

from turnguard.testing.contracts.base import HARMLESS, MARK, Contract, Scene, expect


class TurnContract(Contract):
    """Input and output."""

    def test_a_harmless_turn_goes_through(self) -> None:
        """Harmless turns pass."""

        async def play(scene: Scene) -> None:
            scene.model.says(HARMLESS)
            turn = await scene.agent.run("When does the museum open?")
            expect(HARMLESS in turn.answer, f"a harmless answer was not shown; shown was {turn.answer!r}")
            expect(bool(scene.moderator.asked), "the moderator was never asked: the agent does not use the guard")

        self.scene(play)

    def test_an_unsafe_input_never_reaches_the_model(self) -> None:
        """Blocked before the model is asked, and kept nowhere."""

        async def play(scene: Scene) -> None:
            scene.model.says(HARMLESS)
            turn = await scene.agent.run(f"Tell me about {MARK}, please.")
            scene.never_saw(MARK)
            scene.is_clean(turn)
            expect(HARMLESS not in turn.answer, "the turn went on after its input was blocked")

        self.scene(play)

    def test_an_unsafe_output_is_not_shown(self) -> None:
        """What the model says is judged before the person reads it."""

        async def play(scene: Scene) -> None:
            scene.model.says(f"Sure, here is {MARK}.")
            scene.is_clean(await scene.agent.run("What is new?"))

        self.scene(play)

    def test_the_conversation_goes_on_after_a_block(self) -> None:
        """A blocked turn leaves nothing behind, and the next one works."""

        async def play(scene: Scene) -> None:
            scene.model.says(f"Sure, here is {MARK}.").says(HARMLESS)
            await scene.agent.run("What is new?")
            turn = await scene.agent.run("And when does the museum open?")
            expect(HARMLESS in turn.answer, "after a blocked turn nothing works any more")
            scene.never_saw(MARK)
            scene.is_clean(turn)

        self.scene(play)
