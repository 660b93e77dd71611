"""The base of the contracts: the guard, a moderator that knows the marks, and the failure messages."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from turnguard.core.errors import ModeratorError
from turnguard.core.exchange import Exchange
from turnguard.core.policy import Policy
from turnguard.core.verdict import Verdict
from turnguard.guard import Guard
from turnguard.moderators.base import Deadline
from turnguard.testing.contracts.agents import Agent, Turn
from turnguard.testing.contracts.scripts import ScriptedModel, ScriptedTool
from turnguard.testing.contracts.traces import holds
from turnguard.testing.fake_moderator import FakeModerator

T = TypeVar("T")

MARK = "contraband-7f3a"
"""The text that the contract's moderator calls unsafe."""
HARMLESS = "The museum opens at ten."


def expect(holding: bool, why: str) -> None:
    """An `assert` that `python -O` does not remove."""
    if not holding:
        raise AssertionError(why)


class Moderator(FakeModerator):
    """Calls `MARK` and mostly red pictures unsafe; from the `fails_after`-th exchange on it raises `error`."""

    def __init__(self) -> None:
        super().__init__(unsafe={MARK: ("Violence",)})
        self.error: ModeratorError | None = None
        self.fails_after = 0

    async def judge(self, exchange: Exchange, deadline: Deadline) -> Verdict:
        """Look at the pixels, for what is sent may be another file than what was drawn."""
        if self.error is not None and len(self.asked) >= self.fails_after:
            self.asked.append(exchange)
            raise self.error
        verdict = await super().judge(exchange, deadline)
        if exchange.picture is not None and _red(exchange.picture.data):
            return Verdict(user="unsafe", response=verdict.response, categories=("Violence",), p_user=0.98)
        return verdict


class Contract:
    """The base of all contracts: override `make_agent`."""

    policy: ClassVar[Mapping[str, Any]] = {}
    """What stands under `policy:` in the YAML. The contracts hold for policies that block."""

    def make_agent(self, guard: Guard, model: ScriptedModel, tools: Sequence[ScriptedTool]) -> Agent:
        """Your agent, guarded by `guard`, asking `model` (call `model.next(messages)`) and running `tools`."""
        raise NotImplementedError("override make_agent(guard, model, tools) and return an adapter of your agent")

    def make_guard(self, moderator: Moderator) -> Guard:
        """The guard that your agent gets: with your own settings, override this."""
        return Guard(Policy.from_dict(self.policy), moderator)

    def scene(self, play: Callable[[Scene], Awaitable[T]]) -> T:
        """Run one contract in an event loop of its own, with a fresh guard, model and tool."""

        async def run() -> T:
            moderator = Moderator()
            guard = self.make_guard(moderator)
            model, tool = ScriptedModel(), ScriptedTool()
            try:
                return await play(Scene(self.make_agent(guard, model, [tool]), model, tool, moderator))
            finally:
                await guard.aclose()

        return asyncio.run(run())


class Scene:
    """One contract's agent and what surrounds it."""

    def __init__(self, agent: Agent, model: ScriptedModel, tool: ScriptedTool, moderator: Moderator) -> None:
        self.agent = agent
        self.model = model
        self.tool = tool
        self.moderator = moderator

    def never_saw(self, mark: str | bytes) -> None:
        """The model was never sent the contraband."""
        expect(not holds(self.model.seen, mark), "the unsafe content reached the model")

    @staticmethod
    def is_clean(turn: Turn, mark: str | bytes = MARK) -> None:
        """Neither the person nor the agent's state has it, and the person reads something."""
        expect(not holds(turn.answer, mark), "the unsafe content was shown to the person")
        expect(not holds(turn.kept, mark), "the unsafe content stayed in what the agent keeps")
        expect(bool(turn.answer.strip()), "the person reads nothing at all: show decision.message")


def png(colour: tuple[int, int, int]) -> bytes:
    """A picture of one colour with a white corner, so that it is no empty page."""
    from PIL import Image

    picture = Image.new("RGB", (96, 96), colour)
    picture.paste((255, 255, 255), (0, 0, 16, 16))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _red(data: bytes) -> bool:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        red, green, blue = picture.convert("RGB").resize((1, 1)).tobytes()
    return bool(red > 120 and green < 90 and blue < 90)
