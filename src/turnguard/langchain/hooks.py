"""The middleware's nodes that only some policies need. Each costs time in every turn or loop, so a middleware has them
only where its policy can ask a person, or where it blocks by exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain_core.messages import AIMessage, BaseMessage

from turnguard.core.errors import Blocked
from turnguard.langchain.drive import Steps, adrive, drive

State = AgentState[Any]
Update = dict[str, Any] | None


class RaisingHooks(AgentMiddleware[Any, Any, Any]):
    """The node at the end of a turn in which `Blocked` is raised."""

    def after_agent(self, state: State, runtime: Any) -> Update:
        """Raise what the turn was refused for."""
        _raise_blocked(self, state, runtime)
        update: Update = super().after_agent(state, runtime)
        return update

    async def aafter_agent(self, state: State, runtime: Any) -> Update:
        """Raise what the turn was refused for."""
        _raise_blocked(self, state, runtime)
        update: Update = await super().aafter_agent(state, runtime)
        return update


class ReviewHooks(AgentMiddleware[Any, Any, Any]):
    """The nodes in which a person is asked."""

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the input and the tool results that wait."""
        return drive(_settle(self, state, runtime)) or super().before_model(state, runtime)

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the input and the tool results that wait."""
        return await adrive(_settle(self, state, runtime)) or await super().abefore_model(state, runtime)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the answer and the calls that wait."""
        return drive(_settle_answer(self, state, runtime)) or super().after_model(state, runtime)

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: State, runtime: Any) -> Update:
        """Let a person review the answer and the calls that wait."""
        return await adrive(_settle_answer(self, state, runtime)) or await super().aafter_model(state, runtime)

    def after_agent(self, state: State, runtime: Any) -> Update:
        """Let a person review the result of a `return_direct` tool."""
        return drive(_settle(self, state, runtime)) or super().after_agent(state, runtime)

    async def aafter_agent(self, state: State, runtime: Any) -> Update:
        """Let a person review the result of a `return_direct` tool."""
        return await adrive(_settle(self, state, runtime)) or await super().aafter_agent(state, runtime)


def _settle(middleware: Any, state: State, runtime: Any) -> Steps[Update]:
    if not middleware.reviews.held(state["messages"]):
        return None
    run = middleware.run(runtime)
    settled, refused = yield run.reviews.messages(state["messages"])
    if refused is None:
        return {"messages": settled}
    refusal = yield run.refusal(refused)
    run.blocks(refused, refusal)
    return {"jump_to": "end", "messages": [*settled, refusal]}


def _settle_answer(middleware: Any, state: State, runtime: Any) -> Steps[Update]:
    last = _last_ai(state["messages"])
    if last is None or not middleware.reviews.waits(last):
        return None
    run = middleware.run(runtime)
    request = run.judging.asked(state["messages"])
    settled, refused = yield run.reviews.answer(last, request)
    if refused is None:
        return {"messages": settled}
    run.blocks(refused, settled[0])
    return {"jump_to": "end", "messages": settled}


def _raise_blocked(middleware: Any, state: State, runtime: Any) -> None:
    blocked = middleware.run(runtime).blocked
    for message in state["messages"] if blocked else ():
        decision = blocked.take(message.id)
        if decision is not None:
            raise Blocked(decision)


def _last_ai(messages: Sequence[BaseMessage]) -> AIMessage | None:
    return next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
