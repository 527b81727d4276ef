"""Sender to several backends: to all of them, or to the first that accepts an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

# Attempts alternate between the oldest event and the next one.
_LINES_REMEMBERED = 8


class CompositeSender:
    """Delivers an event to all parts, or to the first that accepts it.

    openlineage's own composite reports success when any part has the event, so that an unavailable part silently
    loses it.
    """

    def __init__(self, parts: Sequence[Sender], *, first_is_enough: bool) -> None:
        """Send to ``parts`` in this order; with ``first_is_enough``, stop at the first success."""
        self._parts = parts
        self._first_is_enough = first_is_enough
        self._had: dict[bytes, set[int]] = {}

    def send(self, line: bytes) -> None:
        """Send one event. A retry skips the parts that already have the event.

        Raises:
            EventRefusedError: Some parts refuse the event, and all others have it.
            BackendUnavailableError: At least one part is unavailable.
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
        """Close all parts."""
        for part in self._parts:
            part.close()

    def _forget_oldest(self) -> None:
        while len(self._had) > _LINES_REMEMBERED:
            del self._had[next(iter(self._had))]
