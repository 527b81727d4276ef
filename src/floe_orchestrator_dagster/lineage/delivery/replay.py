"""What earlier processes left in the spool: delivered, or counted."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.lineage.delivery.attempts import Delivery, Outcome
from floe_orchestrator_dagster.lineage.delivery.segment import (
    REFUSED_SUFFIX,
    Segment,
    count_waiting,
    is_held,
    open_locked,
    waiting_files,
)
from floe_orchestrator_dagster.lineage.delivery.spool import directory_size
from floe_orchestrator_dagster.lineage.delivery.stored_line import is_event, read_line, text_of
from floe_orchestrator_dagster.product.trust import is_trusted, require_trusted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.backends import Backend
    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

# A cursor without its file is what a process leaves that is killed between removing the two.
_CURSORS = "*.sent"


@dataclass(frozen=True)
class Replayed:
    """What a replay did.

    Attributes:
        sent: Events that the backend acknowledged.
        refused: Events that it refuses for good; kept beside the spool.
        waiting: Events that still wait, those of running processes left out.
        reason: Why they wait, or why an event was refused; empty when neither.
    """

    sent: int = 0
    refused: int = 0
    waiting: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Refusal:
    """An event that the backend refused.

    Attributes:
        file: The file that it is in.
        refused_at: When (ISO 8601).
        reason: What the backend said.
    """

    file: str
    refused_at: str
    reason: str


@dataclass(frozen=True)
class SpoolStatus:
    """What is in a product's spool.

    Attributes:
        directory: The spool directory.
        waiting: Events of ended processes that are not delivered.
        oldest: When the oldest file of them was made (ISO 8601); None when nothing waits.
        in_progress: Events that a running process still delivers.
        refused: Events that the backend refused.
        size_bytes: What everything takes.
    """

    directory: str
    waiting: int
    oldest: str | None
    in_progress: int
    refused: Sequence[Refusal]
    size_bytes: int


def replay(directory: Path, backend: Backend, *, request_seconds: float, seconds: float) -> Replayed:
    """Deliver what ended processes left behind, oldest first, until nothing waits or the backend is down.

    Files of running processes are left to them, and files that another replay has taken, to it.

    Args:
        directory: The product's spool directory.
        backend: Where events go.
        request_seconds: How long one request may take.
        seconds: How long all of it may take.

    Raises:
        LineageError: The backend cannot be used.
        OSError: The spool cannot be read or written.
    """
    work = _Replay(directory, backend.open(request_seconds), time.monotonic() + seconds)
    # Name resolution knows no timeout: only a thread that can be left behind bounds it.
    thread = threading.Thread(target=work.run, name="lineage-replay", daemon=True)
    thread.start()
    thread.join(seconds)
    work.stop()
    thread.join(min(request_seconds, seconds))
    if work.error is not None:
        raise work.error
    work.leave()
    waiting = spool_status(directory).waiting
    return Replayed(work.sent, work.refused, waiting, work.delivery.reason if waiting or work.refused else "")


def retry_refused(directory: Path) -> int:
    """Put events that were refused back among those that wait, for when the backend or its URL was the fault.

    Returns:
        How many.

    Raises:
        OSError: The spool cannot be read or written.
    """
    require_trusted(directory)
    return sum(_retry(path, directory) for path in _refused_files(directory) if is_trusted(path))


def _refused_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"*{REFUSED_SUFFIX}") if path.is_file())


def _retry(path: Path, directory: Path) -> int:
    if is_held(path.with_name(path.name.removesuffix(REFUSED_SUFFIX) + ".jsonl")):
        return 0  # its process may be about to add to it
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
    """Read the event of a refusal; None when the line is cut off, as by a full disk or a crash, or has no event."""
    return (read_line(line) or {}).get("event")


def spool_status(directory: Path) -> SpoolStatus:
    """Count what is in a spool.

    Raises:
        OSError: It cannot be read.
    """
    files = [(path, count_waiting(path), is_held(path)) for path in waiting_files(directory)]
    left = [path for path, count, held in files if count and not held]
    return SpoolStatus(
        directory=str(directory),
        waiting=sum(count for _, count, held in files if not held),
        oldest=_created(left[0]) if left else None,
        in_progress=sum(count for _, count, held in files if held),
        refused=[refusal for path in _refused_files(directory) for refusal in _refusals(path)],
        size_bytes=directory_size(directory),
    )


class _Replay:
    """A replay under way, in a thread that can be left behind."""

    def __init__(self, directory: Path, sender: Sender, deadline: float) -> None:
        self.delivery = Delivery(sender)
        self.sent = self.refused = 0
        self.error: Exception | None = None
        self._sender = sender
        self._directory = directory
        self._deadline = deadline
        self._stopped = threading.Event()
        self._segments: list[Segment] = []
        self._held: Segment | None = None
        self._held_because = ""

    def stop(self) -> None:
        """Ask it to end after the request that is under way."""
        self._stopped.set()

    def leave(self) -> None:
        """Let go of the files at hand, whatever a request still does."""
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
        except Exception as error:  # noqa: BLE001  # raised where it was started
            self.error = error
        finally:
            self.leave()
            self._sender.close()

    def _deliver_file(self, segment: Segment) -> None:
        """Deliver a file; one that ends with an odd event is held until another shows whether the backend is up."""
        sent = self.sent
        self._segments.append(segment)
        self._deliver(segment)
        if self._held is not None and self.sent > sent:
            self._set_aside(self._held)
            self._held = None
        if self.delivery.suspicious and self._held is None:
            self._held, self._held_because = segment, self.delivery.reason
            self.delivery.start_anew()
        else:
            segment.close()

    def _set_aside(self, held: Segment) -> None:
        entry = held.peek()
        if entry is not None:
            held.set_aside(entry, self._held_because)
            self.refused += 1
            self._deliver(held)
        held.close()

    def _deliver(self, segment: Segment) -> None:
        while not self._over():
            outcome = self.delivery.attempt(segment)
            if outcome is Outcome.NOTHING_WAITS:
                return
            if not segment.closed:
                self.sent += outcome in {Outcome.SENT, Outcome.REFUSED_AND_SENT}
                self.refused += outcome in {Outcome.REFUSED, Outcome.REFUSED_AND_SENT}
            if outcome is Outcome.FAILED:
                self._stopped.wait(max(0.0, self.delivery.retry_at - time.monotonic()))

    def _over(self) -> bool:
        hopeless = self.delivery.down or self.delivery.retry_at > self._deadline
        return self._stopped.is_set() or hopeless or time.monotonic() >= self._deadline

    def _remove_lone_cursors(self) -> None:
        for cursor in self._directory.glob(_CURSORS):
            if cursor.is_file() and not cursor.with_suffix(".jsonl").exists():
                cursor.unlink(missing_ok=True)


def _created(path: Path) -> str:
    try:
        created = datetime.fromtimestamp(int(path.name.partition("-")[0]) / 1e9, tz=timezone.utc)
    except (OSError, OverflowError, ValueError):  # a name that somebody else gave
        created = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    return created.isoformat(timespec="seconds")


def _refusals(path: Path) -> list[Refusal]:
    refusals = []
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            record = read_line(line)
            if record is not None:  # else cut off by a full disk or a crash
                refusals.append(Refusal(str(path), text_of(record, "refused_at"), text_of(record, "reason")))
    return refusals
