"""A guard as a node of a LangGraph graph."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import END
from langgraph.types import Command

from turnguard.core.decision import Decision
from turnguard.core.errors import ConfigError
from turnguard.core.step import STAGES, Stage
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.judge import Judging, replacing
from turnguard.langchain.messages import stage_of
from turnguard.langchain.review import Reviews, has_checkpointer
from turnguard.langchain.rulings import Ruling, Unknown
from turnguard.runtime import sync


def guard_node(
    guard: GuardLike, stage: Stage = "input", *, then: str | None = None, messages_key: str = "messages"
) -> Runnable[Any, Any]:
    """A node that judges the messages of one stage in `state[messages_key]`: `input`, `output`, `tool_call`,
    `tool_result`.

    What passes changes nothing, a rewrite replaces its message by id, a review interrupts (without a checkpointer it
    blocks), and a block replaces the message, adds the refusal and goes to END.

    `then` names the node that follows when the step passes; give it, and draw no edge from this node: LangGraph
    follows a drawn edge even beside a `goto`, so that the node behind it would run after a block too (it then sees
    the refusal, never what was blocked). At `tool_call` and `tool_result` a withheld call or result is a notice, and
    the graph goes on.
    """
    if stage not in STAGES or stage == "retrieval":
        raise ConfigError(f"guard_node judges input, output, tool_call or tool_result, not {stage!r}")
    judging = Judging(
        Guard.of(guard),
        check_input=stage == "input",
        check_output=stage == "output",
        check_tool_calls=stage == "tool_call",
        check_tool_results=stage == "tool_result",
    )
    node = _Node(judging)
    node.stage, node.then, node.key = stage, then, messages_key
    return RunnableLambda(node.run, afunc=node.arun, name=f"turnguard_{stage}")


class _Node:
    """The node's logic, once for both kinds of call."""

    stage: Stage
    then: str | None
    key: str

    def __init__(self, judging: Judging) -> None:
        self._judging = judging
        self._reviews = Reviews(judging)

    def run(self, state: Any) -> Any:
        return sync.run(self.arun(state))

    async def arun(self, state: Any) -> Any:
        messages: list[Any] = list(state[self.key] if isinstance(state, dict) else getattr(state, self.key))
        unknown = [
            one for one in self._judging.unknown(messages) if stage_of(one.message) in (self.stage, _host(self.stage))
        ]
        rulings = list(await asyncio.gather(*map(self._ruled, unknown)))
        waiting = [
            (ruling.message, one.request)
            for one, ruling in zip(unknown, rulings, strict=True)
            if self._reviews.waits(ruling.message)
        ]
        answered = iter(await self._reviews.settle(waiting))  # nothing else runs in this node, so all is asked here
        judged: dict[int, list[BaseMessage]] = {}
        refused: Decision | None = None
        for one, ruling in zip(unknown, rulings, strict=True):
            settled, ended = ruling.messages, ruling.ended
            if self._reviews.waits(ruling.message):
                settled, ended = next(answered)
                settled = [*settled, *ruling.answers]
            if ruling.message is not one.message:
                judged[one.at] = settled
            if ended is not None and self.stage in ("input", "output"):
                refused = refused or ended
        update = replacing(messages, judged)
        if refused is not None and self.stage == "input":
            text = await self._judging.refusal(refused)
            update.append(notices.ai(None, text, notices.about(refused)))
        changed = {self.key: update} if update else {}
        if refused is not None:
            return Command(goto=END, update=changed)
        return Command(goto=self.then, update=changed) if self.then is not None else changed

    async def _ruled(self, one: Unknown) -> Ruling:
        if has_checkpointer():
            return await self._reviews.remembered(one.message, one.request)
        return await self._judging.rule(one.message, one.request)


def _host(stage: str) -> str:
    """The stage of the message that carries this one: calls stand in the model's output."""
    return "output" if stage == "tool_call" else stage
