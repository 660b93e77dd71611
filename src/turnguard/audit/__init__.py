"""One JSON line per decision: enough to explain it, and to decide again under another policy. No content unless asked
for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import logging.handlers
import os
import queue
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard.content import Part, Step, Text, ToolCall
from turnguard.settings import AuditSettings

if TYPE_CHECKING:
    from turnguard.decision import Decision

QUEUE = 10_000
"""Lines that wait for the disk. Beyond that a line is dropped and counted: a slow disk never delays a decision."""

log = logging.getLogger("turnguard.audit")


class Audit:
    """Writes decisions to a rotated file from a thread of its own. A failing disk is logged, never raised."""

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._secret = os.urandom(32)
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.dropped = 0

    def record(self, step: Step, decision: Decision) -> None:
        """Queue one line; returns at once."""
        if self._settings.path is None:
            return
        if self._queue.qsize() >= QUEUE:
            self.dropped += 1
            return
        self._queue.put(json.dumps(self._line(step, decision), ensure_ascii=False, default=str))
        self._start()

    def close(self) -> None:
        """Write what is queued and stop."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(5.0)

    def digest(self, part: Part) -> str | None:
        """A keyed digest of a text part's content: equal content is found again and none can be guessed from it."""
        if isinstance(part, Text):
            data = part.text.encode("utf-8", "surrogatepass")
        elif isinstance(part, ToolCall):
            data = json.dumps([part.name, part.arguments], default=str, sort_keys=True).encode()
        else:
            source = getattr(part, "source", None)
            if isinstance(source, str):
                data = source.encode()
            elif isinstance(source, bytes):
                data = source
            else:
                return None
        return hashlib.blake2b(data, key=self._secret, digest_size=16).hexdigest()

    def _line(self, step: Step, decision: Decision) -> dict[str, Any]:
        line: dict[str, Any] = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds")}
        line |= decision.to_dict(content=self._settings.content)
        line["parts"] = [{"kind": part.kind, "digest": self.digest(part)} for part in step.parts]
        line["judgements"] = [
            {
                "parts": list(judgement.parts),
                "detail": judgement.detail,
                "kind": judgement.kind,
                "decides": judgement.decides,
                "user": judgement.verdict.user,
                "response": judgement.verdict.response,
                "categories": [*judgement.verdict.categories, *judgement.verdict.unknown_categories],
                "p_user": judgement.verdict.p_user,
                "p_response": judgement.verdict.p_response,
                "failure": judgement.verdict.failure,
                "cause": judgement.verdict.cause,
            }
            for judgement in decision.judgements
        ]
        return line

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="turnguard-audit", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        assert self._settings.path is not None  # noqa: S101 - record() asked
        handler: logging.Handler | None = None
        while (line := self._queue.get()) is not None:
            try:
                if handler is None:
                    Path(self._settings.path).parent.mkdir(parents=True, exist_ok=True)
                    handler = logging.handlers.RotatingFileHandler(
                        self._settings.path,
                        maxBytes=self._settings.max_bytes,
                        backupCount=self._settings.backups,
                        encoding="utf-8",
                    )
                    handler.handleError = _raise  # type: ignore[assignment,method-assign]
                handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))
            except OSError as error:
                self.dropped += 1
                log.error("an audit line was lost: %s", type(error).__name__)  # noqa: TRY400 - the text may name paths
        if handler is not None:
            handler.close()


def _raise(_record: logging.LogRecord) -> None:
    raise  # noqa: PLE0704 - logging calls this inside its own except block
