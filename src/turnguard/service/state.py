"""What one worker serves with."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from turnguard.config.document import Config
from turnguard.config.service import ServiceSettings
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.guard import Guard
from turnguard.service.access import Access, Caller

if TYPE_CHECKING:
    from fastapi import Request

    from turnguard.config.settings import RecordsSettings
    from turnguard.records.store import Store


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of one service have in common: the folder of their metrics, None where there is one worker; the
    file that the console's one-time URL stands for, None where there are keys; what signs sessions without keys.
    """

    metrics: Path | None = None
    once: Path | None = None
    secret: str = field(default="", repr=False)


@dataclass(slots=True)
class Service:
    """A guard, who may use it, and how many requests are at work.

    `failure` is what the moderator failed with when it was last `probed`, a moment on the monotonic clock.
    """

    guard: Guard
    settings: ServiceSettings
    access: Access
    workers: int = 1
    shared: Shared = Shared()
    in_flight: int = 0
    failure: str | None = None
    probed: float = float("-inf")
    records: RecordsSettings | None = None
    _store: Store | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self) -> Store:
        """The database of records, for looking. Raises `ConfigError` where none is named, `StoreError` where it cannot
        be used. Blocks.
        """
        from turnguard.records.store import Store

        if self.records is None or self.records.url is None:
            raise ConfigError("no records are kept: name a database under records.url, such as sqlite:///turnguard.db")
        with self._lock:
            if self._store is None:
                self._store = Store.open(self.records)
            return self._store

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None


def over_http(config: Config) -> Config:
    """The configuration as it holds over HTTP, where the client writes the roles: none is trusted, unless the YAML
    itself names some.
    """
    if "trusted_roles" in config.checks.model_fields_set:
        return config
    return replace(config, checks=config.checks.model_copy(update={"trusted_roles": ()}))


def check_policies(known: Mapping[str, Policy], settings: ServiceSettings) -> None:
    """Refuse a key whose policy does not exist: it would fail with every request."""
    for number, each in enumerate(settings.keys):
        if each.policy is not None and each.policy not in known:
            raise ConfigError(f"service.keys.{number}.policy: there is no policy {each.policy!r} under 'policies:'")


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    return cast("Service", request.app.state.service)


def caller_of(request: Request) -> Caller:
    """Whoever asks."""
    return cast("Caller", request.state.caller)
