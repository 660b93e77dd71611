"""A NeMo engine with a guard around it, by NeMo's public API alone: for IORails and LLMRails alike."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from turnguard.core.errors import ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.nemo.judging import Judging, PolicyLike, is_iorails
from turnguard.nemo.turn import without
from turnguard.runtime import sync

_OFFERED = ("generate", "generate_async", "stream_async", "check", "check_async")
_PASSED_ON = ("startup", "shutdown", "start", "stop", "explain", "update_llm")
"""Methods of an engine that answer nobody. Those that register something are passed on too."""


def guarded(engine: Any, guard: GuardLike, *, policy: PolicyLike = None) -> GuardedEngine:
    """The engine, a `Guardrails` or an `LLMRails`, with every message of every turn judged.

    `policy` names one of the guard's policies, or chooses one: `policy(messages, options) -> name | None`.
    Raises `TypeError` for what is no engine, and `ConfigError` for one that reads what nobody could judge or for an
    unknown policy; a turn raises it where the function chooses an unknown one.
    """
    missing = [name for name in _OFFERED if not callable(getattr(engine, name, None))]
    if missing:
        raise TypeError(
            f"guarded() needs a Guardrails or LLMRails of NeMo's, not {type(engine).__name__} (it has no {missing[0]})"
        )
    config = getattr(engine, "config", None)
    if not is_iorails(engine) and getattr(config, "docs", None) and not getattr(config, "passthrough", False):
        raise ConfigError(
            "the configuration has a knowledge base, whose chunks the engine writes into its prompts past guarded(): "
            "retrieve them yourself and send them as relevant_chunks in a context message, or use the rails "
            "(import_paths: [turnguard/rails])"
        )
    guard = Guard.of(guard)
    if not callable(policy):
        guard.chosen(policy)
    return GuardedEngine(engine, guard, policy)


class GuardedEngine(Judging):
    """What `guarded` returns: it offers what the engine offers, and passes on what it does not judge.

    `engine` is the engine without a guard. A method that could answer past the guard raises `NotImplementedError`.
    """

    __slots__ = ()

    # ------------------------------------------------------------ generating

    async def generate_async(
        self, prompt: str | None = None, messages: list[Any] | None = None, options: Any = None, **more: Any
    ) -> Any:
        """The engine's answer, judged; a refusal where the turn or the answer is withheld."""
        asked = _asked(prompt, messages, options, more)
        from nemoguardrails.context import streaming_handler_var

        with without(streaming_handler_var):  # called from an action of a turn that streams, it has no place there
            turn, answer = await self._called(asked, self._generate)
        return await self._answered(turn, answer)

    def generate(
        self, prompt: str | None = None, messages: list[Any] | None = None, options: Any = None, **more: Any
    ) -> Any:
        """The same from synchronous code. The input is always judged first."""
        turn = sync.run(self._judged(_asked(prompt, messages, options, more)))
        answer = self.engine.generate(**turn.call) if turn.refusal is None else None
        return sync.run(self._answered(turn, answer))

    def stream_async(
        self, prompt: str | None = None, messages: list[Any] | None = None, options: Any = None, **more: Any
    ) -> AsyncIterator[Any]:
        """The engine's chunks, each once all text up to it was judged. On a block the last chunk is the refusal."""
        asked = _asked(prompt, messages, options, more)
        self._listed(asked)
        if asked.keys().isdisjoint(("prompt", "messages", "generator")):
            nothing: AsyncIterator[Any] = self.engine.stream_async(**asked)  # which is an error, and the engine's own
            return nothing
        return self._streamed(asked, in_frames=bool(more.get("include_metadata")))

    def check(self, messages: list[Any], rail_types: Any = None, **more: Any) -> Any:
        """The same from synchronous code."""
        turn = sync.run(self._judged({"messages": messages}, checking=True))
        result = None
        if turn.refusal is None and self._has_rails(rail_types):
            result = self.engine.check(turn.call["messages"], rail_types=rail_types, **more)
        return sync.run(self._checked(turn, result, rail_types))

    # ------------------------------------------------------------ everything else

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self.engine, name)
        if not inspect.ismethod(value):
            return value
        if name not in _PASSED_ON and not name.startswith("register_"):
            return _refusing(name)

        def passed_on(*args: Any, **more: Any) -> Any:
            made = value(*args, **more)
            return self if made is self.engine else made

        return passed_on

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.engine, name, value)

    async def __aenter__(self) -> GuardedEngine:
        await self.engine.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        return await self.engine.__aexit__(*raised)

    def __repr__(self) -> str:
        return f"guarded({self.engine!r})"


def _asked(prompt: Any, messages: Any, options: Any, more: dict[str, Any]) -> dict[str, Any]:
    """What was asked, without what was not given."""
    if more.get("streaming_handler") is not None:
        from nemoguardrails.exceptions import StreamingNotSupportedError

        raise StreamingNotSupportedError(
            "streaming_handler would be given text before Turnguard has judged it: use stream_async()"
        )
    given = {"prompt": prompt, "messages": messages, "options": options, **more}
    return {name: value for name, value in given.items() if value is not None}


def _refusing(name: str) -> Callable[..., Any]:
    def refuses(*_args: Any, **_more: Any) -> Any:
        raise NotImplementedError(
            f"{name}() would answer past Turnguard: use {', '.join(_OFFERED)}, or .engine.{name}()"
        )

    return refuses
