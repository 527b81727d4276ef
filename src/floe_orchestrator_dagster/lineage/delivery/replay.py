"""Replay and status of events that ended processes have left in the spool."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.lineage.delivery.attempts import AttemptResult, Delivery
from floe_orchestrator_dagster.lineage.delivery.json_line import is_event, read_line, text_of
from floe_orchestrator_dagster.lineage.delivery.segment import (
    REFUSED_SUFFIX,
    Segment,
    count_waiting,
    is_locked,
    open_locked,
    waiting_files,
)
from floe_orchestrator_dagster.lineage.delivery.spool import directory_size
from floe_orchestrator_dagster.product.files import is_trusted, require_trusted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.backends import Backend
    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

# A process that is killed while it removes a file and its cursor can leave the cursor behind.
_CURSORS = "*.sent"


@dataclass(frozen=True)
class ReplayResult:
    """Counts of a replay.

    Attributes:
        sent: Events that the backend acknowledged.
        refused: Events that the backend permanently refuses; they are kept in separate files.
        waiting: Events that are still pending, without those of running processes.
        reason: Why events are pending or were refused; empty when there are none.
    """

    sent: int = 0
    refused: int = 0
    waiting: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Refusal:
    """An event that the backend refused.

    Attributes:
        file: The file with the event.
        refused_at: Time of the refusal (ISO 8601).
        reason: The backend's message.
    """

    file: str
    refused_at: str
    reason: str


@dataclass(frozen=True)
class SpoolStatus:
    """Content of a product's spool.

    Attributes:
        directory: The spool directory.
        waiting: Undelivered events of ended processes.
        oldest: Creation time of the oldest file with such events (ISO 8601); None without any.
        in_progress: Undelivered events of running processes.
        refused: Events that the backend refused.
        size_bytes: Total size of all files.
    """

    directory: str
    waiting: int
    oldest: str | None
    in_progress: int
    refused: Sequence[Refusal]
    size_bytes: int


def replay(directory: Path, backend: Backend, *, request_seconds: float, seconds: float) -> ReplayResult:
    """Deliver pending events of ended processes, oldest first, until none is left or the backend is down.

    Files that a running process or another replay has locked are skipped.

    Args:
        directory: The product's spool directory.
        backend: The backend.
        request_seconds: Timeout of one request.
        seconds: Timeout of the whole replay.

    Raises:
        LineageError: The backend cannot be used.
        OSError: The spool cannot be read or written.
    """
    work = _Replay(directory, backend.open(request_seconds), time.monotonic() + seconds)
    # Name resolution has no timeout. Therefore the replay runs in a thread that can be abandoned.
    thread = threading.Thread(target=work.run, name="lineage-replay", daemon=True)
    thread.start()
    thread.join(seconds)
    work.stop()
    thread.join(min(request_seconds, seconds))
    if work.error is not None:
        raise work.error
    work.leave()
    waiting = spool_status(directory).waiting
    return ReplayResult(work.sent, work.refused, waiting, work.delivery.reason if waiting or work.refused else "")


def retry_refused(directory: Path) -> int:
    """Make refused events pending again, for a backend or URL that has been corrected.

    Returns:
        Number of these events.

    Raises:
        OSError: The spool cannot be read or written.
    """
    require_trusted(directory)
    return sum(_retry(path, directory) for path in _refused_files(directory) if is_trusted(path))


def _refused_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"*{REFUSED_SUFFIX}") if path.is_file())


def _retry(path: Path, directory: Path) -> int:
    if is_locked(path.with_name(path.name.removesuffix(REFUSED_SUFFIX) + ".jsonl")):
        return 0  # its process may add refused events
    try:
        descriptor = open_locked(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    if descriptor is None:
        return 0
    with os.fdopen(descriptor, "rb") as file:
        lines = file.read().splitlines()
        events = [_event_in(line) for line in lines]
        whole = [orjson.dumps(event) for event in events if is_event(event)]
        if whole:
            segment = Segment.create(directory, "")
            for event in whole:
                segment.append(event)
            segment.close()
            rest = [line for line, event in zip(lines, events, strict=True) if not is_event(event)]
            path.with_suffix(".rest").write_bytes(b"".join(line + b"\n" for line in rest))
            path.with_suffix(".rest").replace(path)
        if not lines or len(whole) == len(lines):
            path.unlink()
    return len(whole)


def _event_in(line: bytes) -> object:
    """Return the event of a refusal; None when the line has none, or is incomplete after a crash or on a full disk."""
    return (read_line(line) or {}).get("event")


def spool_status(directory: Path) -> SpoolStatus:
    """Count the events in a spool.

    Raises:
        OSError: The spool cannot be read.
    """
    files = [(path, count_waiting(path), is_locked(path)) for path in waiting_files(directory)]
    left = [path for path, count, locked in files if count and not locked]
    return SpoolStatus(
        directory=str(directory),
        waiting=sum(count for _, count, locked in files if not locked),
        oldest=_created(left[0]) if left else None,
        in_progress=sum(count for _, count, locked in files if locked),
        refused=[refusal for path in _refused_files(directory) for refusal in _refusals(path)],
        size_bytes=directory_size(directory),
    )


class _Replay:
    """A replay in a thread that can be abandoned."""

    def __init__(self, directory: Path, sender: Sender, deadline: float) -> None:
        self.delivery = Delivery(sender)
        self.sent = self.refused = 0
        self.error: Exception | None = None
        self._sender = sender
        self._directory = directory
        self._deadline = deadline
        self._stopped = threading.Event()
        self._segments: list[Segment] = []
        self._deferred: Segment | None = None
        self._deferral_reason = ""

    def stop(self) -> None:
        """Stop after the current request."""
        self._stopped.set()

    def leave(self) -> None:
        """Close all files, even while a request runs."""
        for segment in self._segments:
            segment.close()

    def run(self) -> None:
        try:
            for path in waiting_files(self._directory):
                segment = Segment.take(path)
                if segment is not None:
                    self._deliver_file(segment)
                if self._over():
                    return
            self._remove_lone_cursors()
        except Exception as error:  # noqa: BLE001  # the caller raises it
            self.error = error
        finally:
            self.leave()
            self._sender.close()

    def _deliver_file(self, segment: Segment) -> None:
        """Deliver a file. If its last event may be a poison event, defer it until another file can be delivered."""
        sent = self.sent
        self._segments.append(segment)
        self._deliver(segment)
        if self._deferred is not None and self.sent > sent:
            self._store_refused(self._deferred)
            self._deferred = None
        if self.delivery.may_be_poison_event and self._deferred is None:
            self._deferred, self._deferral_reason = segment, self.delivery.reason
            self.delivery.reset_failures()
        else:
            segment.close()

    def _store_refused(self, deferred: Segment) -> None:
        entry = deferred.peek()
        if entry is not None:
            deferred.store_refused(entry, self._deferral_reason)
            self.refused += 1
            self._deliver(deferred)
        deferred.close()

    def _deliver(self, segment: Segment) -> None:
        while not self._over():
            result = self.delivery.attempt(segment)
            if result is AttemptResult.QUEUE_EMPTY:
                return
            if not segment.closed:
                self.sent += result in {AttemptResult.SENT, AttemptResult.REFUSED_AND_SENT}
                self.refused += result in {AttemptResult.REFUSED, AttemptResult.REFUSED_AND_SENT}
            if result is AttemptResult.FAILED:
                self._stopped.wait(max(0.0, self.delivery.retry_at - time.monotonic()))

    def _over(self) -> bool:
        cannot_finish = self.delivery.down or self.delivery.retry_at > self._deadline
        return self._stopped.is_set() or cannot_finish or time.monotonic() >= self._deadline

    def _remove_lone_cursors(self) -> None:
        for cursor in self._directory.glob(_CURSORS):
            if cursor.is_file() and not cursor.with_suffix(".jsonl").exists():
                cursor.unlink(missing_ok=True)


def _created(path: Path) -> str:
    try:
        created = datetime.fromtimestamp(int(path.name.partition("-")[0]) / 1e9, tz=timezone.utc)
    except (OSError, OverflowError, ValueError):  # not a file name of this package
        created = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    return created.isoformat(timespec="seconds")


def _refusals(path: Path) -> list[Refusal]:
    refusals = []
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            record = read_line(line)
            if record is not None:  # a line can be incomplete after a crash or on a full disk
                refusals.append(Refusal(str(path), text_of(record, "refused_at"), text_of(record, "reason")))
    return refusals
