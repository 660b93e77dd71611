"""Contract tests that adopters run against their own agent: every entry and exit must be guarded.

    class TestMyAgent(AgentContract):
        def make_agent(self, guard, model, tools):
            return MyAdapter(my_agent(guard, llm=model, tools=tools))

`AgentContract` is the union of the five; take them one by one where your agent has no tools, or does not stream.
"""

from turnguard.testing.contracts.agents import Agent, StreamingAgent, Turn
from turnguard.testing.contracts.images import ImageContract
from turnguard.testing.contracts.outages import OutageContract
from turnguard.testing.contracts.scripts import Called, Result, Said, ScriptedModel, ScriptedTool
from turnguard.testing.contracts.streaming import StreamingContract
from turnguard.testing.contracts.tools import ToolLoopContract
from turnguard.testing.contracts.turns import TurnContract

__all__ = [
    "Agent",
    "AgentContract",
    "Called",
    "ImageContract",
    "OutageContract",
    "Result",
    "Said",
    "ScriptedModel",
    "ScriptedTool",
    "StreamingAgent",
    "StreamingContract",
    "ToolLoopContract",
    "Turn",
    "TurnContract",
]


class AgentContract(TurnContract, ToolLoopContract, StreamingContract, ImageContract, OutageContract):
    """Everything: plain turns, tool loops, streams, pictures, outages."""
