"""Spool of one process: events on disk until their delivery, so that an outage or a killed process loses none."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.segment import Segment
from floe_orchestrator_dagster.product.files import require_trusted

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.segment import Entry

_SEGMENT_BYTES = 4 * 1024 * 1024
_NEARLY_FULL = 0.8
_MEASURE_EVERY_SECONDS = 5.0


class SpoolFullError(OSError):
    """The spool has reached its configured size."""


class Spool:
    """Files of this process in the product's spool directory, oldest first. Thread-safe.

    The size limit applies to the whole directory, including files of other processes. The size is measured every five
    seconds, so that several processes can exceed the limit in between. At the limit, new events are refused; stored
    events are never removed for new ones.
    """

    def __init__(self, directory: Path, max_bytes: int, run: str = "") -> None:
        """Use a directory, which is created with the first event.

        Args:
            directory: The product's spool directory.
            max_bytes: Maximum size of all files in it.
            run: Id of the Dagster run that emits the events.
        """
        self.directory = directory
        self._max_bytes = max_bytes
        self._run = filename_run_id(run)
        self._segments: deque[Segment] = deque()
        self._lock = threading.RLock()
        self._measured = 0
        self._measured_at = float("-inf")
        self._closed = False

    @property
    def nearly_full(self) -> bool:
        """Whether the spool has more than four fifths of its maximum size."""
        return self._used() > _NEARLY_FULL * self._max_bytes

    def append(self, line: bytes) -> None:
        """Store one event.

        Raises:
            SpoolFullError: The spool has reached its maximum size.
            OSError: The directory cannot be written.
        """
        with self._lock:
            if self._used() + len(line) >= self._max_bytes:
                raise SpoolFullError(f"{self.directory} has reached lineage.spool_max_mb")
            self._current(len(line)).append(line)
            self._measured += len(line) + 1

    def peek(self) -> Entry | None:
        """Return the oldest pending event; None when there is none."""
        with self._lock:
            while self._segments:
                entry = self._segments[0].peek()
                if entry is not None or len(self._segments) == 1:
                    return entry
                self._segments.popleft().close()
            return None

    def peek_after(self, entry: Entry) -> Entry | None:
        """Return the event after the oldest one, when the same file has it."""
        with self._lock:
            return self._segments[0].peek_after(entry) if self._segments else None

    def advance(self, entry: Entry) -> None:
        """Record that all events up to and including ``entry`` are processed."""
        with self._lock:
            if self._segments:
                self._segments[0].advance(entry)

    def store_refused(self, entry: Entry, reason: str) -> None:
        """Move an event that the backend refuses to a separate file, and continue after it."""
        with self._lock:
            if self._segments:
                self._segments[0].store_refused(entry, reason)

    def sync(self) -> None:
        """Write pending events through to the disk (fsync), in case the machine crashes before their delivery."""
        with self._lock:
            segments = list(self._segments)
        for segment in segments:
            segment.sync()

    def close(self) -> None:
        """Release files with pending events for a replay; remove delivered files."""
        with self._lock:
            self._closed = True
            while self._segments:
                self._segments.popleft().close()

    def _current(self, size: int) -> Segment:
        segment_bytes = min(_SEGMENT_BYTES, self._max_bytes // 4)
        if self._closed:
            raise OSError(f"{self.directory} is no longer in use by this process")
        if not self._segments or self._segments[-1].size + size > segment_bytes:
            make_private(self.directory)
            self._segments.append(Segment.create(self.directory, self._run))
        return self._segments[-1]

    def _used(self) -> int:
        now = time.monotonic()
        if now - self._measured_at > _MEASURE_EVERY_SECONDS:
            self._measured, self._measured_at = directory_size(self.directory), now
        return self._measured


def filename_run_id(run: str) -> str:
    """Return a run's id as it appears in file names."""
    return re.sub(r"[^A-Za-z0-9-]", "", run)


def make_private(directory: Path) -> None:
    """Create a directory that only this user can access; restrict an existing one of this user.

    Raises:
        OSError: The directory cannot be created, or other users can write to it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        directory.chmod(0o700)
    require_trusted(directory)


def directory_size(directory: Path) -> int:
    """Return the total size in bytes of all files in a spool directory."""
    if not directory.is_dir():
        return 0
    return sum(_size(path) for path in directory.iterdir())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # delivered and removed in the meantime
        return 0
