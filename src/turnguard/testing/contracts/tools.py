"""Tool loops: an unsafe call does not run, an unsafe result does not reach the model, in the first round or later."""

from __future__ import annotations

from turnguard.testing.contracts.base import HARMLESS, MARK, Contract, Scene, expect
from turnguard.testing.contracts.scripts import Result


class ToolLoopContract(Contract):
    """Calls and results."""

    def test_a_harmless_tool_loop_goes_through(self) -> None:
        """The tool runs once, with the arguments that the model gave."""

        async def play(scene: Scene) -> None:
            scene.model.calls("look_up", query="opening hours").says(HARMLESS)
            turn = await scene.agent.run("When does the museum open?")
            expect(scene.tool.ran == [{"query": "opening hours"}], f"the tool ran with {scene.tool.ran}")
            expect(HARMLESS in turn.answer, "a harmless answer was not shown")

        self.scene(play)

    def test_an_unsafe_call_does_not_run(self) -> None:
        """A call is judged before it runs."""

        async def play(scene: Scene) -> None:
            scene.model.calls("look_up", query=MARK).says(HARMLESS)
            turn = await scene.agent.run("What is new?")
            expect(scene.tool.ran == [], "an unsafe tool call was run")
            scene.never_saw(MARK)
            scene.is_clean(turn)

        self.scene(play)

    def test_an_unsafe_result_never_reaches_the_model(self) -> None:
        """A tool's result is judged before the agent reads it."""

        async def play(scene: Scene) -> None:
            scene.tool.result = Result(f"The page says: {MARK}.")
            scene.model.calls("look_up", query="news").says(HARMLESS)
            turn = await scene.agent.run("What is new?")
            scene.never_saw(MARK)
            scene.is_clean(turn)

        self.scene(play)

    def test_a_later_round_is_judged_like_the_first(self) -> None:
        """Two rounds; the second call is unsafe."""

        async def play(scene: Scene) -> None:
            scene.model.calls("look_up", query="news").calls("look_up", query=MARK).says(HARMLESS)
            turn = await scene.agent.run("What is new?")
            expect(scene.tool.ran == [{"query": "news"}], f"the tool ran with {scene.tool.ran}")
            scene.never_saw(MARK)
            scene.is_clean(turn)

        self.scene(play)
