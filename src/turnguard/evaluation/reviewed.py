"""Steps that a person has answered → labelled rows, as `eval` and `calibrate` read them.

An approved step is `safe` and a rejected one `unsafe`: a label of what may pass under this policy.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from turnguard.core.review import Review
from turnguard.core.step import Document, Image, Part, Text, ToolCall, ToolDefinition
from turnguard.records import Reviews
from turnguard.records.held import Held

LABELS = {"approved": "safe", "rejected": "unsafe"}


async def labelled(reviews: Reviews, *, by: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The rows of everything that was answered, and how many steps a row cannot hold. That `by` looked is recorded."""
    rows: list[dict[str, Any]] = []
    left_out = 0
    for status in ("approved", "rejected"):
        for review in await reviews.find(status, limit=limit):
            answered, held = await reviews.show(review.id, by=by)
            found = list(rows_of(answered, held))
            rows += found
            left_out += not found
    return rows, left_out


def rows_of(review: Review, held: Held) -> Iterator[dict[str, Any]]:
    """The row of a review; one for each definition of a tool; none where a part fits in no row."""
    parts = held.parts
    texts = [text for part in parts if (text := _text(part)) is not None]
    images = [_uri(part) for part in parts if isinstance(part, Image)]
    documents = [_uri(part) for part in parts if isinstance(part, Document)]
    apart = held.stage == "tools"
    alone = held.stage in ("tools", "retrieval", "tool_call") and (images or documents)
    if len(texts) + len(images) + len(documents) < len(parts) or alone or (documents and held.stage == "output"):
        return
    for number, text in enumerate(texts if apart else ["\n".join(texts)]):
        row: dict[str, Any] = {
            "id": f"{review.id}-{number}" if apart and len(texts) > 1 else review.id,
            "text": text,
            "stage": held.stage,
            "label": LABELS[review.status],
            "categories": list(review.categories) if review.status == "rejected" else [],
            "images": images,
            "documents": documents,
            "prompt": held.prompt,
            "language": held.language,
            "tool": held.tool if held.stage != "tool_call" else None,
        }
        yield {name: value for name, value in row.items() if value not in (None, [])}


def write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows as Parquet or JSON lines, by the file's ending; readable by its owner alone."""
    out.touch(mode=0o600)
    if out.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(dict.fromkeys(name for row in rows for name in row))
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), out)
        return
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")


def _text(part: Part) -> str | None:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, ToolCall):
        return json.dumps({"name": part.name, "arguments": part.arguments})
    return json.dumps(dict(part.definition)) if isinstance(part, ToolDefinition) else None


def _uri(part: Image | Document) -> str:
    if isinstance(part.source, bytes):
        kind = part.media_type or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(part.source).decode('ascii')}"
    return str(part.source)
