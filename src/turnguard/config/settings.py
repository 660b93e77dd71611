"""The shape of `turnguard.yaml`, except for the rules under `policy:`. Defaults and units stand here, once.

Durations are seconds, or text such as `500ms`, `2s`, `1m`. Pixel counts may be written `50MP`, sizes `20MB`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from turnguard.core.validate import Section

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|min|h)?\s*", value)
    if match is None:
        raise ValueError("a duration is a number of seconds or such as 500ms, 2s, 1m")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _amount(suffix: str) -> BeforeValidator:
    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgG]?)(?:{suffix})?\s*", value)
        if match is None:
            raise ValueError(f"an amount is a number or such as 50M{suffix}")
        return int(float(match[1]) * _SIZES[match[2].lower()])

    return BeforeValidator(parse)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")  # noqa: TRY004 - pydantic reports ValueError
    return value


Duration = Annotated[float, BeforeValidator(_duration), BeforeValidator(_no_boolean), Field(gt=0, allow_inf_nan=False)]
Pixels = Annotated[int, _amount("[pP]"), BeforeValidator(_no_boolean), Field(gt=0)]
Size = Annotated[int, _amount("[bB]"), BeforeValidator(_no_boolean), Field(gt=0)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(gt=0)]


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", value):
        raise ValueError(
            "a base_url begins with http:// or https:// and names a host, such as http://localhost:8000/v1"
        )
    if "@" in value.split("//", 1)[1].split("/", 1)[0]:
        raise ValueError("a base_url holds no credentials: it is shown in messages; put the key into api_key")
    return value.rstrip("/")


def _header(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()  # a key read from a file brings its line break along
    if not key.isascii() or not key.isprintable():
        raise ValueError("the api_key holds characters that a header cannot carry")
    return SecretStr(key)


FAMILIES = ("nemotron-3",)
"""Model families, as `turnguard.moderators.families` declares them."""


def _family(name: str) -> str:
    if name in (*FAMILIES, "sandbox"):
        return name
    near = get_close_matches(name, FAMILIES, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown family {name!r}, did you mean {near!r}? One of: {', '.join(FAMILIES)}")


ApiKey = Annotated[SecretStr, AfterValidator(_header)]
BaseUrl = Annotated[str, AfterValidator(_url)]


class EndpointSettings(Section):
    """One moderator endpoint, several replicas of one, or a checkpoint that is judged with in this process.

    `checkpoint` is a directory or `owner/name` on the hub, and takes the place of `base_url`.
    """

    base_url: BaseUrl | list[BaseUrl] | None = None
    checkpoint: Annotated[str, Field(min_length=1)] | None = None
    model: str = "nemotron_moderator"
    family: Annotated[str, AfterValidator(_family)] = "nemotron-3"
    api_key: ApiKey = SecretStr("")
    categories: Literal["always", "never"] = "always"

    @model_validator(mode="after")
    def _one_place(self) -> EndpointSettings:
        if self.checkpoint is not None and self.base_urls:
            raise ValueError("the model is either behind a base_url or a checkpoint in this process: give one of them")
        return self

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The replicas, in the order given; empty where none was."""
        if self.base_url is None:
            return ()
        return (self.base_url,) if isinstance(self.base_url, str) else tuple(self.base_url)


class FallbackSettings(EndpointSettings):
    """A second moderator. `block_only` may block but never allow; the in-process `sandbox` rules are always that."""

    authority: Literal["full", "block_only"] = "full"

    @model_validator(mode="after")
    def _somewhere(self) -> FallbackSettings:
        if self.family == "sandbox" and "authority" in self.model_fields_set and self.authority == "full":
            raise ValueError("the sandbox rules may block but never allow: authority must be block_only")
        if self.family != "sandbox" and not self.base_urls and self.checkpoint is None:
            raise ValueError("a fallback needs a base_url, a checkpoint, or family: sandbox")
        return self

    @property
    def may_allow(self) -> bool:
        """Whether a safe verdict of the fallback counts."""
        return self.authority == "full" and self.family != "sandbox"


class ModeratorSettings(EndpointSettings):
    """The moderator, and how long and how much it may be asked."""

    deadline: Duration = 2.0
    attempt_timeout: Duration | None = None
    max_input_tokens: Annotated[Count, Field(ge=64)] = 2000
    max_windows: Count = 32
    max_in_flight: Count = 64
    max_waiting: Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)] = 1024
    fallback: FallbackSettings | None = None


class MediaSettings(Section):
    """How pictures, documents and URLs are read."""

    deadline: Duration = 15.0
    max_bytes: Size = 50_000_000
    max_pixels: Pixels = 50_000_000
    max_frames: Count = 32
    max_requests: Count = 64
    tiles: Literal["auto", "never"] = "auto"
    allow_urls: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    max_urls: Count = 16


class StreamSettings(Section):
    """How a stream is judged: `window` new characters per check; text waits at most `max_delay` for its window."""

    window: Count = 200
    max_delay: Duration = 1.0
    keep_shown_prefix: bool = False


class ChecksSettings(Section):
    """Which steps are judged together, and when. `tools`: which definitions of tools are judged; `dynamic` leaves out
    those that the application itself defines.
    """

    input: Literal["before", "beside"] = "before"
    history: Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)] = 0
    trusted_roles: tuple[str, ...] = ("system", "developer")
    tools: Literal["dynamic", "all", "none"] = "dynamic"


class AuditSettings(Section):
    """One JSON line per decision, to `path`; `content: true` adds the content itself.

    `key` keys the content digests: with the same key equal content has equal digests across restarts and machines.
    Without one a key is made at random for each guard.
    """

    path: str | None = None
    content: bool = False
    key: SecretStr = SecretStr("")
    max_bytes: Size = 100_000_000
    backups: Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)] = 5
