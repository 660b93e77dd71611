"""The kinds of values in `turnguard.yaml`: durations, amounts, addresses, keys.

Durations are seconds, or text such as `500ms`, `2s`, `1m`, `90d`. Pixel counts may be written `50MP`, sizes `20MB`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from turnguard.core.families import FAMILIES

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def duration(value: Any) -> Any:
    """Seconds, or text such as `500ms`, `2s`, `1m`, `90d`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|min|h|d)?\s*", value)
    if match is None:
        raise ValueError("a duration is a number of seconds or such as 500ms, 2s, 1m, 90d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def amount(suffix: str) -> BeforeValidator:
    """A number, or text such as `50M` with this suffix (a pattern)."""

    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgG]?)(?:{suffix})?\s*", value)
        if match is None:
            raise ValueError(f"an amount is a number or such as 50M{suffix}")
        return int(float(match[1]) * _SIZES[match[2].lower()])

    return BeforeValidator(parse)


def no_boolean(value: Any) -> Any:
    """Refuse true and false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")  # noqa: TRY004 - pydantic reports ValueError
    return value


Duration = Annotated[float, BeforeValidator(duration), BeforeValidator(no_boolean), Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(no_boolean), Field(ge=0.0, le=1.0)]
Pixels = Annotated[int, amount("[pP]"), BeforeValidator(no_boolean), Field(gt=0)]
Size = Annotated[int, amount("[bB]"), BeforeValidator(no_boolean), Field(gt=0)]
Count = Annotated[int, BeforeValidator(no_boolean), Field(gt=0)]


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
        raise ValueError("it holds characters that a header cannot carry")
    return SecretStr(key)


def _named_header(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("a header's name holds letters, digits and hyphens")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"the header {name} is the client's own{_OWN_HEADERS[name.lower()]}")
    return name


_OWN_HEADERS = {
    **dict.fromkeys(("host", "content-length", "content-type", "transfer-encoding", "connection"), ""),
    **dict.fromkeys(("accept", "accept-encoding", "user-agent", "x-request-id"), ""),
    "authorization": ": put the key into api_key",
}


def _proxy(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://\S+", value.get_secret_value()):
        raise ValueError("a proxy begins with http:// or https:// and names a host, such as http://proxy.internal:3128")
    return value


def known_family(name: str) -> str:
    """A model family, or the sandbox's rules."""
    if name in (*FAMILIES, "sandbox"):
        return name
    near = get_close_matches(name, FAMILIES, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown family {name!r}, did you mean {near!r}? One of: {', '.join(FAMILIES)}")


ApiKey = Annotated[SecretStr, AfterValidator(_header)]
HeaderName = Annotated[str, AfterValidator(_named_header)]
Proxy = Annotated[SecretStr, AfterValidator(_proxy)]
BaseUrl = Annotated[str, AfterValidator(_url)]
