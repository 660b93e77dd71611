"""Writes audit lines from a thread of its own: a slow or full disk never delays a decision, and never loses one."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import logging.handlers
import os
import queue
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard import telemetry
from turnguard.core.step import Part, Step, Text, ToolCall
from turnguard.core.taxonomy import on_record
from turnguard.records.evidence import Evidence
from turnguard.records.row import is_minor
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import AuditSettings
    from turnguard.core.decision import Decision

QUEUE = 10_000
QUEUE_CHARACTERS = 64_000_000
"""Lines, and characters in them, that wait for the disk. What is beyond that is dropped and counted."""
CLOSING_SECONDS = 5.0
"""How long closing waits for the disk."""

log = logging.getLogger("turnguard.audit")


class Audit:
    """Writes decisions to a rotated file. A failing disk is logged, never raised. One process per file: rotation is not
    coordinated between processes.

    `dropped` counts the lines that were lost, to a full queue or to the disk.
    """

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        # keyed by a digest of what was configured, because BLAKE2 takes 64 bytes at most
        chosen = settings.key.get_secret_value().encode()
        self._secret = hashlib.sha256(chosen).digest() if chosen else os.urandom(32)
        self._thread: threading.Thread | None = None
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.dropped = 0

    def _after_fork(self) -> None:
        # the thread and what it had still to write are the parent's
        if self._thread is not None:
            atexit.unregister(self.close)
        self._thread = None
        self._begin_anew()

    def record(self, step: Step, parts: Sequence[Part], decision: Decision) -> None:
        """Queue one line; returns at once and never raises. `parts` are the step's own, pinned where fetched."""
        if self._settings.path is None:
            return
        try:
            # ASCII only: whatever a reader takes for a line break, content cannot hold one
            line = json.dumps(self._line(step, parts, decision), default=str)
        except Exception as error:  # noqa: BLE001 - arguments may be anything, and a record must not cost the decision
            self._lost(error)
            return
        with self._lock:
            if self._queue.qsize() >= QUEUE or self._waiting + len(line) > QUEUE_CHARACTERS:
                self.dropped += 1
                telemetry.lost()
                return
            self._waiting += len(line)
            self._queue.put(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="turnguard-audit", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # a script that ends without closing its guard has its lines written

    def close(self) -> None:
        """Write what is queued and stop."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            atexit.unregister(self.close)
            thread.join(CLOSING_SECONDS)

    def digest(self, part: Part) -> str | None:
        """A keyed digest of a part's content: equal content is found again and none can be guessed from it."""
        if isinstance(part, Text):
            data = part.text.encode("utf-8", "surrogatepass")
        elif isinstance(part, ToolCall):
            try:
                data = json.dumps([part.name, part.arguments], default=str).encode()
            except (ValueError, TypeError, RecursionError):
                return None  # no JSON: endless, or with keys that are none
        else:
            source = getattr(part, "source", None)
            if isinstance(source, str):
                data = source.encode("utf-8", "surrogatepass")
            elif isinstance(source, bytes):
                data = source
            else:
                return None
        return hashlib.blake2b(data, key=self._secret, digest_size=16).hexdigest()

    def _line(self, step: Step, parts: Sequence[Part], decision: Decision) -> dict[str, Any]:
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        line |= decision.to_dict(content=self._settings.content and not is_minor(decision))
        line["language_given"] = step.language
        line["parts"] = [{"kind": part.kind, "digest": self.digest(part)} for part in parts]
        line["judgements"] = [
            {
                "parts": list(judgement.parts),
                "detail": judgement.detail,
                "kind": judgement.kind,
                "decides": judgement.decides,
                "user": judgement.verdict.user,
                "response": judgement.verdict.response,
                "categories": [*judgement.verdict.categories, *map(on_record, judgement.verdict.unknown_categories)],
                "p_user": judgement.verdict.p_user,
                "p_response": judgement.verdict.p_response,
                "failure": judgement.verdict.failure,
                "cause": judgement.verdict.cause,
            }
            for judgement in decision.judgements
        ]
        if any(judgement.verdict.looks is not None for judgement in decision.judgements):
            line["evidence"] = Evidence(decision.judgements, decision.coverage, step.language).dump()
        return line

    def _write(self) -> None:
        handler: logging.Handler | None = None
        # close() may be followed by a new queue's thread: this one ends with the mark in the queue that it began with
        waiting = self._queue
        while (line := waiting.get()) is not None:
            try:
                if handler is None:
                    handler = _opened(self._settings)
                handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))
            except Exception as error:  # noqa: BLE001 - the thread must live on, whatever the disk or the path does
                self._lost(error)
            with self._lock:
                self._waiting -= len(line)
        if handler is not None:
            handler.close()

    def _lost(self, error: Exception) -> None:
        self.dropped += 1
        telemetry.lost()
        log.error("an audit line was lost: %s", type(error).__name__)  # the error's own text may name paths or content


def _opened(settings: AuditSettings) -> logging.Handler:
    assert settings.path is not None  # noqa: S101 - record() asked
    Path(settings.path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        settings.path, maxBytes=settings.max_bytes, backupCount=settings.backups, encoding="utf-8"
    )
    handler.handleError = _raise  # type: ignore[assignment,method-assign]
    return handler


def _raise(_record: logging.LogRecord) -> None:
    raise  # noqa: PLE0704 - logging calls this inside its own except block
