"""A decision as the tracing tools show a guardrail. Without content, and without a cause that a server wrote.

OpenInference (Phoenix) knows a guardrail by `openinference.span.kind`, Langfuse by `langfuse.observation.type`; both
show `output.value`, and both take `user.id` and `session.id`. See
https://arize-ai.github.io/openinference/spec/general/span-kinds.html and
https://langfuse.com/integrations/native/opentelemetry#property-mapping.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnguard.core.decision import Decision

KIND = {"openinference.span.kind": "GUARDRAIL", "langfuse.observation.type": "guardrail"}
"""What both tools know a guardrail by."""

_NAMED = {"user": "user.id", "thread": "session.id"}
"""Metadata that both tools have a field for."""


def shown(decision: Decision, rules: tuple[str, ...]) -> dict[str, str]:
    """The result of a check. Langfuse's level is `ERROR` where the moderator failed, `WARNING` for all but an allow."""
    result = {"action": decision.action, "categories": decision.categories, "rules": rules}
    level = "ERROR" if decision.failed else "DEFAULT" if decision.action == "allow" else "WARNING"
    why = "the moderator failed" if decision.failed else ", ".join(decision.categories)
    return {
        "output.value": json.dumps(result),
        "output.mime_type": "application/json",
        "langfuse.observation.level": level,
        "langfuse.observation.status_message": f"{decision.action}: {why}" if why else decision.action,
    }


def owner(metadata: Mapping[str, str]) -> dict[str, str]:
    """Whom a step belongs to; `metadata` holds only what the settings ask for."""
    if not metadata:
        return {}
    named = {_NAMED[name]: value for name, value in metadata.items() if name in _NAMED}
    listed = {f"langfuse.observation.metadata.{name}": value for name, value in metadata.items()}
    return {**named, **listed, "metadata": json.dumps(metadata)}
