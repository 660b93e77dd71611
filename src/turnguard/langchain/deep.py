"""A deep agent (`deepagents`) under guard: the agent, its subagents, its summaries and its memory files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from deepagents import create_deep_agent
from deepagents.backends import StateBackend
from deepagents.middleware.memory import MemoryMiddleware
from deepagents.middleware.subagents import GENERAL_PURPOSE_SUBAGENT
from deepagents.middleware.summarization import create_summarization_middleware
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig

from turnguard.core.errors import ConfigError
from turnguard.core.step import Step
from turnguard.guard import Guard, GuardLike
from turnguard.langchain import notices
from turnguard.langchain.drive import Steps, adrive, drive
from turnguard.langchain.extension import Extension, extend
from turnguard.langchain.middleware import TurnguardMiddleware
from turnguard.langchain.model import guard_model


def guard_deep_agent(guard: GuardLike, **arguments: Any) -> Any:
    """`create_deep_agent(**arguments)`, guarded as a whole.

    The agent, its `general-purpose` subagent and each declared subagent get a `TurnguardMiddleware`; what summarises a
    conversation is a guarded model; memory files are judged when they are loaded, whatever roles are trusted. Files
    are written and read by tools, and judged as their arguments and results.

    A subagent that is a graph of your own (`runnable`) or runs elsewhere (`graph_id`) is not changed: what it gives
    back is judged as the result of the tool `task`. Raises `ConfigError` where `model` is missing.
    """
    settled = Guard.of(guard)
    model = arguments.get("model")
    if model is None:
        raise ConfigError("guard_deep_agent needs a model: pass model=... as a name or a chat model")
    arguments["model"] = model = _model(model)
    backend = arguments["backend"] = arguments.get("backend") or StateBackend()
    memory = arguments.get("memory")
    own = [_memory(settled, backend, memory)] if memory is not None else []
    given = list(arguments.get("middleware") or ())
    arguments["middleware"] = _unique([*_guarded(settled, model, backend), *own], given)
    specs = list(arguments.get("subagents") or ())
    if not any(spec.get("name") == GENERAL_PURPOSE_SUBAGENT["name"] for spec in specs):
        skills = arguments.get("skills")
        specs.append({**GENERAL_PURPOSE_SUBAGENT, **({"skills": skills} if skills else {})})
    arguments["subagents"] = [_subagent(settled, spec, model, backend) for spec in specs]
    middleware = next(one for one in arguments["middleware"] if isinstance(one, TurnguardMiddleware))
    return extend(create_deep_agent(**arguments), _JudgedInput, middleware)


class _JudgedInput(Extension):
    """The agent's graph. Its messages are stored as they are given, before any node runs: they are judged before."""

    __slots__ = ()

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        admitted = drive(self._admitted(input, config, kwargs.get("context")))
        yield from super().stream(admitted, config, **kwargs)  # type: ignore[misc]

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002
        admitted = await adrive(self._admitted(input, config, kwargs.get("context")))
        async with aclosing(super().astream(admitted, config, **kwargs)) as parts:  # type: ignore[misc]
            async for part in parts:
                yield part

    def copy(self, update: Any = None) -> Any:
        return extend(self._plain.copy(update), _JudgedInput, self._own)

    def _admitted(self, given: Any, config: Any, context: Any) -> Steps[Any]:
        messages = given.get("messages") if isinstance(given, dict) else None
        if not messages:
            return given
        run = self._own.run(SimpleNamespace(context=context), config or {})
        listed = convert_to_messages(messages if isinstance(messages, list) else [messages])
        admitted: list[BaseMessage] = yield run.admitted(listed)
        return {**given, "messages": admitted}


def _model(model: Any) -> BaseChatModel:
    return init_chat_model(model) if isinstance(model, str) else model


def _guarded(guard: Guard, model: Any, backend: Any) -> list[Any]:
    """Our middleware, and in the place of deepagents' own one that summarises with a guarded model."""
    return [TurnguardMiddleware(guard), create_summarization_middleware(guard_model(model, guard), backend)]


def _subagent(guard: Guard, spec: Mapping[str, Any], model: Any, backend: Any) -> Any:
    if "runnable" in spec or "graph_id" in spec:
        return spec
    own = _model(spec.get("model") or model)
    middleware = _unique(_guarded(guard, own, backend), list(spec.get("middleware") or ()))
    return {**spec, "model": own, "middleware": middleware}


def _unique(ours: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Ours before those that were given; one of the same name that was given stays instead."""
    names = {one.name for one in given}
    return [*(one for one in ours if one.name not in names), *given]


def _memory(guard: Guard, backend: Any, sources: list[str]) -> GuardedMemory:
    made = GuardedMemory(backend=backend, sources=sources, add_cache_control=True)
    made.guard = guard
    return made


class GuardedMemory(MemoryMiddleware):  # type: ignore[misc]
    """deepagents' memory. A file that is withheld leaves the notice."""

    guard: Guard

    @property
    def name(self) -> str:
        """The name of what it replaces."""
        return str(MemoryMiddleware.__name__)

    def before_agent(self, state: Any, runtime: Any, config: RunnableConfig) -> Any:
        """Load the files and judge them."""
        return drive(self._judged(super().before_agent(state, runtime, config)))

    async def abefore_agent(self, state: Any, runtime: Any, config: RunnableConfig) -> Any:
        """Load the files and judge them."""
        return await adrive(self._judged(await super().abefore_agent(state, runtime, config)))

    def _judged(self, update: Any) -> Steps[Any]:
        contents = (update or {}).get("memory_contents")
        if not contents:
            return update
        texts = yield self._texts(contents)
        return {**update, "memory_contents": texts}

    async def _texts(self, contents: Mapping[str, str]) -> dict[str, str]:
        async def text(said: str) -> str:
            if not said.strip():
                return said
            decision = await self.guard.acheck(Step.tool_result("memory", said), hold=False)
            if decision.withheld:
                return notices.result_notice(self.guard, decision)
            return decision.text if decision.action == "rewrite" else said

        texts = await asyncio.gather(*map(text, contents.values()))
        return dict(zip(contents, texts, strict=True))
