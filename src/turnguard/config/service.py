"""The shape of `service:` in the YAML: where `turnguard serve` listens, who may ask, and how much."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from turnguard.config.values import Count, Duration, Size
from turnguard.core.validate import Section

Role = Literal["check", "read", "review", "admin"]
SHORTEST_KEY = 16

_PER = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _rate(value: Any) -> Any:
    """`100/s` as requests a second."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|min|h)\s*", value)
    if match is None:
        raise ValueError("a rate is such as 100/s, 600/m or 5000/h")
    return float(match[1]) / _PER[match[2]]


def _long_enough(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()  # a key read from a file brings its line break along
    if len(text) < SHORTEST_KEY:
        raise ValueError(f"a key has at least {SHORTEST_KEY} characters; 'openssl rand -hex 24' makes one")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the key holds characters that a header cannot carry")
    return SecretStr(text)


ServiceKey = Annotated[SecretStr, AfterValidator(_long_enough)]
Rate = Annotated[float, BeforeValidator(_rate), Field(gt=0, allow_inf_nan=False)]


class KeySettings(Section):
    """One key, what it may do, and what it decides for its holder."""

    key: ServiceKey = Field(description="The secret, at least 16 characters. Never shown again.")
    role: Role = Field(
        "check",
        description="check: ask; read: see decisions without content; review: see content and answer; admin: all.",
    )
    policy: str | None = Field(None, description="The named policy of every check with this key.")
    tenant: str | None = Field(
        None, max_length=200, description="The tenant of every check with this key, and whose records it sees."
    )
    rate: Rate | None = Field(None, description="Most checks on average, such as 100/s; a second's worth at once.")


class LimitSettings(Section):
    """What one client may ask of a worker."""

    body: Size = Field(64_000_000, description="Bytes of one request.")
    read: Duration = Field(30.0, description="A client has this long to send a request.")
    in_flight: Count = Field(1024, description="Requests at once, per worker; further ones get 503.")
    stream: Duration = Field(600.0, description="The longest stream.")


class ServiceSettings(Section):
    """`turnguard serve`. Without keys it listens on loopback only."""

    host: str = Field("127.0.0.1", description="The address to listen on. Elsewhere than on loopback keys are needed.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="The port; 0 takes a free one.")
    workers: Count = Field(1, description="Processes that serve.")
    keys: tuple[KeySettings, ...] = Field((), description="Who may ask.")
    hosts: tuple[str, ...] = Field(
        (), description="Names under which a browser may reach the console; empty: any, or loopback's without keys."
    )
    limits: LimitSettings = Field(LimitSettings(), description="How much one request and one client may ask.")

    @model_validator(mode="after")
    def _no_key_twice(self) -> ServiceSettings:
        keys = [each.key.get_secret_value() for each in self.keys]
        if len(set(keys)) < len(keys):
            raise ValueError("two entries have the same key: whose request it was could not be told")
        return self
