"""Keeps content out of Pillow's own log: at DEBUG it writes down what EXIF and chunks say.

Only while a picture is read here, in this thread; the caller's other use of Pillow logs as before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_reading = threading.local()


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_reading, "at_it", False)


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow and its plugins log nothing from this thread meanwhile. They must have been imported before."""
    for name in list(logging.root.manager.loggerDict):
        if name == "PIL" or name.startswith(("PIL.", "pi_heif")):
            logging.getLogger(name).addFilter(_QUIET)  # harmless when it is there already
    before = getattr(_reading, "at_it", False)
    _reading.at_it = True
    try:
        yield
    finally:
        _reading.at_it = before
