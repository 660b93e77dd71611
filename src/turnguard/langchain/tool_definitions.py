"""The definitions of tools, judged before the agent's model reads them: once each, by what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from turnguard.core.decision import Decision
from turnguard.core.step import Step
from turnguard.langchain.judge import Judging
from turnguard.langchain.messages import fingerprint


class Definitions:
    """The tools that one model call is offered. `checks.tools` says which are judged: `dynamic` are those whose
    arguments have a JSON schema, as tools of MCP servers have; your own code has a signature.

    A tool that is withheld is not offered. One that the conversation has called before stays, because providers refuse
    a call of a tool that they do not know: without its description and its schema.
    """

    def __init__(self, judging: Judging, tools: Sequence[Any]) -> None:
        self._judging = judging
        self._tools = tools
        self._judged = {id(tool): _key(tool) for tool in tools if self._concerns(tool)}
        self._failed: dict[Hashable, Decision] = {}

    @property
    def unknown(self) -> bool:
        """Whether any was not judged yet."""
        return any(self._decision(tool) is None for tool in self._tools if id(tool) in self._judged)

    async def judge(self) -> list[Decision]:
        """Judge those that were not judged yet."""
        new = [tool for tool in self._tools if id(tool) in self._judged and self._decision(tool) is None]
        decisions = await asyncio.gather(*(self._judging.check(Step.tools([_definition(tool)])) for tool in new))
        for tool, decision in zip(new, decisions, strict=True):
            if decision.failed:  # of this call alone: the next one asks again
                self._failed[self._judged[id(tool)]] = decision
            else:
                self._judging.definitions.put(self._named(tool), decision)
        return list(decisions)

    def offered(self, messages: Sequence[BaseMessage]) -> list[Any]:
        """The tools to offer in a conversation; the same objects where nothing is withheld."""
        withheld = {
            id(tool): decision
            for tool in self._tools
            if id(tool) in self._judged and (decision := self._decision(tool)) is not None and not decision.allowed
        }
        if not withheld:
            return list(self._tools)
        called = {call["name"] for one in messages if isinstance(one, AIMessage) for call in one.tool_calls}
        return [
            tool if id(tool) not in withheld else self._bare(tool, withheld[id(tool)])
            for tool in self._tools
            if id(tool) not in withheld or _name(tool) in called
        ]

    def _concerns(self, tool: Any) -> bool:
        wanted = self._judging.guard.checks.tools
        dynamic = isinstance(tool, BaseTool) and isinstance(tool.args_schema, dict)
        return wanted == "all" or (wanted == "dynamic" and dynamic)

    def _decision(self, tool: Any) -> Decision | None:
        return self._judging.definitions.get(self._named(tool)) or self._failed.get(self._judged[id(tool)])

    def _named(self, tool: Any) -> Hashable:
        return self._judging.policy_digest, self._judged[id(tool)]

    def _bare(self, tool: Any, decision: Decision) -> Any:
        text = self._judging.guard.removed(decision, policy=self._judging.policy)
        schema = {"type": "object", "properties": {}}
        if isinstance(tool, BaseTool):
            return tool.model_copy(update={"description": text, "args_schema": schema})
        return {"type": "function", "function": {"name": _name(tool), "description": text, "parameters": schema}}


def _definition(tool: Any) -> Mapping[str, Any]:
    return tool if isinstance(tool, Mapping) else convert_to_openai_tool(tool)


def _key(tool: Any) -> Hashable:
    """What tells a definition from any other. A class of arguments is held, so that it is told by itself."""
    schema = getattr(tool, "args_schema", None)
    if isinstance(tool, BaseTool) and isinstance(schema, type):
        return tool.name, tool.description, schema
    return fingerprint([tool.name, tool.description, schema] if isinstance(schema, Mapping) else _definition(tool))


def _name(tool: Any) -> str:
    if isinstance(tool, Mapping):
        inner = tool.get("function")
        return str((inner if isinstance(inner, Mapping) else tool).get("name"))
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", ""))
