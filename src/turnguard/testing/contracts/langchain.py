"""The contract's model and tools in LangChain's own form, for adapters of LangChain and LangGraph agents."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from turnguard.testing.contracts.scripts import Said, ScriptedModel, ScriptedTool

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import BaseTool


def chat_model(script: ScriptedModel) -> BaseChatModel:
    """A chat model that says the script, whole or streamed; needs langchain-core."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

    class Scripted(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "turnguard-contract"

        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
            return self

        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=_message(script.next(messages)))])

        def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            yield from _chunks(script.next(messages))

        async def _astream(
            self, messages: list[BaseMessage], *args: Any, **kwargs: Any
        ) -> AsyncIterator[ChatGenerationChunk]:
            for chunk in _chunks(script.next(messages)):
                yield chunk

    def _chunks(said: Said) -> Iterator[ChatGenerationChunk]:
        if said.calls:
            chunk = AIMessageChunk(content="", tool_calls=_message(said).tool_calls)
            yield ChatGenerationChunk(message=chunk)
        for piece in said.pieces():
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))

    return Scripted()


def tools(scripted: Sequence[ScriptedTool]) -> list[BaseTool]:
    """The tools; a picture becomes an `image_url` block with a `data:` URI."""
    from langchain_core.tools import StructuredTool

    def made(tool: ScriptedTool) -> BaseTool:
        def run(query: str) -> Any:
            result = tool.run({"query": query})
            if result.image is None:
                return result.text
            uri = "data:image/png;base64," + base64.b64encode(result.image).decode()
            return [{"type": "text", "text": result.text}, {"type": "image_url", "image_url": {"url": uri}}]

        return StructuredTool.from_function(run, name=tool.name, description=tool.description)

    return [made(tool) for tool in scripted]


def _message(said: Said) -> AIMessage:
    from langchain_core.messages import AIMessage

    calls = [{"name": call.name, "args": dict(call.arguments), "id": call.id} for call in said.calls]
    return AIMessage(content=said.text, tool_calls=calls)
