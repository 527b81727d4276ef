"""Interface of senders, the meaning of HTTP status codes, and the sender to several backends."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


# Statuses for an event that is not valid. With any other status, a retry can succeed.
_REFUSED_FOR_GOOD = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_LONGEST_DETAIL = 300
# A longer Retry-After is a mistake of the backend, and can exceed the maximum timeout of a thread.
_LONGEST_WAIT_SECONDS = 3600.0
# Number of events for which a composite remembers which backends have them. Two are necessary, because a delivery tries
# the oldest event and the next one.
_LINES_REMEMBERED = 8


class Sender(Protocol):
    """Sends single events to one backend. Not thread-safe."""

    def send(self, line: bytes) -> None:
        """Deliver one event as JSON; return after the backend has acknowledged it.

        Raises:
            EventRefusedError: The backend permanently refuses the event.
            BackendUnavailableError: A retry can succeed.
        """

    def close(self) -> None:
        """Close connections."""


class EventRefusedError(Exception):
    """The backend permanently refuses the event: HTTP status 400, 413 or 422."""


class BackendUnavailableError(Exception):
    """The backend did not accept the event; a retry can succeed.

    Attributes:
        retry_after: Seconds from the ``Retry-After`` header; None without one.
        server_error: Whether the server itself failed (status 5xx, or a closed connection). One event can cause that.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, server_error: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.server_error = server_error


def check_answer(status: int, retry_after: str | None, detail: str) -> None:
    """Return for any 2xx status, which acknowledges the event; raise for others.

    Args:
        status: The HTTP status. Redirects are errors, because clients follow them with a GET.
        retry_after: The ``Retry-After`` header.
        detail: The backend's message, shown in the reason.

    Raises:
        EventRefusedError: The status is 400, 413 or 422.
        BackendUnavailableError: The status is any other that is not 2xx.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    text = " ".join(detail.split())[:_LONGEST_DETAIL]
    reason = f"HTTP {status}" + (f": {text}" if text else "")
    if status in _REFUSED_FOR_GOOD:
        raise EventRefusedError(reason)
    server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    raise BackendUnavailableError(reason, _seconds(retry_after), server_error=server_error)


def _seconds(retry_after: str | None) -> float | None:
    """Parse a Retry-After header (RFC 9110, 10.2.3): seconds or an HTTP date. At most an hour; None if not valid."""
    text = (retry_after or "").strip()
    try:
        seconds = float(text) if text.isascii() and text.isdecimal() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):  # TypeError: Python 3.10, if it is not a date
        return None
    return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)


def _seconds_until(http_date: str) -> float:
    date = parsedate_to_datetime(http_date)
    aware = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return (aware - datetime.now(tz=timezone.utc)).total_seconds()


class CompositeSender:
    """Delivers an event to all of several backends, or to the first that accepts it.

    openlineage's own composite reports success when any backend has the event, so that an unavailable one silently
    loses it.
    """

    def __init__(self, parts: Sequence[Sender], *, first_is_enough: bool) -> None:
        """Send through ``parts``, one per backend, in this order; with ``first_is_enough`` until the first success."""
        self._parts = parts
        self._first_is_enough = first_is_enough
        self._had: dict[bytes, set[int]] = {}

    def send(self, line: bytes) -> None:
        """Send one event. A retry skips the backends that already have the event.

        Raises:
            EventRefusedError: Some backends refuse the event, and all others have it.
            BackendUnavailableError: At least one backend is unavailable.
        """
        had = self._had.setdefault(line, set())
        failures: list[EventRefusedError | BackendUnavailableError] = []
        for number, part in enumerate(self._parts):
            if number in had:
                continue
            try:
                part.send(line)
            except (EventRefusedError, BackendUnavailableError) as error:
                failures.append(error)
            else:
                had.add(number)
                if self._first_is_enough:
                    failures.clear()
                    break
        unavailable = [error for error in failures if isinstance(error, BackendUnavailableError)]
        if unavailable:
            self._forget_oldest()
            raise unavailable[0]
        del self._had[line]
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Close all senders."""
        for part in self._parts:
            part.close()

    def _forget_oldest(self) -> None:
        while len(self._had) > _LINES_REMEMBERED:
            del self._had[next(iter(self._had))]
