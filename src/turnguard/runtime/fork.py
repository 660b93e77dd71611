"""Renew in a forked child what belongs to the parent: locks its threads held, and counts of its work."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with a lock or a thread of its own."""

    def _after_fork(self) -> None: ...


_alive: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch(thing: Forked) -> None:
    """Call `thing._after_fork()` in every forked child for as long as it lives."""
    _alive.add(thing)


def _in_child() -> None:
    for thing in list(_alive):
        thing._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
