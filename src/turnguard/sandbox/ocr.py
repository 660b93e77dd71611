"""Read text in pictures on the CPU with RapidOCR. Its models are in its wheel; nothing is downloaded.

The picture is first brought to what the model's vision tower sees, 896 x 896 pixels at most: what a squeezed
screenshot hides from the tower it hides here too. The lines of one picture are spread over the threads, and what was
read once is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard.runtime.caches import Cache
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from collections.abc import Callable

TOWER_SIDE = 896
"""Pixels: the side of what the vision tower sees."""

UNAVAILABLE = "Judging images needs OCR: pip install 'turnguard[sandbox]'"

_PADDING = 0.1
"""A line is framed by this share of its height, which narrows it at the recogniser's fixed height: a tenth less work,
and 12-pixel print is still read exactly."""

_MIN_CONFIDENCE = 0.5


class OcrUnavailable(RuntimeError):
    """RapidOCR cannot be imported here, or its models are missing."""


class Reader:
    """Reads the text of encoded images. Engine and threads are made on first use; `threads` bounds the cores taken
    (default: 4, or as many as there are), `remembered` the number of pictures whose text is kept."""

    def __init__(self, *, threads: int | None = None, remembered: int = 512) -> None:
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._remembered = remembered
        self._inherited: Any = None
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._texts: Cache[bytes, str] = Cache(self._remembered)
        self._jobs: dict[bytes, _Job] = {}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._engine: Any = None
        self._engine_lock = threading.Lock()

    def _after_fork(self) -> None:
        # the threads are the parent's, those inside the engine too: it is kept only because ending it would join them
        self._inherited = self._engine
        self._begin_anew()

    async def aread(self, image: bytes) -> str:
        """The lines of text in the picture, top to bottom. Cancelling stops the work when nobody else waits for it."""
        return await asyncio.wrap_future(self.submit(image))

    def read(self, image: bytes) -> str:
        """As `aread`, blocking."""
        return self.submit(image).result()

    def submit(self, image: bytes) -> Future[str]:
        """Start to read. A picture that is being read is read once. Raises `OcrUnavailable` without RapidOCR."""
        digest = hashlib.sha256(image).digest()
        waiting: Future[str] = Future()
        with self._lock:
            text = self._texts.get(digest)
            if text is not None:
                waiting.set_result(text)
                return waiting
            job = self._jobs.get(digest)
            if job is not None and not job.abandoned:
                job.waiting.append(waiting)
                return waiting
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="turnguard-ocr")
            job = self._jobs[digest] = _Job(self, digest, waiting)
            self._pool.submit(job.find_lines, image)
        return waiting

    def close(self) -> None:
        """Stop the threads; pictures being read are abandoned."""
        with self._lock:
            pool, self._pool = self._pool, None
            jobs = list(self._jobs.values())
        for job in jobs:
            job.abandoned = True
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            job.finish(None, OcrUnavailable("the reader was closed"))

    def lines_of(self, job: _Job, image: bytes) -> list[Any]:
        """The pieces of the picture that hold a line of text; nothing for an abandoned job."""
        return _crops(self._ready_engine(), image) if self._wanted(job) else []

    def text_of(self, job: _Job, crop: Any) -> str:
        """The text of one line."""
        return _recognise(self._ready_engine(), crop) if self._wanted(job) else ""

    def _ready_engine(self) -> Any:
        """The engine, made by the first task that needs it: a second or so."""
        with self._engine_lock:
            if self._engine is None:
                self._engine = _engine()
            return self._engine

    def start(self, job: _Job, task: Callable[..., None], *arguments: Any) -> None:
        """Queue a task of a job."""
        with self._lock:
            if self._pool is not None:
                self._pool.submit(task, *arguments)
            else:
                job.abandoned = True

    def count_down(self, job: _Job) -> bool:
        """Count a line as read; return whether it was the last."""
        with self._lock:
            return job.one_less()

    def _wanted(self, job: _Job) -> bool:
        with self._lock:
            job.abandoned = job.abandoned or all(future.cancelled() for future in job.waiting)
            return not job.abandoned

    def done(self, job: _Job, text: str | None) -> None:
        with self._lock:
            if self._jobs.get(job.digest) is job:
                del self._jobs[job.digest]
            if text is not None and not job.abandoned:
                self._texts.put(job.digest, text)


class _Job:
    """One picture being read: one task finds its lines, then a task each reads them. Abandoned for good once nobody
    waits, for its text has gaps then."""

    def __init__(self, reader: Reader, digest: bytes, first: Future[str]) -> None:
        self.digest = digest
        self.waiting = [first]
        self.abandoned = False
        self._reader = reader
        self._lines: list[str] = []
        self._left = 0

    def find_lines(self, image: bytes) -> None:
        try:
            crops = self._reader.lines_of(self, image)
        except Exception as failure:  # noqa: BLE001 - whatever it was, those who wait must learn of it
            self.finish(None, failure)
            return
        self._lines, self._left = [""] * len(crops), len(crops)
        if not crops:
            self.finish("", None)
        for number, crop in enumerate(crops):
            self._reader.start(self, self.read_line, number, crop)

    def read_line(self, number: int, crop: Any) -> None:
        try:
            self._lines[number] = self._reader.text_of(self, crop)
        except Exception as failure:  # noqa: BLE001
            self.finish(None, failure)
            return
        if self._reader.count_down(self):
            self.finish("\n".join(line for line in self._lines if line), None)

    def one_less(self) -> bool:
        self._left -= 1
        return self._left == 0

    def finish(self, text: str | None, failure: Exception | None) -> None:
        """Give the result to everyone who waits, once."""
        self._reader.done(self, text)
        for future in self.waiting:
            try:
                if failure is not None:
                    future.set_exception(failure)
                else:
                    future.set_result(text or "")
            except InvalidStateError:  # cancelled, or told before
                continue


def available() -> bool:
    """Whether pictures can be read here."""
    try:
        _import()
    except OcrUnavailable:
        return False
    return True


def _import() -> Any:
    try:
        import onnxruntime  # noqa: F401 - what RapidOCR runs its models with, and does not ask for
        import rapidocr
    except ImportError as failure:
        raise OcrUnavailable(f"{UNAVAILABLE} ({failure})") from failure
    return rapidocr


def _engine() -> Any:
    """Make an engine with one thread per session: lines run in parallel.

    The models are named by path, for RapidOCR downloads a model that it does not find.
    """
    rapidocr = _import()
    models = Path(rapidocr.__file__).parent / "models"
    detector, recogniser = models / "PP-OCRv6_det_small.onnx", models / "PP-OCRv6_rec_small.onnx"
    if not (detector.is_file() and recogniser.is_file()):
        raise OcrUnavailable(f"RapidOCR {metadata.version('rapidocr')} lacks the models that this version reads with")
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(detector),
            "Det.limit_side_len": 32,
            "Rec.model_path": str(recogniser),
            "Rec.rec_batch_num": 1,
        }
    )


def _crops(engine: Any, image: bytes) -> list[Any]:
    """Return the picture's lines of text, cut out, top to bottom."""
    import numpy as np

    seen = _as_seen(image)
    if all(low == high for low, high in seen.getextrema()):  # one colour: nothing to find
        return []
    pixels = np.ascontiguousarray(np.asarray(seen)[:, :, ::-1])
    from rapidocr.main import RapidOCRError

    try:
        crops, _ = engine.detect_and_crop(pixels, {})
    except RapidOCRError:  # it found no text
        return []
    return list(crops)


def _recognise(engine: Any, crop: Any) -> str:
    import cv2

    margin = round(crop.shape[0] * _PADDING)
    framed = cv2.copyMakeBorder(crop, margin, margin, 0, 0, cv2.BORDER_REPLICATE)
    found = engine.recognize_txt([framed])
    return "".join(text for text, score in zip(found.txts, found.scores, strict=True) if score >= _MIN_CONFIDENCE)


def _as_seen(image: bytes) -> Any:
    """The picture as the vision tower sees it: first frame, on white, at most 896 pixels on either side."""
    from PIL import Image

    with Image.open(BytesIO(image)) as opened:
        size = min(opened.width, TOWER_SIDE), min(opened.height, TOWER_SIDE)
        # Made small first where no transparency is at stake: a picture of 100 megapixels need not be copied whole.
        picture = opened.convert("RGBA") if opened.mode not in {"RGB", "L"} else _fit(opened, size).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return _fit(ground.convert("RGB"), size)


def _fit(picture: Any, size: tuple[int, int]) -> Any:
    from PIL import Image

    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
