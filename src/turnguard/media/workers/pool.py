"""The parent's side: a few threads, and children that are kept warm and replaced once they were killed.

One pool serves the whole process, whatever guards, threads and event loops it has. A child is started by a command
rather than by `multiprocessing`, so that it depends neither on how the parent was started nor on what it has imported.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from turnguard.media.types import Made, Skipped
from turnguard.media.workers import frames
from turnguard.runtime.fork import watch

log = logging.getLogger("turnguard")
MOST = max(4, min(8, os.cpu_count() or 1))
"""Children at most. More than the cores of a small machine: files that hang must not keep others waiting."""
_IDLE = 300.0  # seconds until a child that nobody needs is let go
_LONG = 3.0  # seconds at a file from which on a spare child is kept
_BASE = 1_500_000_000  # bytes of address space; libraries reserve much more than they use
_PER_PIXEL = 24  # bytes: a page or a picture of `max_pixels`, in a few copies
_KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "TZ")  # no credentials
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from turnguard.media.workers.child import main; main(int(sys.argv[1]))"
)


class Job:
    """A file to read in a child within `seconds` from now.

    `done(made, whole)` is called once, from a thread of the pool: a failure is a `Skipped` with its cause, and not
    `whole`. `head` is JSON-like: what the child's `read` needs besides the bytes.
    """

    def __init__(
        self, head: dict[str, Any], data: bytes, *, seconds: float, max_pixels: int, done: Callable[[Made, bool], None]
    ) -> None:
        self.head, self.data, self.seconds = head, data, seconds
        self.memory = _BASE + _PER_PIXEL * max_pixels
        self.until = time.monotonic() + seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped: str | None = None
        self._done = done
        self._ended = False
        self._lock = threading.Lock()

    def stop(self, cause: str) -> None:
        """Give up: kill the child that is at it, or leave it undone where none is."""
        with self._lock:
            if not self._ended and self.stopped is None:
                self.stopped = cause
                if self.process is not None:
                    self.process.kill()

    def begin(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it is still wanted. From here on `stop` kills `process`."""
        with self._lock:
            self.process = process
            return self.stopped is None

    def end(self, made: Made, *, whole: bool) -> bool:
        """Deliver the result. Whether the child may be used again."""
        with self._lock:
            self.process = None
            self._ended = True
        self._done(made, whole and self.stopped is None)
        return self.stopped is None


class _Child(NamedTuple):
    """A process, and the bytes of address space that it may use."""

    process: subprocess.Popen[bytes]
    memory: int


