"""Settings → the chain of moderators that carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnguard.errors import ConfigError
from turnguard.moderators.base import Moderator
from turnguard.moderators.fallback import Fallback
from turnguard.moderators.gate import Gated
from turnguard.moderators.memory import Remembering
from turnguard.moderators.replicas import Replicas
from turnguard.moderators.retrying import Retrying
from turnguard.settings import EndpointSettings, FallbackSettings, ModeratorSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def moderator(settings: ModeratorSettings, client: AsyncOpenAI | None = None) -> Moderator:
    """Memory, then the gate, then replicas with retries; a fallback beside it, with a memory of its own."""
    asked: Moderator
    if client is not None:
        from turnguard.moderators.openai import OpenAIModerator

        categories = settings.categories == "always"
        asked = Retrying(OpenAIModerator(client, model=settings.model, family=settings.family, categories=categories))
    else:
        if not settings.base_urls:
            raise ConfigError(
                "moderator.base_url: no moderator to ask; give its URL such as http://localhost:8000/v1, "
                "or set TURNGUARD_BASE_URL"
            )
        asked = _endpoints(settings, settings.attempt_timeout)
    first = Remembering(Gated(asked, settings.max_in_flight, settings.max_waiting))
    if settings.fallback is None:
        return first
    return Fallback(first, Remembering(_second(settings.fallback)), may_allow=settings.fallback.may_allow)


def _second(settings: FallbackSettings) -> Moderator:
    if settings.family == "sandbox":
        from turnguard.moderators.sandboxed import SandboxModerator

        return SandboxModerator()
    return _endpoints(settings, None)


def _endpoints(settings: EndpointSettings, attempt_timeout: float | None) -> Moderator:
    from turnguard.moderators.vllm import VLLMModerator

    key = settings.api_key.get_secret_value()
    endpoints = [
        Retrying(
            VLLMModerator(
                url,
                model=settings.model,
                family=settings.family,
                api_key=key,
                categories=settings.categories == "always",
            )
        )
        for url in settings.base_urls
    ]
    if len(endpoints) == 1 and attempt_timeout is None:
        return endpoints[0]
    return Replicas(endpoints, attempt_timeout)
