"""`Media`: prepares parts off the event loop, each set of bytes once."""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

from turnguard.content import Document, Image
from turnguard.exchange import Picture
from turnguard.media import _source
from turnguard.media._types import Prepared, Skipped, Unreadable, View
from turnguard.settings import MediaSettings


class Media:
    """Prepares pictures and documents. One may serve several event loops and threads."""

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def prepare(self, part: Image | Document, *, limit: int | None = None) -> Prepared:
        """Views and texts of `part`. Never raises for bad content: that is one `Skipped` with the cause."""
        pool = self._threads()
        return await asyncio.get_running_loop().run_in_executor(pool, self._prepare, part)

    def _prepare(self, part: Image | Document) -> Prepared:
        try:
            data, pinned = _source.read(part, self._settings.max_bytes, self._settings.max_pixels)
            from PIL import Image as Pillow

            with Pillow.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP", "GIF"]) as picture:
                out = io.BytesIO()
                picture.convert("RGB").save(out, "PNG")
            return Prepared(pinned, (View(Picture.of(out.getvalue(), "image/png"), "", 2.0),))
        except Unreadable as cause:
            return Prepared(part, skipped=(Skipped("", str(cause), True),))
        except Exception as error:  # noqa: BLE001 - decoders raise anything
            return Prepared(part, skipped=(Skipped("", f"cannot be decoded ({type(error).__name__})", True),))

    async def aclose(self) -> None:
        """Let the worker threads end."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(2, thread_name_prefix="turnguard-media")
            return self._pool
