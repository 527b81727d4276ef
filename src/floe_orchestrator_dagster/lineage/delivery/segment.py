"""A file of the spool: one event per line, the position of delivery, and the events that a backend refused.

    <created>-<run>-<token>.jsonl            one event per line, appended by the process that created the file
    <created>-<run>-<token>.sent             number of delivered bytes
    <created>-<run>-<token>.refused.jsonl    events that the backend refuses, each with the reason

A process that appends to a file or delivers it holds the file's lock (flock). The kernel releases the lock when the
process dies. NFS locks only files that are open for writing. Each line is a single write(): a killed process loses no
event, and a crash of the machine can only lose events that were not synced.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.lineage.delivery.json_line import is_event, read_line
from floe_orchestrator_dagster.product.files import is_trusted, require_trusted

if TYPE_CHECKING:
    from pathlib import Path

REFUSED_SUFFIX = ".refused.jsonl"
_SUFFIX = ".jsonl"
_NO_EVENT = "the line is not an OpenLineage event"
_CUT_OFF = "the line is incomplete, because of a crash of the machine or a full disk"
_CHUNK = 64 * 1024
_NEW_FILE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True)
class Entry:
    """A pending event.

    Attributes:
        line: The event as JSON, without the newline.
        end: Position in the file after the event.
    """

    line: bytes
    end: int


class Segment:
    """A spool file that this process has locked. Thread-safe.

    A request that exceeds its timeout continues in a thread that nothing waits for. The file is closed even while that
    thread still uses it.
    """

    def __init__(self, path: Path, descriptor: int, *, being_written: bool) -> None:
        """Initialize an open file; call :meth:`create` or :meth:`take` instead."""
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._being_written = being_written
        self._cursor = path.with_suffix(".sent")
        self._delivered = _read_cursor(self._cursor, self.size)
        self._cursor_descriptor: int | None = None
        self._unsynced = False
        self._lock = threading.RLock()
        self.closed = False

    @classmethod
    def create(cls, directory: Path, run: str) -> Segment:
        """Create a file for appending.

        Raises:
            OSError: The file cannot be created or locked.
        """
        while True:
            name = f"{time.time_ns():020d}-{run or 'none'}-{secrets.token_hex(4)}{_SUFFIX}"
            descriptor = open_locked(directory / name, _NEW_FILE)
            if descriptor is not None:
                segment = cls(directory / name, descriptor, being_written=True)
                # Write the cursor now, so that it can be overwritten in place when the disk is full later.
                segment.advance(Entry(b"", 0))
                return segment
            # A replay found the empty file before it was locked, and removes it.

    @classmethod
    def take(cls, path: Path) -> Segment | None:
        """Take over a file of an ended process; None when a process has locked it, or when it does not exist."""
        try:
            descriptor = open_locked(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        return None if descriptor is None else cls(path, descriptor, being_written=False)

    def append(self, line: bytes) -> None:
        """Append one event.

        Raises:
            OSError: The file is closed, or it cannot be written; then its content is unchanged.
        """
        with self._lock:
            if self.closed:
                raise OSError(f"{self.path} is closed")
            write_line(self._descriptor, line, self.size)
            self.size += len(line) + 1
            self._unsynced = True

    def peek(self) -> Entry | None:
        """Return the first undelivered event; None when there is none."""
        with self._lock:
            while (entry := self._read(self._delivered)) is not None:
                if self._being_written or is_event(read_line(entry.line)):
                    return entry
                if entry.line.strip():
                    self.store_refused(entry, _NO_EVENT if entry.end < self.size else _CUT_OFF)
                else:
                    self.advance(entry)
            return None

    def peek_after(self, entry: Entry) -> Entry | None:
        """Return the event after ``entry``; None when there is none."""
        with self._lock:
            return self._read(entry.end)

    def _read(self, start: int) -> Entry | None:
        if self.closed:
            return None
        found = bytearray()
        while chunk := os.pread(self._descriptor, _CHUNK, start + len(found)):
            line, newline, _ = chunk.partition(b"\n")
            found += line
            if newline:
                return Entry(bytes(found), start + len(found) + 1)
        if not found or self._being_written:
            return None
        return Entry(bytes(found), start + len(found))

    def advance(self, entry: Entry) -> None:
        """Record that all events up to and including ``entry`` are processed."""
        with self._lock:
            if self.closed:  # called by an abandoned thread
                return
            self._delivered = entry.end
            # If the cursor cannot be written, a replay sends these events again. This process continues.
            with suppress(OSError):
                if self._cursor_descriptor is None:
                    self._cursor_descriptor = os.open(self._cursor, os.O_WRONLY | os.O_CREAT, mode=0o600)
                os.pwrite(self._cursor_descriptor, b"%020d\n" % entry.end, 0)

    def store_refused(self, entry: Entry, reason: str) -> None:
        """Append an event that the backend refuses to the file of refused events, and continue after it."""
        with self._lock:
            if self.closed:
                return
            record = {
                "refused_at": datetime.now(tz=timezone.utc).isoformat(),
                "reason": reason,
                "event": orjson.Fragment(entry.line) if _is_json(entry.line) else entry.line.decode(errors="replace"),
            }
            path = self.path.with_suffix(REFUSED_SUFFIX)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            self.advance(entry)

    def sync(self) -> None:
        """Write appended events through to the disk (fsync)."""
        with self._lock:
            if self.closed or not self._unsynced:
                return
            self._unsynced = False
            descriptor = os.dup(self._descriptor)
        try:  # without the lock, so that a slow disk does not delay append()
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file, and remove it when all its events are delivered."""
        with self._lock:
            if self.closed:
                return
            self._being_written = False
            try:
                if self.peek() is None:
                    # The cursor goes last: a file without a cursor would be delivered again.
                    self.path.unlink(missing_ok=True)
                    self._cursor.unlink(missing_ok=True)
            finally:
                self.closed = True
                os.close(self._descriptor)
                if self._cursor_descriptor is not None:
                    os.close(self._cursor_descriptor)


