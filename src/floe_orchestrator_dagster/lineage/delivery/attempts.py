"""Delivery attempts: results, counts, retries with growing pauses, and handling of events that the backend rejects."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.lineage.delivery.segment import Entry
    from floe_orchestrator_dagster.lineage.delivery.sender import Sender


# After this many consecutive failures the backend counts as down. It is retried at growing intervals.
FAILURES_UNTIL_DOWN = 3
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class PendingEvents(Protocol):
    """Pending events in the order of their delivery."""

    def peek(self) -> Entry | None:
        """Return the oldest event."""

    def peek_after(self, entry: Entry) -> Entry | None:
        """Return the event after the oldest one; None when it is not available."""

    def advance(self, entry: Entry) -> None:
        """Remove all events up to and including ``entry``."""

    def store_refused(self, entry: Entry, reason: str) -> None:
        """Move an event that the backend refuses to a separate file, and continue after it."""


class AttemptResult(Enum):
    """The result of a delivery attempt."""

    QUEUE_EMPTY = auto()
    SENT = auto()
    REFUSED = auto()
    REFUSED_AND_SENT = auto()
    LOST = auto()
    FAILED = auto()


class Delivery:
    """Delivers pending events to one backend, oldest first, and tracks the backend's availability.

    Attributes:
        attempts: Number of attempts.
        failures: Number of consecutive failed attempts.
        reason: Why the last attempt failed or the last event was refused; empty when neither happened.
        retry_at: The earliest time (``time.monotonic``) of the next attempt.
        backend_set_pause: Whether the backend requested the current pause (``Retry-After``).
    """

    def __init__(self, sender: Sender) -> None:
        """Deliver events through ``sender``."""
        self._sender = sender
        self.attempts = 0
        self.failures = 0
        self.reason = ""
        self.retry_at = float("-inf")
        self.backend_set_pause = False
        self._reached = False

    @property
    def may_be_poison_event(self) -> bool:
        """Whether the oldest event may be the only reason that the backend counts as down."""
        return self.down and self._reached

    @property
    def down(self) -> bool:
        """Whether the backend counts as down."""
        return self.failures >= FAILURES_UNTIL_DOWN

    def attempt(self, pending: PendingEvents) -> AttemptResult:
        """Try to deliver the oldest pending event.

        Raises:
            OSError: The spool cannot be read or written.
        """
        entry = pending.peek()
        if entry is None:
            return AttemptResult.QUEUE_EMPTY
        try:
            self._sender.send(entry.line)
        except EventRefusedError as error:
            self._backend_answers()
            self.reason = str(error)
            pending.store_refused(entry, self.reason)
            return AttemptResult.REFUSED
        except BackendUnavailableError as error:
            self._backend_fails(error)
            return self._skip_poison_event(pending, entry)
        pending.advance(entry)
        self._backend_answers()
        return AttemptResult.SENT

    def try_now(self) -> None:
        """End the current pause, unless the backend requested it."""
        if not self.backend_set_pause:
            self.retry_at = float("-inf")

    def reset_failures(self) -> None:
        """Forget earlier failures, because the next events did not cause them."""
        self.failures = 0
        self.try_now()

    def _skip_poison_event(self, pending: PendingEvents, entry: Entry) -> AttemptResult:
        """Store an event as refused when the backend repeatedly fails at it but accepts the next one."""
        following = pending.peek_after(entry) if self.may_be_poison_event else None
        if following is None:
            return AttemptResult.FAILED
        try:
            self._sender.send(following.line)
        except (BackendUnavailableError, EventRefusedError):
            return AttemptResult.FAILED
        pending.store_refused(entry, self.reason)
        pending.advance(following)
        self._backend_answers()
        return AttemptResult.REFUSED_AND_SENT

    def postpone(self, reason: str) -> None:
        """Record a failure that the backend did not cause, and retry after a second."""
        self.reason = reason
        self.retry_at = time.monotonic() + 1

    def _backend_answers(self) -> None:
        self.attempts += 1
        self.failures = 0
        self.retry_at = float("-inf")
        self.backend_set_pause = False

    def _backend_fails(self, error: BackendUnavailableError) -> None:
        self.attempts += 1
        self.failures += 1
        self.reason = str(error)
        self._reached = error.server_error
        self.backend_set_pause = error.retry_after is not None
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1))
        self.retry_at = time.monotonic() + (pause if error.retry_after is None else error.retry_after)


@dataclass(frozen=True)
class Deliveries:
    """Counts of the events of one emitter.

    Attributes:
        emitted: All events.
        sent: Events that the backend acknowledged.
        refused: Events that the backend permanently refused. They are kept in separate files for inspection.
        pending: Events that are not delivered yet.
        spooled: Pending events on disk; a replay delivers them.
        dropped: Lost events, neither delivered nor stored.
    """

    emitted: int = 0
    sent: int = 0
    refused: int = 0
    pending: int = 0
    spooled: int = 0
    dropped: int = 0

    @property
    def complete(self) -> bool:
        """Whether the backend has every event."""
        return self.sent == self.emitted

    @property
    def counts(self) -> str:
        """The counts as text, such as ``40 sent, 2 spooled``."""
        counts = {"sent": self.sent, "spooled": self.spooled, "refused": self.refused, "dropped": self.dropped}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "sent")

    def locations(self, spool: Path) -> str:
        """Describe where undelivered events are, such as ``2 waiting in /spool, 1 lost``."""
        counts = {
            f"waiting in {spool}": self.spooled,
            "in memory only": self.pending - self.spooled,
            "refused and kept there": self.refused,
            "lost": self.dropped,
        }
        return ", ".join(f"{count} {place}" for place, count in counts.items() if count)
