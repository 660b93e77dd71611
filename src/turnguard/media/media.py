"""`Media`: prepares parts off the event loop, each set of bytes once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from turnguard.media import source as _source
from turnguard.media.memo import Key, Made, Memo
from turnguard.media.read import Abandoned, read
from turnguard.media.sniff import What, media_type, what
from turnguard.media.types import Prepared, Skipped, Unreadable
from turnguard.media.urls.allow import Allowed
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnguard.config.settings import MediaSettings
    from turnguard.core.step import Document, Image

_T = TypeVar("_T")
_THREADS = 2  # Pillow releases the GIL: more would only raise the peak of memory
_PDF_THREADS = 1  # PDFium takes one at a time; on a thread of its own a hostile PDF cannot keep pictures waiting
_REMEMBERED = 64_000_000  # bytes


@dataclass(slots=True)
class _Job:
    """One preparation under way, for everyone who waits for the same bytes."""

    future: Future[Made] = field(default_factory=Future)
    waiting: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)


class Media:
    """Prepares pictures and documents. One may serve several event loops and threads; making one is cheap.

    `ConfigError` where `allow_urls` or `allow_private` cannot be read.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._allowed = Allowed(settings.allow_urls, settings.allow_private)
        self._memo = Memo(_REMEMBERED)
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._jobs: dict[Key, _Job] = {}
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()

    def _after_fork(self) -> None:
        # the threads and what they were at are the parent's
        self._begin_anew()

    async def prepare(self, part: Image | Document, *, limit: int | None = None) -> Prepared:
        """Views and texts of `part`, at most `limit` views (and never more than `max_requests`).

        Never raises for bad content: that is no view, no text and one `Skipped` with the cause. A result that was made
        before, whatever part the same bytes came in, costs a hash.
        """
        most = self._settings.max_requests
        most = most if limit is None else max(0, min(limit, most))
        try:
            data, pinned, digest, kind = await self._bytes(part)
        except Unreadable as cause:
            return Prepared(part, skipped=(Skipped("", str(cause), True),))
        made = self._memo.get((digest, most)) or await self._made((digest, most), data, kind)
        texts = made.texts
        name = getattr(part, "name", None)
        if name:
            texts = (("name", name), *texts)
        return Prepared(pinned, *made._replace(texts=texts))

    async def aclose(self) -> None:
        """Let the worker threads end once their work is done. The next `prepare` starts new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown(wait=False)

    async def _bytes(self, part: Image | Document) -> tuple[bytes, Image | Document, bytes, What]:
        """The bytes, what pins them, their hash and their kind: all found in a worker, for they may be many."""
        if isinstance(part.source, str) and part.source[:5].lower() != "data:":
            from turnguard.media.urls.fetch import fetch

            data = await fetch(part.source, self._allowed, self._settings)
            return await self._in_thread(lambda: (data, _pin(part, data), hashlib.sha256(data).digest(), what(data)))

        def work() -> tuple[bytes, Image | Document, bytes, What]:
            data, pinned = _source.read(part, self._settings.max_bytes, self._settings.max_pixels)
            return data, pinned, hashlib.sha256(data).digest(), what(data)

        return await self._in_thread(work)

    async def _made(self, key: Key, data: bytes, kind: What) -> Made:
        """Join the preparation of these bytes, or start it. It is given up when the last one who waits is cancelled."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = _Job()
                threads = _PDF_THREADS if kind == "pdf" else _THREADS
                self._submit(threads, self._run, job, key, data)
            job.waiting += 1
        try:
            return await asyncio.shield(asyncio.wrap_future(job.future))
        except asyncio.CancelledError:
            with self._lock:
                job.waiting -= 1
                if not job.waiting:
                    job.abandoned.set()
                    if self._jobs.get(key) is job:
                        del self._jobs[key]
            raise

    def _run(self, job: _Job, key: Key, data: bytes) -> None:
        try:
            made = read(data, self._settings, key[1], job.abandoned.is_set)
            self._memo.put(key, made)
        except Abandoned:
            made = Made(skipped=(Skipped("", "given up", True),))
        except Exception as error:  # noqa: BLE001 - whatever a decoder does, nobody may wait for ever
            made = Made(skipped=(Skipped("", f"cannot be read ({type(error).__name__})", True),))
        with self._lock:
            if self._jobs.get(key) is job:
                del self._jobs[key]
        job.future.set_result(made)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        with self._lock:
            future = self._submit(_THREADS, work)
        return await asyncio.wrap_future(future)

    def _submit(self, threads: int, work: Callable[..., _T], *args: Any) -> Future[_T]:
        """The lock must be held: a pool that `aclose` has just shut down takes no work."""
        pool = self._pools.get(threads)
        if pool is None:
            pool = self._pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="turnguard-media")
        return pool.submit(work, *args)


def _pin(part: Image | Document, data: bytes) -> Image | Document:
    """A fetched part as a `data:` URI of the very bytes that are judged, with the type that they show themselves."""
    declared = media_type(data)
    uri = f"data:{declared};base64,{base64.b64encode(data).decode('ascii')}"
    return replace(part, source=uri, media_type=declared)
