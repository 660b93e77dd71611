"""Streams: only judged text is shown, and no unsafe piece of it, however the pieces are cut."""

from __future__ import annotations

from turnguard.testing.contracts.agents import StreamingAgent
from turnguard.testing.contracts.base import MARK, Contract, Scene, expect

LONG = "The museum stands beside the river, and its garden is open all year. " * 8


class StreamingContract(Contract):
    """For agents whose adapter has `stream`; the others' tests are skipped."""

    def test_a_harmless_stream_arrives_whole(self) -> None:
        """Nothing is lost, nothing is said twice."""

        async def play(scene: Scene) -> None:
            scene.model.says(LONG)
            shown = await _shown(scene, "Tell me about the museum.")
            expect("".join(shown).strip() == LONG.strip(), "what was shown is not what the model said")

        self.scene(play)

    def test_an_unsafe_stream_is_stopped_before_it_shows(self) -> None:
        """The mark comes late, cut into pieces, behind much harmless text."""

        async def play(scene: Scene) -> None:
            scene.model.says(f"{LONG}And here is {MARK}. {LONG}")
            shown = "".join(await _shown(scene, "Tell me about the museum."))
            expect(MARK not in shown, "unsafe text was streamed to the person")
            expect(bool(shown.strip()), "the person reads nothing at all")
            expect(shown.count(LONG.strip()) < 2, "the stream went on after it was blocked")

        self.scene(play)

    def test_an_unsafe_input_is_not_answered_by_a_stream(self) -> None:
        """The input is judged on the streaming path too."""

        async def play(scene: Scene) -> None:
            scene.model.says(LONG)
            shown = "".join(await _shown(scene, f"Tell me about {MARK}."))
            scene.never_saw(MARK)
            expect(LONG[:40] not in shown, "the turn went on after its input was blocked")
            expect(MARK not in shown, "unsafe text was streamed to the person")

        self.scene(play)


async def _shown(scene: Scene, text: str) -> list[str]:
    import pytest

    if not isinstance(scene.agent, StreamingAgent):
        pytest.skip("this agent's adapter has no stream()")
    return [piece async for piece in scene.agent.stream(text)]
