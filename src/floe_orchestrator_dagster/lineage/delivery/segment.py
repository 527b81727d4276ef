"""One file of the spool: events line by line, how far they are delivered, and those that a backend refused.

    <created>-<run>-<token>.jsonl            one event a line; appended to by the process that made it
    <created>-<run>-<token>.sent             how many bytes of it are delivered
    <created>-<run>-<token>.refused.jsonl    events of it that the backend refuses, each with the reason

Whoever appends to or delivers a file holds its lock (flock), which the kernel drops when the process dies. NFS locks a
file exclusively only where it is open for writing. Each line is one write(), so a process that is killed loses nothing;
only a machine that crashes can lose what was not synced.
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

from floe_orchestrator_dagster.lineage.delivery.stored_line import is_event, read_line
from floe_orchestrator_dagster.product.trust import is_trusted, require_trusted

if TYPE_CHECKING:
    from pathlib import Path

REFUSED_SUFFIX = ".refused.jsonl"
_SUFFIX = ".jsonl"
_NO_EVENT = "the line is not an OpenLineage event"
_CUT_OFF = "the line is cut off, as a crash of the machine or a full disk leaves it"
_CHUNK = 64 * 1024
_NEW_FILE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True)
class Entry:
    """One event that waits.

    Attributes:
        line: The event as JSON, without its newline.
        end: The byte in the file after it.
    """

    line: bytes
    end: int


class Segment:
    """A file of the spool whose lock this process holds; safe to use from several threads.

    A request that does not end in time leaves its thread behind: whoever waited for it closes the file, and the thread
    may use the file later, or close it again.
    """

    def __init__(self, path: Path, descriptor: int, *, being_written: bool) -> None:
        """Use :meth:`create` or :meth:`take`."""
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
        """Make a new file, to append to.

        Raises:
            OSError: It cannot be made or locked.
        """
        while True:
            name = f"{time.time_ns():020d}-{run or 'none'}-{secrets.token_hex(4)}{_SUFFIX}"
            descriptor = open_locked(directory / name, _NEW_FILE)
            if descriptor is not None:
                segment = cls(directory / name, descriptor, being_written=True)
                # Written now: on a disk that is full later, an acknowledgement can still be noted in its place.
                segment.advance(Entry(b"", 0))
                return segment
            # Someone who replays saw the empty file before it was locked, and is about to remove it.

    @classmethod
    def take(cls, path: Path) -> Segment | None:
        """Take over a file that no process holds any more; None when one does, or when it is gone."""
        try:
            descriptor = open_locked(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        return None if descriptor is None else cls(path, descriptor, being_written=False)

    def append(self, line: bytes) -> None:
        """Write one event at the end.

        Raises:
            OSError: The disk is full or the file system gave up; the file is as it was before. Or it is closed.
        """
        with self._lock:
            if self.closed:
                raise OSError(f"{self.path} is closed")
            write_line(self._descriptor, line, self.size)
            self.size += len(line) + 1
            self._unsynced = True

    def peek(self) -> Entry | None:
        """Return the first event that is not delivered; None when there is none."""
        with self._lock:
            while (entry := self._read(self._delivered)) is not None:
                if self._being_written or is_event(read_line(entry.line)):
                    return entry
                if entry.line.strip():
                    self.set_aside(entry, _NO_EVENT if entry.end < self.size else _CUT_OFF)
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
        """Remember that everything up to and with ``entry`` is done with."""
        with self._lock:
            if self.closed:  # left behind by whoever waited for a request that would not end
                return
            self._delivered = entry.end
            # Where it cannot be written, a replay sends again what this process has sent; now it goes on.
            with suppress(OSError):
                if self._cursor_descriptor is None:
                    self._cursor_descriptor = os.open(self._cursor, os.O_WRONLY | os.O_CREAT, mode=0o600)
                os.pwrite(self._cursor_descriptor, b"%020d\n" % entry.end, 0)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep an event that the backend will never take beside the others, and go on after it."""
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
        """Bring what was appended to the disk itself."""
        with self._lock:
            if self.closed or not self._unsynced:
                return
            self._unsynced = False
            descriptor = os.dup(self._descriptor)
        try:  # without the lock: it may take long, and nobody who appends waits for it
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the file, and remove it when nothing in it waits."""
        with self._lock:
            if self.closed:
                return
            self._being_written = False
            try:
                if self.peek() is None:
                    # In this order: a file without its cursor would be delivered again.
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
        size: Bytes that the file has now; looked up when left out.

    Raises:
        OSError: The disk is full or the file system gave up; the file is as it was before.
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
    """List the spool's files, oldest first; with ``run``, only those of that run. Those of other users are left out.

    Raises:
        OSError: The directory is not trusted: others could have written to it.
    """
    require_trusted(directory)
    pattern = f"*-{run}-*{_SUFFIX}" if run else f"*{_SUFFIX}"
    found = (path for path in directory.glob(pattern) if not path.name.endswith(REFUSED_SUFFIX))
    return sorted(path for path in found if is_trusted(path) and path.is_file())


def count_waiting(path: Path) -> int:
    """Count the events in a file that are not delivered; 0 when it is gone."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(_read_cursor(path.with_suffix(".sent"), os.fstat(file.fileno()).st_size))
        return sum(1 for _ in file)
    return 0


def is_held(path: Path) -> bool:
    """Tell whether a process appends to or delivers the file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def open_locked(path: Path, flags: int) -> int | None:
    """Open a file and lock it; None when another process holds it or has just removed it."""
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
    """Read how many bytes are delivered; none of a file of this size where the cursor makes no sense."""
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
