"""`Media`: prepares parts off the event loop, each set of bytes once."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from turnguard.media import source as _source
from turnguard.media import workers
from turnguard.media.read import Abandoned, NeedsChild, needs_child, read, refuse
from turnguard.media.readings import As, Reading, readings
from turnguard.media.sniff import RECORDED, media_type, one_behind_another, what
from turnguard.media.types import Made, Prepared, Skipped, Unreadable
from turnguard.media.urls.allow import Allowed
from turnguard.media.urls.once import Fetches
from turnguard.runtime.caches import Cache
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnguard.config.settings import MediaSettings
    from turnguard.core.step import Document, Image

_T = TypeVar("_T")
Key = tuple[bytes, int]
"""A digest of the bytes and of how they are read, and the number of views that were allowed."""
_THREADS = 2  # Pillow releases the GIL: more would only raise the peak of memory
_OF_DEADLINE = 0.8  # a document may take so much of the deadline: what else is in the step can still be judged
_REMEMBERED = 64_000_000  # bytes


@dataclass(slots=True)
class _Job:
    """One preparation under way, for everyone who waits for the same bytes."""

    future: Future[Made] = field(default_factory=Future)
    waiting: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)
    child: workers.Job | None = None

    def abandon(self) -> None:
        self.abandoned.set()
        if self.child is not None:
            self.child.stop("given up")


@dataclass(frozen=True, slots=True)
class _Read:
    """The bytes of a part, what pins them, and how they are to be read."""

    data: bytes
    pinned: Image | Document
    said: As
    readings: tuple[Reading, ...]
    digest: bytes
    in_child: bool

    @classmethod
    def of(cls, data: bytes, pinned: Image | Document, part: Image | Document) -> _Read:
        said = As.of(part.media_type, getattr(part, "name", None), getattr(part, "password", None))
        found = readings(data, said)
        digest = hashlib.sha256(data)
        digest.update(repr((found, said.charset, said.password)).encode("utf-8", "surrogatepass"))
        return cls(data, pinned, said, found, digest.digest(), needs_child(data, found))


class Media:
    """Prepares pictures and documents. One may serve several event loops and threads; making one is cheap.

    `ConfigError` where `allow_urls` or `allow_private` cannot be read.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._allowed = Allowed(settings.allow_urls, settings.allow_private)
        self._memo: Cache[Key, Made] = Cache(weight=_REMEMBERED, weigh=lambda made: made.weight)
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._jobs: dict[Key, _Job] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def _after_fork(self) -> None:
        # the threads and what they were at are the parent's
        self._begin_anew()

    def fetches(self) -> Fetches:
        """What fetches the URLs of one step, each once."""
        return Fetches(self._allowed, self._settings)

    async def prepare(
        self, part: Image | Document, *, limit: int | None = None, fetches: Fetches | None = None
    ) -> Prepared:
        """Views and texts of `part`, at most `limit` views (and never more than `max_requests`).

        Never raises for bad content: that is no view, no text and one `Skipped` with the cause. A result that was made
        before, whatever part the same bytes came in, costs a hash. `fetches` are those of the step that it belongs to.
        """
        most = self._settings.max_requests
        most = most if limit is None else max(0, min(limit, most))
        # a name is judged even where there is no body
        name = getattr(part, "name", None)
        texts = (("name", name),) if name else ()
        try:
            file = await self._bytes(part, fetches or self.fetches())
        except Unreadable as cause:
            return Prepared(part, texts=texts, skipped=(Skipped("", str(cause), True),))
        made = self._memo.get((file.digest, most)) or await self._made((file.digest, most), file)
        without = None
        if any(entry.recorded for entry in made.skipped):
            without = await self._in_thread(lambda: _without_recording(file))
        return Prepared(file.pinned, *made._replace(texts=texts + made.texts), without)

    async def aclose(self) -> None:
        """Let the worker threads end once their work is done. The next `prepare` starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)

    async def _bytes(self, part: Image | Document, fetches: Fetches) -> _Read:
        """The bytes and what they are: all found in a worker, for they may be many."""
        if isinstance(part.source, str) and part.source[:5].lower() != "data:":
            data = await fetches.get(part.source)
            return await self._in_thread(lambda: _Read.of(data, _pin(part, data), part))
        return await self._in_thread(
            lambda: _Read.of(*_source.read(part, self._settings.max_bytes, self._settings.max_pixels), part)
        )

    async def _made(self, key: Key, file: _Read) -> Made:
        """Join the preparation of these bytes, or start it. It is given up when the last one who waits is cancelled."""
        with self._lock:
            job = self._jobs.get(key)
            is_new = job is None
            if job is None:
                job = self._jobs[key] = _Job()
                if not file.in_child:
                    self._submit(self._run, job, key, file)
            job.waiting += 1
        if is_new and file.in_child:
            self._hand_over(job, key, file)
        try:
            return await asyncio.shield(asyncio.wrap_future(job.future))
        except asyncio.CancelledError:
            with self._lock:
                job.waiting -= 1
                if not job.waiting:
                    job.abandon()
                    if self._jobs.get(key) is job:
                        del self._jobs[key]
            raise

    def _hand_over(self, job: _Job, key: Key, file: _Read) -> None:
        """Have a child do it. The lock must not be held: where no thread can be started, the job has failed at once."""
        head = {
            "settings": self._settings.model_dump(mode="json"),
            "views": key[1],
            "as": dataclasses.asdict(file.said),
        }
        job.child = workers.Job(
            head,
            file.data,
            seconds=self._settings.deadline * _OF_DEADLINE,
            max_pixels=self._settings.max_pixels,
            done=lambda made, whole: self._finish(job, key, made, remember=whole),
        )
        if job.abandoned.is_set():  # before there was a child that could be told
            job.child.stop("given up")
        workers.submit(job.child)

    def _finish(self, job: _Job, key: Key, made: Made, *, remember: bool) -> None:
        if remember:
            self._memo.put(key, made)
        with self._lock:
            if self._jobs.get(key) is job:
                del self._jobs[key]
        job.future.set_result(made)

    def _run(self, job: _Job, key: Key, file: _Read) -> None:
        remember = False
        try:
            made = read(file.data, self._settings, key[1], job.abandoned.is_set, file.said, refuse, file.readings)
            remember = True
        except NeedsChild:
            self._hand_over(job, key, file)
            return
        except Abandoned:
            made = Made(skipped=(Skipped("", "given up", True),))
        except Exception as error:  # noqa: BLE001 - whatever a decoder does, nobody may wait for ever
            made = Made(skipped=(Skipped("", f"cannot be read ({type(error).__name__})", True),))
        self._finish(job, key, made, remember=remember)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        with self._lock:
            future = self._submit(work)
        return await asyncio.wrap_future(future)

    def _submit(self, work: Callable[..., _T], *args: Any) -> Future[_T]:
        """The lock must be held: a pool that `aclose` has just shut down takes no work."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="turnguard-media")
        return self._pool.submit(work, *args)


def _without_recording(file: _Read) -> Image | Document:
    """A picture as far as the sound or film behind it, in the form that it came in."""
    end = next(at for at, each in one_behind_another(file.data) if what(each) in RECORDED)
    data = file.data[:end]
    return _pin(file.pinned, data) if isinstance(file.pinned.source, str) else replace(file.pinned, source=data)


def _pin(part: Image | Document, data: bytes) -> Image | Document:
    """A part as a `data:` URI of the very bytes that are judged, with the type that they show themselves."""
    declared = media_type(data)
    uri = f"data:{declared};base64,{base64.b64encode(data).decode('ascii')}"
    return replace(part, source=uri, media_type=declared)
