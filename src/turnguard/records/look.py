"""Looking at what was judged: a person does, and that they did is a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from turnguard.records.schema import records
from turnguard.records.store import Store, now

_OWNERS = ("stage", "action", "asked", "policy", "edition", "tenant", "user", "thread")


def look(store: Store, row: Any, by: str) -> Mapping[str, Any] | None:
    """The content of a record, decrypted; None where it was not kept. `by` is recorded first, as a claim.

    Raises `StoreError`, and `ConfigError` without the key that the content was written with.
    """
    if row.content is None:
        return None
    found: Mapping[str, Any] = json.loads(store.keys.decrypt(row.content))
    values = {
        **{name: getattr(row, name) for name in _OWNERS},
        "id": uuid4().hex,
        "time": now(),
        "event": "content_seen",
        "failed": False,
        "reduced": False,
        "complete": True,
        "remembered": False,
        "latency": 0.0,
        "metadata": json.dumps({"decision": row.id, "by": by}),
    }
    with store.begin() as connection:
        connection.execute(sa.insert(records), values)
    return found
