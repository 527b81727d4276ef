"""What waits for delivery in this process: leftovers of the same run, its own spool, and what no disk would take."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.attempts import Outcome
from floe_orchestrator_dagster.lineage.delivery.segment import Entry, Segment, waiting_files
from floe_orchestrator_dagster.lineage.delivery.spool import SpoolFullError, run_in_name

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.attempts import Delivery
    from floe_orchestrator_dagster.lineage.delivery.spool import Spool

_MOST_IN_MEMORY = 10_000


class EventQueue:
    """Events in the order in which they have to be delivered."""

    def __init__(self, spool: Spool, directory: Path, run: str) -> None:
        """Queue events through ``spool``; with a ``run``, after what earlier steps of it left in ``directory``."""
        self._spool = spool
        self._directory = directory
        self._run = run_in_name(run)
        self._earlier: deque[Segment] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._memory = _Memory()
        self._said: set[str] = set()

    @property
    def in_memory(self) -> int:
        """Events that are not on disk."""
        return len(self._memory)

    def append(self, line: bytes) -> list[str]:
        """Store an event: on disk, or in memory while the disk does not take it.

        Returns:
            What an operator has to be told, each once.

        Raises:
            OSError: Neither has room.
        """
        trouble = ""
        if not self._memory:  # events must not overtake those in memory
            try:
                self._spool.append(line)
            except OSError as error:
                trouble = _trouble(error, self._directory)
            else:
                full = (
                    f"Lineage: {self._directory} is nearly full (lineage.spool_max_mb); events are dropped once it is."
                )
                fix = " Send what waits with `floe-dagster lineage replay`, or raise the limit."
                return self._once(full + fix) if self._spool.nearly_full else []
        self._memory.append(line)
        return self._once(trouble) if trouble else []

    def attempt(self, delivery: Delivery) -> tuple[Outcome, bool]:
        """Try to deliver the oldest event; tells what became of it, and whether it is one of this process.

        Raises:
            OSError: The spool cannot be read or written.
        """
        while (segment := self._first_earlier()) is not None:
            if segment.peek() is not None:
                return self._attempt_earlier(segment, delivery), False
            self._leave_earlier(segment)
        outcome = delivery.attempt(self._spool)
        if outcome is Outcome.NOTHING_WAITS:
            outcome = delivery.attempt(self._memory)
            # What is refused would be kept beside the spool, which is where there was no room.
            outcome = Outcome.LOST if outcome is Outcome.REFUSED else outcome
        return outcome, True

    def _attempt_earlier(self, segment: Segment, delivery: Delivery) -> Outcome:
        outcome = delivery.attempt(segment)
        if outcome is Outcome.FAILED and delivery.suspicious:
            # It may be an odd event without another one behind it: a replay finds out, and this run goes on.
            self._leave_earlier(segment)
            delivery.start_anew()
        return outcome

    def _first_earlier(self) -> Segment | None:
        """Return the oldest leftover; a thread that is left behind takes none, or nobody else could deliver it."""
        with self._lock:
            if self._earlier is None:
                self._earlier = deque() if self._closed else self._take_earlier()
            return self._earlier[0] if self._earlier else None

    def _leave_earlier(self, segment: Segment) -> None:
        with self._lock:
            if self._earlier and self._earlier[0] is segment:
                self._earlier.popleft()
        segment.close()

    def sync(self) -> None:
        """Bring what waits to the disk itself."""
        with suppress(OSError):
            self._spool.sync()

    def close(self) -> int:
        """Leave what waits on disk to whoever replays; returns how many events had no place there."""
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

    def _once(self, warning: str) -> list[str]:
        if warning in self._said:
            return []
        self._said.add(warning)
        return [warning]


def _trouble(error: OSError, directory: Path) -> str:
    if isinstance(error, SpoolFullError):
        what, fix = f"{error}", "Send what waits with `floe-dagster lineage replay`, or raise the limit."
    else:
        what = f"{directory} cannot be written ({error.strerror or error})"
        fix = "Let the user that runs Dagster write it, make room, or set lineage.spool_dir to another directory."
    return f"Lineage: {what}. Events are sent directly now: those that the backend does not take are lost. {fix}"


class _Memory:
    """Events that wait in memory, bounded."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: bytes) -> None:
        if len(self._lines) >= _MOST_IN_MEMORY:
            raise SpoolFullError(f"{_MOST_IN_MEMORY} events wait in memory already")
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
        with suppress(IndexError):  # drained meanwhile
            self._lines.popleft()

    def set_aside(self, entry: Entry, _reason: str) -> None:
        self.advance(entry)