class _Pool:
    """Threads start when a job finds none idle, up to MOST, and share the children that wait for a job.

    All are daemons: none keeps the process from ending.
    """

    def __init__(self) -> None:
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._idle = 0
        self._threads = 0
        self._children: set[subprocess.Popen[bytes]] = set()
        self._warm: list[_Child] = []
        self._closed = False

    def _after_fork(self) -> None:
        for process in self._children:
            _disown(process)
        self._begin_anew()

    def submit(self, job: Job) -> None:
        """Queue `job`. A pool that can start no thread fails the job at once unless another thread will take it."""
        refused = False
        with self._changed:
            self._waiting.append(job)
            if self._idle >= len(self._waiting) or self._threads >= MOST:
                self._changed.notify()
                return
            try:
                threading.Thread(target=self._work, name="turnguard-documents", daemon=True).start()
                self._threads += 1
            except RuntimeError:  # can't start new thread
                if not self._threads:
                    self._waiting.remove(job)
                    refused = True
        if refused:
            job.end(_unread("no thread could be started for its reader"), whole=False)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            child: _Child | None = None
            # a file that takes long may be killed: the next one then finds a child that has started already
            spare = threading.Timer(_LONG, self._keep_warm, (job.memory,))
            spare.daemon = True
            try:
                child = self._take(job.memory)
                spare.start()
                made, whole = _ask(child.process, job)
            except Exception as error:  # noqa: BLE001 - out of descriptors, memory or threads: nobody may wait for ever
                made, whole = _unread(f"its reader could not be started ({type(error).__name__})"), False
            spare.cancel()
            good = job.end(made, whole=whole)
            if child is not None and good:
                with self._changed:
                    self._warm.append(child)
            elif child is not None:
                self._let_go(child)
                self._keep_warm(job.memory)

    def _next(self) -> Job | None:
        with self._changed:
            self._idle += 1
            given = self._changed.wait_for(lambda: self._waiting, _IDLE)
            self._idle -= 1
            if not given:
                self._threads -= 1
                count = 1 if self._threads else len(self._warm)
                gone, self._warm = self._warm[:count], self._warm[count:]
            else:
                return self._waiting.popleft()
        for child in gone:
            self._let_go(child)
        return None

    def _take(self, memory: int) -> _Child:
        """A warm child, else a new one."""
        while True:
            with self._changed:
                child = self._warm.pop() if self._warm else None
            if child is None:
                return self._start(memory)
            if child.memory >= memory and child.process.poll() is None:
                return child
            self._let_go(child)

    def _keep_warm(self, memory: int) -> None:
        """Start a child for the next job unless one waits already. Where that fails, the job will try."""
        if not self._closed and not self._warm and len(self._children) < MOST:
            with contextlib.suppress(OSError, MemoryError, RuntimeError):
                child = self._start(memory)
                with self._changed:
                    self._warm.append(child)

    def _start(self, memory: int) -> _Child:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [_python(), "-I", "-c", _START, str(memory), json.dumps(_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: value for name in _KEPT if (value := os.environ.get(name)) is not None},
            cwd=Path(sys.prefix).anchor,
        )
        with self._changed:
            self._children.add(process)
        return _Child(process, memory)

    def _let_go(self, child: _Child) -> None:
        process = child.process
        with self._changed:
            self._children.discard(process)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()

    def close(self) -> None:
        """Kill every child, at the end of the process."""
        self._closed = True
        with self._changed:
            children = list(self._children)
        for process in children:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)


def _ask(process: subprocess.Popen[bytes], job: Job) -> tuple[Made, bool]:
    """Put the job to the child and wait for the answer; the timer kills the child at the deadline."""
    left = job.until - time.monotonic()
    if left <= 0:
        job.stop(_late(job))
    timer = threading.Timer(max(0.0, left), job.stop, (_late(job),))
    timer.daemon = True
    timer.start()
    try:
        if not job.begin(process):
            raise frames.Broken
        frames.send(_pipe(process.stdin), {**job.head, "seconds": job.seconds}, (job.data,))
        return frames.unpacked(*frames.receive(_pipe(process.stdout))), True
    except (frames.Broken, OSError):
        job.stop("its reader crashed")
        log.warning("a document was given up: %s", job.stopped)
        return _unread(job.stopped or "its reader crashed"), False
    finally:
        timer.cancel()


def _late(job: Job) -> str:
    return f"not read within {job.seconds:g} seconds"


def _pipe(pipe: Any) -> BinaryIO:
    if pipe is None:
        raise frames.Broken
    return pipe  # type: ignore[no-any-return]


def _unread(cause: str) -> Made:
    return Made(skipped=(Skipped("", cause, True),))


def _python() -> str:
    """The interpreter, as `multiprocessing` finds it: an application that embeds Python has told it there."""
    if getattr(sys, "frozen", False):
        raise OSError("a frozen application has no interpreter to start")
    from multiprocessing import spawn  # twenty modules that only a process with files needs

    found = spawn.get_executable()
    return os.fsdecode(found or sys.executable)


def _path() -> list[str]:
    """Where the parent imports from: `-I` leaves PYTHONPATH and the working directory out."""
    return [str(Path(entry).absolute()) for entry in sys.path if entry]


def _disown(process: subprocess.Popen[bytes]) -> None:
    """In a forked child: the process and its pipes are the parent's. Held open, they would hide the parent's end."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.returncode = 0


_pool = _Pool()
atexit.register(_pool.close)


def submit(job: Job) -> None:
    """Have a job done; its `done` is called whatever happens."""
    _pool.submit(job)
