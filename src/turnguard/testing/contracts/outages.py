"""Outages: a moderator that fails lets nothing through, wherever in the turn it does; afterwards everything works."""

from __future__ import annotations

from turnguard.core.errors import ModeratorError, Rejected, Timeout, Unavailable, Unparseable
from turnguard.testing.contracts.base import HARMLESS, Contract, Scene, expect

FAILURES: tuple[ModeratorError, ...] = (
    Unavailable("cannot connect"),
    Timeout("no answer before the deadline"),
    Rejected("HTTP 400: the request was refused"),
    Unparseable("no user label"),
)


class OutageContract(Contract):
    """With `on_failure: block`, which is the default."""

    def test_an_outage_blocks_the_input(self) -> None:
        """The model is not asked, whichever way the moderator fails."""
        for error in FAILURES:

            async def play(scene: Scene, error: ModeratorError = error) -> None:
                scene.model.says(HARMLESS)
                scene.moderator.error = error
                turn = await scene.agent.run("When does the museum open?")
                expect(not scene.model.seen, f"the model was asked although the moderator failed ({error.failure})")
                expect(HARMLESS not in turn.answer, "an answer was shown that nobody judged")
                expect(bool(turn.answer.strip()), "the person reads nothing at all: show decision.message")

            self.scene(play)

    def test_an_outage_after_the_input_blocks_the_output(self) -> None:
        """The input was judged, then the moderator went away."""

        async def play(scene: Scene) -> None:
            scene.model.says(HARMLESS)
            scene.moderator.error, scene.moderator.fails_after = FAILURES[0], 1
            turn = await scene.agent.run("When does the museum open?")
            expect(HARMLESS not in turn.answer, "an answer was shown that nobody judged")

        self.scene(play)

    def test_an_outage_during_a_tool_loop_runs_no_tool(self) -> None:
        """A call that could not be judged does not run."""

        async def play(scene: Scene) -> None:
            scene.model.calls("look_up", query="opening hours").says(HARMLESS)
            scene.moderator.error, scene.moderator.fails_after = FAILURES[0], 1
            turn = await scene.agent.run("When does the museum open?")
            expect(scene.tool.ran == [], "a tool call ran that nobody judged")
            expect(HARMLESS not in turn.answer, "an answer was shown that nobody judged")

        self.scene(play)

    def test_everything_works_again_afterwards(self) -> None:
        """A failure is not remembered."""

        async def play(scene: Scene) -> None:
            scene.model.says(HARMLESS)
            scene.moderator.error = FAILURES[0]
            await scene.agent.run("When does the museum open?")
            scene.moderator.error = None
            turn = await scene.agent.run("When does the museum open?")
            expect(HARMLESS in turn.answer, "after the outage nothing works any more")

        self.scene(play)
