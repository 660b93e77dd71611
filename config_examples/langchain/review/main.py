"""An agent whose risky calls wait for a person. `turnguard sandbox` in one terminal, this file in another.

Nothing runs while it waits, and nothing runs twice when it goes on. Answer approve, reject, or a new body for the
mail. The model here is scripted so that this runs without any key; pass your own chat model to `build`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from turnguard import Guard
from turnguard.langchain import TurnguardMiddleware

sent: list[str] = []


@tool
def send_mail(to: str, body: str) -> str:
    """Send a mail."""
    sent.append(body)
    return f"Sent to {to}."


def build(model: BaseChatModel, guard: Guard) -> Any:
    """The agent. A review needs a checkpointer: the run stops, and goes on when somebody has decided."""
    return create_agent(model, [send_mail], middleware=[TurnguardMiddleware(guard)], checkpointer=InMemorySaver())


class Scripted(GenericFakeChatModel):
    """Says what it is given, one message after the other."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """It needs none."""
        return self


def scripted() -> BaseChatModel:
    """A model that wants to send somebody's number by mail."""
    args = {"to": "anna@example.com", "body": "My social security number is 078-05-1120."}
    call = {"name": "send_mail", "args": args, "id": "mail"}
    return Scripted(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("That is done.")]))


def decide(action: dict[str, Any], answer: str) -> dict[str, Any]:
    """A person's answer in LangChain's own form."""
    if answer in ("approve", "reject"):
        return {"type": answer}
    return {"type": "edit", "edited_action": {"name": action["name"], "args": {**action["args"], "body": answer}}}


def main(ask: Callable[[str], str] = input) -> None:
    """Run until the agent has finished, asking `ask` whenever it waits."""
    with closing(Guard.from_yaml(Path(__file__).with_name("turnguard.yaml"))) as guard:
        run(build(scripted(), guard), ask)


def run(agent: Any, ask: Callable[[str], str]) -> None:
    """One turn, with as many reviews as it takes."""
    config = {"configurable": {"thread_id": "1"}}
    state = agent.invoke({"messages": [("user", "Mail Anna my number, please.")]}, config)
    while "__interrupt__" in state:
        decisions = []
        for action in state["__interrupt__"][0].value["action_requests"]:
            print(f"{action['name']} {action['args']}\n  {action['description']}")
            decisions.append(decide(action, ask("approve, reject, or a new body: ").strip()))
        state = agent.invoke(Command(resume={"decisions": decisions}), config)
    print(f"sent: {sent}")
    print(state["messages"][-1].content)


if __name__ == "__main__":
    main()
