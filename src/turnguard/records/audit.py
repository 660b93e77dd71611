"""Writes audit lines from a thread of its own: a slow or full disk never delays a decision, and never loses one."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnguard import telemetry
from turnguard.core.errors import ConfigError
from turnguard.core.step import Part, Step
from turnguard.core.taxonomy import on_record
from turnguard.records.audit_file import AuditFile, Taken, files, refused
from turnguard.records.evidence import Evidence
from turnguard.records.row import as_bytes, is_minor, snapshot
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import AuditSettings
    from turnguard.core.decision import Decision
    from turnguard.core.policy import Policy

QUEUE = 10_000
QUEUE_CHARACTERS = 64_000_000
"""Lines, and characters in them, that wait for the disk. What is beyond that is dropped and counted."""
TELLING_SECONDS = 60.0
CLOSING_SECONDS = 5.0
"""How long closing waits for the disk."""

log = logging.getLogger("turnguard.audit")


class Audit:
    """Writes decisions to a rotated file. A failing disk is logged once a minute, never raised. One process writes a
    file: rotation is not coordinated between several, and whoever comes second is told so.

    `dropped` counts the lines that were lost, to a full queue or to the disk. Raises `ConfigError` where the file is
    required and cannot be written.
    """

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        # keyed by a digest of what was configured, because BLAKE2 takes 64 bytes at most
        chosen = settings.key.get_secret_value().encode()
        self._secret = hashlib.sha256(chosen).digest() if chosen else os.urandom(32)
        self._thread: threading.Thread | None = None
        if settings.required and (problem := refused(settings, alone=True)) is not None:
            raise ConfigError(problem)
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.dropped = self._untold = 0
        self._next_word = 0.0

    def _after_fork(self) -> None:
        # the thread and what it had still to write are the parent's
        if self._thread is not None:
            atexit.unregister(self.close)
        self._thread = None
        self._begin_anew()

    def record(self, step: Step, parts: Sequence[Part], decision: Decision, policy: Policy) -> None:
        """Queue one line; returns at once and never raises. `parts` are the step's own, pinned where fetched."""
        if self._settings.path is None:
            return
        try:
            # ASCII only: whatever a reader takes for a line break, content cannot hold one
            line = json.dumps(self._line(step, parts, decision, policy), default=str)
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
        _, data = snapshot(part)
        return None if data is None else hashlib.blake2b(as_bytes(data), key=self._secret, digest_size=16).hexdigest()

    def _line(self, step: Step, parts: Sequence[Part], decision: Decision, policy: Policy) -> dict[str, Any]:
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
        if policy.own is not None or any(judgement.verdict.looks is not None for judgement in decision.judgements):
            line["evidence"] = Evidence.of(decision, step.language, policy).dump()
        return line

    def _write(self) -> None:
        file: AuditFile | None = None
        # close() may be followed by a new queue's thread: this one ends with the mark in the queue that it began with
        waiting = self._queue
        while (line := waiting.get()) is not None:
            try:
                if file is None:
                    file = files.take(self._settings)
                file.write(line)
            except Exception as error:  # noqa: BLE001 - the thread must live on, whatever the disk or the path does
                self._lost(error)
            with self._lock:
                self._waiting -= len(line)
        if file is not None:
            files.give_back(file)

    def _lost(self, error: Exception) -> None:
        self.dropped += 1
        self._untold += 1
        telemetry.lost()
        if time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + TELLING_SECONDS
            # another error's own text may name paths or content
            why = str(error) if isinstance(error, Taken) else type(error).__name__
            log.error("%s audit lines were lost: %s", self._untold, why)
            self._untold = 0
