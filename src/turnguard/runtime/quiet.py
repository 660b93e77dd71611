"""Other libraries' loggers: at DEBUG some write down what they read, which here is content.

They are silent only while work of ours is under way in the same task or thread: the caller's own use of the same
library logs as before.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

_AT_WORK: ContextVar[bool] = ContextVar("turnguard_at_work", default=False)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _AT_WORK.get()


_QUIET = _Quiet()


def hush(*names: str) -> None:
    """Silence these loggers during work of ours."""
    for name in names:
        logging.getLogger(name).addFilter(_QUIET)  # harmless when it is there already


@cache
def hush_package(package: str) -> None:
    """Silence the loggers of a package and of its modules, those that are not imported yet included.

    A logger's filters do not reach the loggers below it, and Pillow makes one for each of its plug-ins.
    """
    modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
    hush(package, *(f"{package}.{module.name}" for module in modules))


@contextmanager
def at_work() -> Iterator[None]:
    """Work of ours, during which the loggers that are hushed stay silent."""
    token = _AT_WORK.set(True)
    try:
        yield
    finally:
        _AT_WORK.reset(token)
