"""The child's side: one job after the other from stdin, until the pipe ends or the parent kills it."""

from __future__ import annotations

import os
import sys
import threading
from queue import SimpleQueue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from turnguard.media.read import read
from turnguard.media.readings import As
from turnguard.media.types import Made, Skipped
from turnguard.media.workers import frames, limits

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings

_Frame = tuple[dict[str, Any], list[bytes]]


def main(memory: int) -> None:
    """Serve until the parent closes the pipe."""
    jobs, replies = _pipes()
    _import_eagerly()
    limits.confine(memory)
    waiting: SimpleQueue[_Frame] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, waiting), daemon=True).start()
    while True:
        head, blobs = waiting.get()
        limits.allow_seconds(float(head["seconds"]))
        frames.send(replies, *frames.packed(_made(head, blobs[0])))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of the parent, moved away from stdin and stdout, where a library might read or print."""
    jobs = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    return cast("BinaryIO", jobs), cast("BinaryIO", replies)


def _import_eagerly() -> None:
    """Import what decoders need while there is no limit yet, so that the first job is not slower than the others."""
    from PIL import Image

    Image.init()
    for module in ("pypdfium2", "pypdf", "charset_normalizer", "pi_heif", "resvg_py"):
        try:
            __import__(module)
        except ImportError:
            continue


def _listen(jobs: BinaryIO, waiting: SimpleQueue[_Frame]) -> None:
    """Hand over jobs as they come. The end of the pipe is the end of the parent: nobody waits for the job at hand."""
    try:
        while True:
            waiting.put(frames.receive(jobs))
    except (frames.Broken, OSError, MemoryError):
        os._exit(1)


def _made(head: dict[str, Any], data: bytes) -> Made:
    # plain numbers: the parent has checked them, and pydantic would take the child a tenth of a second to import
    settings = cast("MediaSettings", SimpleNamespace(**head["settings"]))
    try:
        return read(data, settings, int(head["views"]), lambda: False, As(**head["as"]))
    except MemoryError:
        return Made(skipped=(Skipped("", "needs more memory than its reader may use", True),))
    except Exception as error:  # noqa: BLE001 - decoders raise anything on malformed files
        return Made(skipped=(Skipped("", f"cannot be read ({type(error).__name__})", True),))


if __name__ == "__main__":
    main(int(sys.argv[1]))
