"""Work in a forked child."""

from __future__ import annotations

import faulthandler
import os
import time
import traceback
import warnings
from collections.abc import Callable

import pytest


def in_a_child(work: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """`work` in a forked child; it must say True, and in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
        child = os.fork()
    if child == 0:
        status = 3
        faulthandler.dump_traceback_later(0.8 * seconds, exit=True)
        try:
            status = 0 if work() else 1
        except BaseException:  # noqa: BLE001 - the parent's stack must not be unwound in the child
            traceback.print_exc()
        finally:
            os._exit(status)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
