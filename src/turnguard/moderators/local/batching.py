"""One worker thread before something that works best on several requests at once: what waits is worked on together.

Nothing waits for company: a request that finds the worker idle starts at once, alone, and those that come meanwhile
make up the next batch (dynamic batching).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from turnguard.core.errors import ModeratorError, Timeout, Unavailable
from turnguard.moderators.base import Deadline
from turnguard.runtime.fork import watch

IDLE_SECONDS = 10.0
"""An idle thread ends after so long, so that a guard that was dropped without closing takes its model along."""

T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[T, R]):
    """One request that somebody waits for, in some event loop."""

    def __init__(self, item: T, deadline: Deadline) -> None:
        self.item = item
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[R] = self._loop.create_future()
        self.left = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits: not once cancelled, or past the deadline. Callable from any thread."""
        return not self.left and self._deadline.remaining > 0.0

    def settle(self, outcome: R | ModeratorError) -> None:
        """Hand over the outcome, from any thread. Harmless when nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(self._settle, outcome)
        except RuntimeError:  # that loop was closed with its checks
            return

    def _settle(self, outcome: R | ModeratorError) -> None:
        if self.done.done():
            return
        if isinstance(outcome, ModeratorError):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


Work = Callable[[Sequence[Job[T, R]]], Sequence["R | ModeratorError"]]
"""Processes a batch in the worker thread and returns an outcome for each job, in order. It polls `wanted` often."""


class Batching(Generic[T, R]):
    """Processes requests in batches of at most `most`, all of the same `kind`, oldest first."""

    def __init__(self, work: Work[T, R], *, most: int, kind: Callable[[T], Hashable]) -> None:
        self._work = work
        self._most = most
        self._kind = kind
        self._waiting: deque[Job[T, R]] = deque()
        self._changed = threading.Condition()
        self._working = threading.Lock()
        """Held by the thread that works: one that was replaced by `close` may still be at it."""
        self._thread: threading.Thread | None = None
        self._forked = False
        watch(self)

    async def ask(self, item: T, deadline: Deadline) -> R:
        """Return the outcome for `item`, or raise `ModeratorError`. Cancelling the call withdraws the request."""
        if self._forked:
            raise Unavailable("a loaded model does not survive a fork: make the guard in the child process")
        job: Job[T, R] = Job(item, deadline)
        with self._changed:
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="turnguard-local", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            async with asyncio.timeout(deadline.remaining):
                return await job.done
        except TimeoutError:
            raise Timeout("no verdict before the deadline") from None
        finally:
            job.left = True

    def close(self) -> None:
        """End the thread once it is idle; what waits gets `Unavailable`. A later request starts another."""
        with self._changed:
            self._thread = None
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for job in waiting:
            job.settle(Unavailable("the moderator was closed"))

    def _after_fork(self) -> None:
        self._forked, self._changed, self._waiting = True, threading.Condition(), deque()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                with self._working:
                    outcomes = self._work(batch)
            except ModeratorError as error:
                outcomes = [error] * len(batch)
            except Exception as error:  # noqa: BLE001 - whatever the model raises, it is no verdict, and others wait
                outcomes = [Unavailable(f"the model failed ({type(error).__name__})")] * len(batch)
            for job, outcome in zip(batch, outcomes, strict=True):
                job.settle(outcome)

    def _next(self) -> list[Job[T, R]] | None:
        """The next batch, once there is one; None when this thread is no longer the worker."""
        with self._changed:
            while self._thread is threading.current_thread():
                wanted = [job for job in self._waiting if job.wanted]
                if wanted:
                    kind = self._kind(wanted[0].item)
                    batch = [job for job in wanted if self._kind(job.item) == kind][: self._most]
                    self._waiting = deque(job for job in wanted if job not in batch)
                    return batch
                self._waiting.clear()
                if not self._changed.wait(IDLE_SECONDS) and not self._waiting:
                    self._thread = None
        return None
