"""Queue of pending events: those of the run's earlier processes, this process's spool, and events in memory."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.attempts import AttemptResult
from floe_orchestrator_dagster.lineage.delivery.segment import Entry, Segment, waiting_files
from floe_orchestrator_dagster.lineage.delivery.spool import SpoolFullError, filename_run_id

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.attempts import Delivery
    from floe_orchestrator_dagster.lineage.delivery.spool import Spool

_MOST_IN_MEMORY = 10_000


class EventQueue:
    """Pending events in the order of their delivery."""

    def __init__(self, spool: Spool, directory: Path, run: str) -> None:
        """Store events in ``spool``. With a ``run``, pending events of its earlier steps in ``directory`` go first."""
        self._spool = spool
        self._directory = directory
        self._run = filename_run_id(run)
        self._earlier: deque[Segment] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._memory = _Memory()
        self._reported: set[str] = set()

    @property
    def in_memory(self) -> int:
        """Number of events that are not on disk."""
        return len(self._memory)

    def append(self, line: bytes) -> list[str]:
        """Store an event on disk, or in memory while the disk cannot be written.

        Returns:
            Warnings for the log; each warning is returned once.

        Raises:
            OSError: Neither disk nor memory has room.
        """
        warning = ""
        if not self._memory:  # events must not overtake those in memory
            try:
                self._spool.append(line)
            except OSError as error:
                warning = _storage_warning(error, self._directory)
            else:
                full = f"Lineage: {self._directory} is nearly full (lineage.spool_max_mb)."
                fix = (
                    " New events are dropped once it is full. "
                    "Send pending events with `floe-dagster lineage replay`, or raise the limit."
                )
                return self._report_once(full + fix) if self._spool.nearly_full else []
        self._memory.append(line)
        return self._report_once(warning) if warning else []

    def attempt(self, delivery: Delivery) -> tuple[AttemptResult, bool]:
        """Try to deliver the oldest event.

        Returns:
            The result, and whether this process emitted the event.

        Raises:
            OSError: The spool cannot be read or written.
        """
        while (segment := self._first_earlier()) is not None:
            if segment.peek() is not None:
                return self._attempt_earlier(segment, delivery), False
            self._release_earlier(segment)
        result = delivery.attempt(self._spool)
        if result is AttemptResult.QUEUE_EMPTY:
            result = delivery.attempt(self._memory)
            # A refused event cannot be stored, because the spool's disk was full before.
            result = AttemptResult.LOST if result is AttemptResult.REFUSED else result
        return result, True

    def _attempt_earlier(self, segment: Segment, delivery: Delivery) -> AttemptResult:
        result = delivery.attempt(segment)
        if result is AttemptResult.FAILED and delivery.may_be_poison_event:
            # It may be a poison event without a following one. A replay decides that; this run continues.
            self._release_earlier(segment)
            delivery.reset_failures()
        return result

    def _first_earlier(self) -> Segment | None:
        """Return the run's oldest earlier file. An abandoned thread opens none, because nothing would close it."""
        with self._lock:
            if self._earlier is None:
                self._earlier = deque() if self._closed else self._take_earlier()
            return self._earlier[0] if self._earlier else None

    def _release_earlier(self, segment: Segment) -> None:
        with self._lock:
            if self._earlier and self._earlier[0] is segment:
                self._earlier.popleft()
        segment.close()

    def sync(self) -> None:
        """Write pending events through to the disk (fsync)."""
        with suppress(OSError):
            self._spool.sync()

    def close(self) -> int:
        """Release the files for a replay; return the number of events that could not be stored."""
        lost = sum(not self._stored(line) for line in self._memory.drain())
        with suppress(OSError):
            self._spool.close()
        with self._lock:
            self._closed = True
            earlier = list(self._earlier or ())
        for segment in earlier:
            with suppress(OSError):
                segment.close()
        return lost

    def _stored(self, line: bytes) -> bool:
        try:
            self._spool.append(line)
        except OSError:
            return False
        return True

    def _take_earlier(self) -> deque[Segment]:
        found: deque[Segment] = deque()
        for path in waiting_files(self._directory, self._run) if self._run else []:
            with suppress(OSError):
                segment = Segment.take(path)
                if segment is not None:
                    found.append(segment)
        return found

    def _report_once(self, warning: str) -> list[str]:
        if warning in self._reported:
            return []
        self._reported.add(warning)
        return [warning]


def _storage_warning(error: OSError, directory: Path) -> str:
    if isinstance(error, SpoolFullError):
        what, fix = f"{error}", "Send pending events with `floe-dagster lineage replay`, or raise the limit."
    else:
        what = f"{directory} cannot be written ({error.strerror or error})"
        fix = "Let the user that runs Dagster write it, free disk space, or set lineage.spool_dir to another directory."
    return f"Lineage: {what}. Events are now sent from memory; those that the backend does not accept are lost. {fix}"


class _Memory:
    """A bounded queue of events in memory."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: bytes) -> None:
        if len(self._lines) >= _MOST_IN_MEMORY:
            raise SpoolFullError(f"{_MOST_IN_MEMORY} events are in memory already")
        self._lines.append(line)

    def drain(self) -> list[bytes]:
        lines = list(self._lines)
        self._lines.clear()
        return lines

    def peek(self) -> Entry | None:
        return Entry(self._lines[0], 0) if self._lines else None

    def peek_after(self, _entry: Entry) -> Entry | None:
        return None

    def advance(self, _entry: Entry) -> None:
        with suppress(IndexError):  # drained in the meantime
            self._lines.popleft()

    def store_refused(self, entry: Entry, _reason: str) -> None:
        self.advance(entry)