def write_line(descriptor: int, line: bytes, size: int | None = None) -> None:
    """Append a line to a file.

    Args:
        descriptor: The file, open for appending.
        line: The line, without its newline.
        size: Current size of the file in bytes; None to look it up.

    Raises:
        OSError: The line cannot be written. The content of the file is unchanged.
    """
    before = os.fstat(descriptor).st_size if size is None else size
    content = memoryview(line + b"\n")
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def waiting_files(directory: Path, run: str = "") -> list[Path]:
    """List the spool's files of this user, oldest first; with ``run``, only those of that run.

    Raises:
        OSError: Other users can write to the directory.
    """
    require_trusted(directory)
    pattern = f"*-{run}-*{_SUFFIX}" if run else f"*{_SUFFIX}"
    found = (path for path in directory.glob(pattern) if not path.name.endswith(REFUSED_SUFFIX))
    return sorted(path for path in found if is_trusted(path) and path.is_file())


def count_waiting(path: Path) -> int:
    """Count the undelivered events in a file; 0 when it does not exist."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(_read_cursor(path.with_suffix(".sent"), os.fstat(file.fileno()).st_size))
        return sum(1 for _ in file)
    return 0


def is_locked(path: Path) -> bool:
    """Return whether a process has locked the file, to append to it or to deliver it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def open_locked(path: Path, flags: int) -> int | None:
    """Open and lock a file; None when another process has locked it or just removed it."""
    descriptor = os.open(path, flags, mode=0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _read_cursor(path: Path, size: int) -> int:
    """Return the number of delivered bytes; 0 when the cursor is missing, not valid, or beyond ``size``."""
    try:
        delivered = int(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return 0
    return delivered if 0 <= delivered <= size else 0


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
