"""One attempt at a time: what an answer of the backend means for the events that wait, and when to try again."""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError

if TYPE_CHECKING:
    from floe_orchestrator_dagster.lineage.delivery.segment import Entry
    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

# After so many failures in a row the backend counts as down: it is asked again in growing intervals.
FAILURES_UNTIL_DOWN = 3
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Waiting(Protocol):
    """Events in the order in which they have to be delivered."""

    def peek(self) -> Entry | None:
        """Return the oldest event."""

    def peek_after(self, entry: Entry) -> Entry | None:
        """Return the event after the oldest one, where it is at hand."""

    def advance(self, entry: Entry) -> None:
        """Forget everything up to and with ``entry``."""

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep an event that the backend refuses elsewhere, and go on after it."""


class Outcome(Enum):
    """What became of an attempt."""

    NOTHING_WAITS = auto()
    SENT = auto()
    REFUSED = auto()
    REFUSED_AND_SENT = auto()
    LOST = auto()
    FAILED = auto()


class Delivery:
    """Delivers waiting events to one backend, oldest first, and remembers how the backend is doing.

    Attributes:
        attempts: Answers, and failures to get one, so far.
        failures: Attempts that failed in a row.
        reason: Why the last attempt failed, or the last event was refused; empty when none did.
        retry_at: The instant (``time.monotonic``) from which another attempt makes sense.
        told_to_wait: Whether it was the backend that said how long to wait.
    """

    def __init__(self, sender: Sender) -> None:
        """Deliver by ``sender``."""
        self._sender = sender
        self.attempts = 0
        self.failures = 0
        self.reason = ""
        self.retry_at = float("-inf")
        self.told_to_wait = False
        self._reached = False

    @property
    def suspicious(self) -> bool:
        """Whether one odd event alone may be why the backend counts as down."""
        return self.down and self._reached

    @property
    def down(self) -> bool:
        """Whether the backend counts as down."""
        return self.failures >= FAILURES_UNTIL_DOWN

    def attempt(self, waiting: Waiting) -> Outcome:
        """Try to deliver the oldest event that waits.

        Raises:
            OSError: The spool cannot be read or written.
        """
        entry = waiting.peek()
        if entry is None:
            return Outcome.NOTHING_WAITS
        try:
            self._sender.send(entry.line)
        except EventRefusedError as error:
            self._backend_answers()
            self.reason = str(error)
            waiting.set_aside(entry, self.reason)
            return Outcome.REFUSED
        except BackendUnavailableError as error:
            self._backend_fails(error)
            return self._pass_by(waiting, entry)
        waiting.advance(entry)
        self._backend_answers()
        return Outcome.SENT

    def try_now(self) -> None:
        """Forget the pause, unless the backend asked for it."""
        if not self.told_to_wait:
            self.retry_at = float("-inf")

    def start_anew(self) -> None:
        """Forget earlier failures, for events that had no part in them."""
        self.failures = 0
        self.try_now()

    def _pass_by(self, waiting: Waiting, entry: Entry) -> Outcome:
        """Set an event aside at which the backend fails again and again while it takes the next one."""
        following = waiting.peek_after(entry) if self.suspicious else None
        if following is None:
            return Outcome.FAILED
        try:
            self._sender.send(following.line)
        except (BackendUnavailableError, EventRefusedError):
            return Outcome.FAILED
        waiting.set_aside(entry, self.reason)
        waiting.advance(following)
        self._backend_answers()
        return Outcome.REFUSED_AND_SENT

    def postpone(self, reason: str) -> None:
        """Note trouble that is not the backend's, and try again in a while."""
        self.reason = reason
        self.retry_at = time.monotonic() + 1

    def _backend_answers(self) -> None:
        self.attempts += 1
        self.failures = 0
        self.retry_at = float("-inf")
        self.told_to_wait = False

    def _backend_fails(self, error: BackendUnavailableError) -> None:
        self.attempts += 1
        self.failures += 1
        self.reason = str(error)
        self._reached = error.server_error
        self.told_to_wait = error.retry_after is not None
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1))
        self.retry_at = time.monotonic() + (pause if error.retry_after is None else error.retry_after)
