"""What a child may use, set by itself before it reads anything. Unix only; elsewhere only the deadline bounds it."""

from __future__ import annotations

import contextlib
import signal

_DESCRIPTORS = 64
_SPARE = 5  # seconds of CPU beyond the deadline: the parent kills first, unless it is gone


def confine(memory: int) -> None:
    """Bound the address space to `memory` bytes, forbid files and core dumps, and ignore the terminal's interrupt.

    The parent decides about interrupts. macOS does not enforce the bound on memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        _lower(kind, most)


def allow_seconds(seconds: float) -> None:
    """Let the next job use so many seconds of CPU: the kernel ends the child then, even if the parent is gone."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + seconds) + _SPARE
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _lower(kind: int, most: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that does not know the limit
        resource.setrlimit(kind, (most, most))
