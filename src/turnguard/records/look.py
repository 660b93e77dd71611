"""Looking at what was judged: a person does, and that they did is a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from turnguard.records.row import of_event
from turnguard.records.schema import records
from turnguard.records.store import Store, now


def look(store: Store, row: Any, by: str) -> Mapping[str, Any] | None:
    """The content of a record, decrypted: `parts`, `prompt` and `history` as they were judged, and `reasoning`, a list
    of `parts`, `detail`, `model` and `text` for each verdict that came with any. What is empty is absent. None where no
    content was kept. That `by` looked is recorded first, as a claim.

    Raises `StoreError`, and `ConfigError` without the key that the content was written with.
    """
    if row.content is None:
        return None
    found: Mapping[str, Any] = json.loads(store.keys.decrypt(row.content))
    with store.begin() as connection:
        seen = of_event("content_seen", now(), {"decision": row.id, "by": by}, row._mapping)
        connection.execute(sa.insert(records), seen)
    return found
