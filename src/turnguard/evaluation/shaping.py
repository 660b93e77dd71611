"""Which settings shape a verdict and a record. A run goes on only where they are the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from turnguard.config.document import Config

PLACE_AND_PACE = frozenset(
    {
        "api_key",
        "attempt_timeout",
        "base_url",
        "deadline",
        "fallback",
        "headers",
        "max_in_flight",
        "max_waiting",
        "proxy",
        "tls",
    }
)
"""Settings of a moderator that say where it is and how fast it may be asked. All others shape a verdict."""


def settings_digest(config: Config) -> str:
    """Over what shapes a record: model, family, limits, media and policy; not where the server is, nor how long it
    may take.
    """
    return hashlib.sha256(json.dumps({**shaping(config), "policy": config.policy.digest}).encode()).hexdigest()


def shaping(config: Config) -> dict[str, Any]:
    """What shapes a verdict."""
    fallback = config.moderator.fallback
    return {
        "moderator": config.moderator.model_dump(mode="json", exclude={**_excluded(), "second_look": _excluded()}),
        "fallback": fallback.model_dump(mode="json", exclude=_excluded()) if fallback else None,
        "media": config.media.model_dump(mode="json", exclude={"deadline"}),
    }


def _excluded() -> dict[str, Any]:
    return dict.fromkeys(PLACE_AND_PACE, True)
