"""What one worker serves with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from turnguard.config.document import Config
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.guard import Guard
from turnguard.service.access import Access, Caller

if TYPE_CHECKING:
    from fastapi import Request


@dataclass(slots=True)
class Service:
    """A guard, who may use it, and how many requests are at work.

    `failure` is what the moderator failed with when it was last `probed`, a moment on the monotonic clock.
    """

    guard: Guard
    settings: ServiceSettings
    access: Access
    workers: int = 1
    in_flight: int = 0
    failure: str | None = None
    probed: float = float("-inf")

    @classmethod
    def of(cls, guard: Guard, settings: ServiceSettings, workers: int = 1) -> Service:
        """Raises `ConfigError` where a key names a policy that there is not."""
        check_policies(guard, settings)
        return cls(guard, settings, Access(settings, workers), workers)


def over_http(config: Config) -> Config:
    """The configuration as it holds over HTTP, where the client writes the roles: none is trusted, unless the YAML
    itself names some.
    """
    if "trusted_roles" in config.checks.model_fields_set:
        return config
    return replace(config, checks=config.checks.model_copy(update={"trusted_roles": ()}))


def check_policies(guard: Guard, settings: ServiceSettings) -> None:
    """Refuse a key whose policy does not exist: it would fail with every request."""
    known = getattr(guard, "policies", {})
    for number, each in enumerate(settings.keys):
        if each.policy is not None and each.policy not in known:
            raise ConfigError(f"service.keys.{number}.policy: there is no policy {each.policy!r} under 'policies:'")


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    return cast("Service", request.app.state.service)


def caller_of(request: Request) -> Caller:
    """Whoever asks."""
    return cast("Caller", request.state.caller)
