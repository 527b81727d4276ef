"""What hands one event to a backend, and the two ways in which that fails."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

# The event itself is refused, and would be again; whatever else is wrong, another time may do.
_REFUSED_FOR_GOOD = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_LONGEST_DETAIL = 300
# A wait of years is a mistake of the backend, and more than a thread can be asked to wait.
_LONGEST_WAIT_SECONDS = 3600.0


class Sender(Protocol):
    """Hands single events to one backend; used by one thread at a time."""

    def send(self, line: bytes) -> None:
        """Deliver one event, given as JSON; return once the backend has acknowledged it.

        Raises:
            EventRefusedError: The backend will never take this event.
            BackendUnavailableError: It may take it later.
        """

    def close(self) -> None:
        """Let go of connections."""


class EventRefusedError(Exception):
    """The backend refuses this event for good: 400, 413 or 422."""


class BackendUnavailableError(Exception):
    """The backend did not take the event this time.

    Attributes:
        retry_after: Seconds that the backend asked to wait; None when it did not say.
        server_error: Whether it was reached and failed (5xx, or a connection that it cut), as one odd event may cause.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, server_error: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.server_error = server_error


def check_answer(status: int, retry_after: str | None, detail: str) -> None:
    """Take an HTTP answer for what it means: any 2xx is an acknowledgement.

    Args:
        status: The HTTP status; a redirect is none, because clients turn the POST behind it into a GET.
        retry_after: The header of that name.
        detail: What the backend said, shown in the reason.

    Raises:
        EventRefusedError: 400, 413, 422.
        BackendUnavailableError: Anything else that is not 2xx.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    said = " ".join(detail.split())[:_LONGEST_DETAIL]
    reason = f"HTTP {status}" + (f": {said}" if said else "")
    if status in _REFUSED_FOR_GOOD:
        raise EventRefusedError(reason)
    server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    raise BackendUnavailableError(reason, _seconds(retry_after), server_error=server_error)


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date (RFC 9110, 10.2.3); an hour at most, None for others."""
    text = (retry_after or "").strip()
    try:
        seconds = float(text) if text.isascii() and text.isdecimal() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):  # TypeError: Python 3.10's for a text that is not a date at all
        return None
    return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)


def _seconds_until(http_date: str) -> float:
    date = parsedate_to_datetime(http_date)
    aware = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return (aware - datetime.now(tz=timezone.utc)).total_seconds()
