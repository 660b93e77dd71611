"""An output file that survives being killed: records in input order, one per line, with a digest of their origin
beside it.

    OUT                   the records; a half-written last line is cut off when the run goes on
    OUT.turnguard.json    what OUT was begun from: the input's digest and the settings that shape a record
    OUT.again             while failed rows are asked again: their new records, in order
    OUT.merging           while those take their places; then it becomes OUT in one step

A record begins `{"row":N,"status":"judged"` (or "failed", "unreadable"), so that a scan need not parse it.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from turnguard.core.errors import TurnguardError

FLUSH_BYTES = 1 << 16
FLUSH_SECONDS = 0.5
_FAILED = b',"status":"failed"'


class LedgerError(TurnguardError):
    """The output cannot be used or written; one sentence. What was written stays."""


class Ledger:
    """One output file and its companions. `with Ledger(...) as ledger:` holds a lock on it."""

    def __init__(self, path: Path, origin: Mapping[str, Any]) -> None:
        self.path = path
        self.origin = dict(origin)
        self.done = 0
        self._digest_path = path.with_name(path.name + ".turnguard.json")
        self._again = path.with_name(path.name + ".again")
        self._merging = path.with_name(path.name + ".merging")
        self._out: _Appender | None = None

    def __enter__(self) -> Ledger:
        self._claim()
        self._out = _Appender(self.path)
        self.done = self._out.records
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            self._out.close()

    def append(self, record: bytes) -> None:
        """Add the next record (a line with its line break)."""
        assert self._out is not None  # noqa: S101 - inside `with`
        self._out.append(record)
        self.done += 1

    def flush(self) -> None:
        """Write everything to the file."""
        assert self._out is not None  # noqa: S101 - inside `with`
        self._out.flush()

    # ------------------------------------------------------------ asking again

    def again(self, failed_places: array[int]) -> Again:
        """The second records of the failed rows, where an interrupted run left off."""
        return Again(self._again, self.path, failed_places)

    def merge(self, places: array[int]) -> None:
        """Put the second records into place: write a new file, then rename it."""
        self.flush()
        assert self._out is not None  # noqa: S101 - inside `with`
        with (
            guarded(self._merging),
            self.path.open("rb") as old,
            self._again.open("rb") as new,
            self._merging.open("wb") as merged,
        ):
            wanted = iter(places)
            due = next(wanted, None)
            for place, line in enumerate(old):
                if place == due:
                    merged.write(new.readline())
                    due = next(wanted, None)
                else:
                    merged.write(line)
            merged.flush()
            os.fsync(merged.fileno())
        self._out.close()
        self._merging.replace(self.path)
        self._again.unlink()
        self._out = _Appender(self.path)

    def tidy(self) -> None:
        """Remove leftovers of a run that was killed just after merging."""
        for stale in (self._again, self._merging):
            stale.unlink(missing_ok=True)

    def lines(self) -> Iterator[bytes]:
        """Every record so far."""
        self.flush()
        with self.path.open("rb") as file:
            yield from file

    # ------------------------------------------------------------ whose file is it?

    def _claim(self) -> None:
        """Resume our own file, start a new one, or refuse a file of other origin."""
        if self.path.exists():
            found = self._found()
            if found is None:
                raise LedgerError(f"{self.path} exists and was not begun by this command; it is left as it is")
            for key, value in self.origin.items():
                if found.get(key) != value:
                    what = _WHAT.get(key, key)
                    raise LedgerError(f"{self.path} was begun with {what}; it is left as it is: choose another file")
            return
        self.tidy()
        with guarded(self._digest_path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beginning = self._digest_path.with_name(self._digest_path.name + ".tmp")
            beginning.write_text(json.dumps(self.origin, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            beginning.replace(self._digest_path)

    def _found(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._digest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


_WHAT = {
    "input": "another input, or the input has changed since",
    "settings": "other settings (model, policy, media or limits)",
    "format": "another version of this command",
    "model": "another model behind the endpoint",
    "evidence": "--verdicts, or without it, unlike now",
}


def failed(record: bytes) -> bool:
    """Whether a record is one of a moderator failure."""
    return _FAILED in record[:64]


class Again:
    """Second records of failed rows, appended in order; those that an interrupted run already has are kept."""

    def __init__(self, path: Path, first: Path, places: array[int]) -> None:
        self._path = path
        if path.exists() and not self._continues(path, first, places):
            path.unlink()  # it belongs to a merge that was finished
        self._out = _Appender(path)
        self.done = self._out.records

    @staticmethod
    def _continues(path: Path, first: Path, places: array[int]) -> bool:
        with path.open("rb") as mine, first.open("rb") as old:
            wanted = iter(places)
            due = next(wanted, None)
            for place, line in enumerate(old):
                if place != due:
                    continue
                due = next(wanted, None)
                again = mine.readline()
                if not again.endswith(b"\n"):
                    return True
                if _row(again) != _row(line):
                    return False
            return not mine.readline()

    def append(self, record: bytes) -> None:
        """Add the next second record."""
        self._out.append(record)
        self.done += 1

    def close(self) -> None:
        """Write what is left."""
        self._out.close()


def _row(record: bytes) -> bytes:
    return record.split(b",", 1)[0]


class _Appender:
    """Appends whole lines in blocks. A half-written last line is cut off first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with guarded(path):
            self._file: IO[bytes] = path.open("ab+", buffering=0)
        _lock(self._file, path)
        self.records = self._mend()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._flushed = time.monotonic()

    def _mend(self) -> int:
        self._file.seek(0)
        records = 0
        whole = 0
        read = 0
        while block := self._file.read(1 << 20):
            records += block.count(b"\n")
            last = block.rfind(b"\n")
            if last >= 0:
                whole = read + last + 1
            read += len(block)
        if whole != read:
            self._file.truncate(whole)
        return records

    def append(self, record: bytes) -> None:
        self._waiting.append(record)
        self.records += 1
        self._bytes += len(record)
        if self._bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        block = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        self._bytes = 0
        self._flushed = time.monotonic()
        with guarded(self._path, f"row {self.records:,}: "):
            while block:  # a nearly full disk takes a part of it
                block = block[self._file.write(block) :]

    def close(self) -> None:
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()


class guarded:  # noqa: N801 - reads as a statement: with guarded(path)
    """Turn an error of writing into a `LedgerError`."""

    def __init__(self, path: Path, where: str = "") -> None:
        self.path = path
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            why = error.strerror or type(error).__name__
            raise LedgerError(
                f"{self.where}{self.path} cannot be written: {why}; "
                "what is in it stays, and the same command goes on from there"
            ) from None


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock the output for one writer, where the system has advisory locks. A lock ends with its process."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise LedgerError(f"{path} is being written by another run") from None
