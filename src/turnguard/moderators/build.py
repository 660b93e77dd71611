"""Settings → the chain of moderators that carries them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from turnguard.config.settings import (
    EndpointSettings,
    FallbackSettings,
    MemorySettings,
    ModeratorSettings,
    SecondLookSettings,
)
from turnguard.core.errors import ConfigError
from turnguard.core.families import FAMILIES, able
from turnguard.core.verdict import Label
from turnguard.moderators.base import Moderator, Untold
from turnguard.moderators.endpoints import Endpoint, Endpoints
from turnguard.moderators.fallback import Fallback
from turnguard.moderators.gate import Gated
from turnguard.moderators.memory import Remembering
from turnguard.moderators.second_look import SecondLook

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from turnguard.moderators.memory_shared import SharedMemory


def moderator(
    settings: ModeratorSettings,
    client: AsyncOpenAI | None = None,
    folder: Path = Path(),
    memory: MemorySettings | None = None,
) -> Moderator:
    """Memory, then the gate, then the endpoints; a fallback beside it, with a memory of its own.

    The paths of certificates count from `folder`.
    """
    asked: Moderator
    if client is not None and settings.checkpoint is not None:
        raise ConfigError("moderator.checkpoint: a client of your own asks a server; give one of the two")
    if client is not None:
        asked = _own_client(client, settings)
    elif not settings.base_urls and settings.checkpoint is None:
        raise ConfigError(
            "moderator.base_url: no moderator to ask; give its URL such as http://localhost:8000/v1, "
            "or set TURNGUARD_BASE_URL"
        )
    else:
        asked = _endpoints(settings, folder, settings.attempt_timeout)
    remembered = _gated(asked, settings, memory)
    first: Moderator = remembered
    if settings.fallback is not None:
        other: Moderator = remembering(_second(settings.fallback, folder), memory, remembered.shared)
        if not settings.fallback.may_allow:
            other = Untold(other)  # one that may allow must know all that the policy forbids, or fail
        first = Fallback(first, other, may_allow=settings.fallback.may_allow)
    again = settings.second_look
    if again is None:
        return first
    takes_own = FAMILIES[again.family].own_categories
    if takes_own and settings.family not in able("own_categories"):
        first = Untold(first)
    # with a memory and a gate of its own: its model may be another, and the same one reasons
    second = _gated(_asked_again(again, settings, client, folder), settings, memory, remembered.shared)
    return SecondLook(
        first,
        second if takes_own else Untold(second),
        between=again.between,
        unsafe=again.unsafe,
        decides=again.decides,
        takes_own=takes_own,
    )


def _asked_again(
    again: SecondLookSettings, settings: ModeratorSettings, client: AsyncOpenAI | None, folder: Path
) -> Moderator:
    if client is not None and (again.base_url, again.checkpoint) == (settings.base_url, settings.checkpoint):
        return _own_client(client, again)
    if not again.base_urls and again.checkpoint is None:
        raise ConfigError("moderator.second_look.base_url: no model to ask; give its URL")
    return _endpoints(again, folder, settings.attempt_timeout)


def _own_client(client: AsyncOpenAI, settings: EndpointSettings) -> Endpoints:
    from turnguard.moderators.openai import OpenAIModerator

    return Endpoints([Endpoint(OpenAIModerator(client, **_asked(settings)), settings.model)])


def _gated(
    inner: Moderator,
    settings: ModeratorSettings,
    memory: MemorySettings | None,
    shared: SharedMemory | None = None,
) -> Remembering:
    return remembering(Gated(inner, settings.max_in_flight, settings.max_waiting), memory, shared)


def remembering(
    inner: Moderator, settings: MemorySettings | None = None, shared: SharedMemory | None = None
) -> Remembering:
    """A memory around `inner`, with the shared one behind it where the settings name one."""
    settings = settings or MemorySettings()
    if shared is None and settings.url is not None:
        from turnguard.moderators.memory_shared import SharedMemory

        shared = SharedMemory(settings.url.get_secret_value(), settings.key.get_secret_value(), settings.ttl)
    return Remembering(inner, settings.entries, settings.ttl, shared=shared)


class _Asked(TypedDict):
    model: str
    family: str
    categories: bool
    reasoning: bool
    controversial: Label


def _asked(settings: EndpointSettings) -> _Asked:
    return {
        "model": settings.model,
        "family": settings.family,
        "categories": settings.categories == "always",
        "reasoning": settings.reasoning == "always",
        "controversial": settings.controversial,
    }


def _second(settings: FallbackSettings, folder: Path) -> Moderator:
    if settings.family == "sandbox":
        from turnguard.moderators.rules.moderator import SandboxModerator

        return SandboxModerator()
    return _endpoints(settings, folder)


def _endpoints(settings: EndpointSettings, folder: Path, attempt_timeout: float | None = None) -> Moderator:
    if settings.checkpoint is not None:
        return _local(settings, settings.checkpoint)
    from turnguard.moderators.vllm import VLLMModerator

    try:
        clients = [VLLMModerator(url, **asking(settings, folder)) for url in settings.base_urls]
    except ValueError as error:
        raise ConfigError(f"moderator.base_url: {error}") from None
    return Endpoints([Endpoint(client, settings.model, client.base_url) for client in clients], attempt_timeout)


def asking(settings: EndpointSettings, folder: Path) -> dict[str, Any]:
    """How each replica is asked: what `VLLMModerator` takes beside its URL."""
    from turnguard.moderators.gateway import gateway

    pool = gateway(settings, folder)
    return {
        **_asked(settings),
        "api_key": settings.api_key.get_secret_value(),
        "headers": {name: value.get_secret_value() for name, value in settings.headers.items()},
        **({} if pool is None else {"pool": pool}),
    }


def _local(settings: EndpointSettings, checkpoint: str) -> Moderator:
    """Nothing to ask again and no other replica: a model in this process that fails, fails again."""
    from turnguard.moderators.local import LocalModerator

    local = LocalModerator(checkpoint, **_asked(settings))
    return Endpoints([Endpoint(local, settings.model)], attempts=1)
