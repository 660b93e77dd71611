"""Who asks: a key's role, tenant, policy and rate. Keys are compared in constant time and never logged."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.datastructures import Headers

from turnguard.config.service import KeySettings, Role, ServiceSettings
from turnguard.service.errors import Refusal

Right = Literal["open", "check", "read", "review"]
GRANTS: Mapping[Role, frozenset[Right]] = {
    "check": frozenset({"check"}),
    "read": frozenset({"read"}),
    "review": frozenset({"read", "review"}),
    "admin": frozenset({"check", "read", "review"}),
}
NEEDS: tuple[tuple[str, Right], ...] = (
    ("/v1/reviews", "review"),
    ("/v1/", "check"),
    ("/beta/", "check"),
    ("/metrics", "read"),
    ("/health/", "open"),
    ("/openapi.json", "open"),
    ("/console", "open"),  # it has sessions of its own
)
"""What a path asks for, the first that it begins with; any other path needs a key of whatever role."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a key. `name` is a digest of the key, for logs and records; empty where no keys are needed."""

    role: Role
    name: str = ""
    tenant: str | None = None
    policy: str | None = None

    def may(self, right: Right) -> bool:
        """Whether the role includes this right."""
        return right == "open" or right in GRANTS[self.role]

    def metadata(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """What a step is recorded with: the client's own words, except for what the key decides."""
        found = dict(given or {})
        if self.tenant is not None:
            found["tenant"] = self.tenant
        found.pop("key", None)
        if self.name:
            found["key"] = self.name
        return found


@dataclass(slots=True)
class _Bucket:
    """A second's worth of requests, refilled at the rate."""

    rate: float
    left: float
    at: float = field(default_factory=time.monotonic)

    def wait(self) -> float:
        """Take one; seconds until there is another where there is none."""
        now = time.monotonic()
        self.left = min(max(1.0, self.rate), self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1.0:
            return (1.0 - self.left) / self.rate
        self.left -= 1.0
        return 0.0


LOCAL = Caller("check")
"""Whoever reaches a service without keys: this machine's own programs."""


class Access:
    """The keys of one worker. `workers` share a key's rate evenly."""

    def __init__(self, settings: ServiceSettings, workers: int = 1) -> None:
        # looked up by a digest that nobody outside can compute: the time that it takes tells nothing about a key
        self._secret = os.urandom(32)
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self._by_name: dict[str, tuple[KeySettings, Caller]] = {}
        self._buckets: dict[str, _Bucket] = {}
        self.open = not settings.keys
        for each in settings.keys:
            key = each.key.get_secret_value().encode()
            caller = Caller(each.role, name_of(key), each.tenant, each.policy)
            self._callers[self._digest(key)] = (key, caller)
            self._by_name[caller.name] = (each, caller)
            if each.rate is not None:
                rate = each.rate / workers
                self._buckets[caller.name] = _Bucket(rate, max(1.0, rate))

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, "sha256")

    def find(self, key: str) -> Caller | None:
        """Whoever holds this key."""
        given = key.encode("utf-8", "surrogateescape")
        known, caller = self._callers.get(self._digest(given), (b"", None))
        return caller if hmac.compare_digest(known, given) else None

    def named(self, name: str) -> tuple[str, Caller] | None:
        """The key and its holder by the key's name, for the console's sessions."""
        found = self._by_name.get(name)
        return None if found is None else (found[0].key.get_secret_value(), found[1])

    def admit(self, path: str, headers: Headers) -> Caller:
        """Whoever asks for `path`. Raises `Refusal`: 401 without a known key, 403 without the right, 429 beyond the
        rate.
        """
        needed = next((right for start, right in NEEDS if path.startswith(start)), None)
        if needed == "open":
            return LOCAL
        if self.open:
            return self._local(needed, headers)
        caller = self.find(_presented(headers))
        if caller is None:
            raise Refusal(
                401,
                "a known key is needed, as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
                {"www-authenticate": "Bearer"},
            )
        if needed is not None and not caller.may(needed):
            raise Refusal(403, f"this key has the role {caller.role}, which does not include {needed}")
        bucket = self._buckets.get(caller.name)
        if bucket is not None and (seconds := bucket.wait()):
            raise Refusal(429, "more requests than this key's rate", {"retry-after": str(max(1, round(seconds)))})
        return caller

    def _local(self, needed: Right | None, headers: Headers) -> Caller:
        # a page of another site can send requests here by a name of its own; its Host gives it away
        if not is_loopback(host_of(headers)):
            raise Refusal(421, "without keys the service answers to localhost only")
        if needed == "review":
            raise Refusal(403, "reviews are answered with a key of role review, in the console or on the command line")
        return LOCAL


def name_of(key: bytes) -> str:
    """A key's name in logs and records: it tells keys apart and none can be found from it."""
    return hashlib.blake2b(key, digest_size=4, person=b"turnguard key").hexdigest()


def _presented(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def host_of(headers: Headers) -> str:
    """The name in `Host`, without its port."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
