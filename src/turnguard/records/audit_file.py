"""The audit file: rotated, and written by one process at a time, since rotation is not coordinated between several."""

from __future__ import annotations

import logging.handlers
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from turnguard.core.errors import ConfigError
from turnguard.runtime.fork import watch

if TYPE_CHECKING:
    from turnguard.config.settings import AuditSettings

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be renamed by another process
    fcntl = None  # type: ignore[assignment]

TAKEN = "another process writes this file; with {pid} in its name each process has its own"


class Taken(ConfigError):
    """Another process writes the file."""


class AuditFile(logging.handlers.RotatingFileHandler):
    """A rotated file that this process alone writes; a lock beside it says so. Raises `OSError` and `Taken`."""

    users = 0

    def __init__(self, path: Path, settings: AuditSettings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock_file = _locked(path)
        try:
            super().__init__(path, maxBytes=settings.max_bytes, backupCount=settings.backups, encoding="utf-8")
        except OSError:
            self.unlock()
            raise

    def write(self, line: str) -> None:
        """Append a line. Raises `OSError`."""
        self.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        raise  # noqa: PLE0704 - logging calls this inside its own except block

    def close(self) -> None:
        super().close()
        if self._lock_file is not None:
            Path(f"{self.path}.lock").unlink(missing_ok=True)
        self.unlock()

    def unlock(self) -> None:
        """Let go of the lock. In a forked child that leaves the parent's alone."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _locked(path: Path) -> int | None:
    if fcntl is None:
        return None  # type: ignore[unreachable]
    name = Path(f"{path}.lock")
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if name.stat().st_ino == os.fstat(file).st_ino:
                return file
        except FileNotFoundError:
            pass  # whoever had it has just deleted it
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                raise Taken(f"audit.path: {path}: {TAKEN}") from None
            raise
        os.close(file)


class _Files:
    """The files of this process, one for each path however many guards write to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, AuditFile] = {}
        watch(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        inherited, self._open = self._open, {}
        for file in inherited.values():
            file.unlock()

    def take(self, settings: AuditSettings) -> AuditFile:
        path = named(settings)
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = AuditFile(path, settings)
            file.users += 1
            return file

    def give_back(self, file: AuditFile) -> None:
        with self._lock:
            file.users -= 1
            if file.users == 0:
                self._open.pop(file.path, None)
                file.close()

    def holds(self, path: Path) -> bool:
        return path in self._open


files = _Files()


def named(settings: AuditSettings) -> Path:
    """The file of this process."""
    assert settings.path is not None  # noqa: S101 - asked by its callers
    return Path(settings.path.replace("{pid}", str(os.getpid()))).absolute()


def refused(settings: AuditSettings, *, alone: bool = False) -> str | None:
    """Why the audit file cannot be written, in a sentence; None where it can, or where there is none. Leaves no trace.

    `alone`: another process that writes it is a reason, too.
    """
    if settings.path is None:
        return None
    path = named(settings)
    try:
        if path.exists():
            with path.open("a"):
                pass
            if (
                alone
                and Path(f"{path}.lock").exists()
                and not files.holds(path)
                and (lock := _locked(path)) is not None
            ):
                os.close(lock)
            return None
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return None
    except Taken as error:
        return error.problems[0]
    except OSError as error:
        return f"audit.path: {path}: {error.strerror or type(error).__name__}"
