"""Events to several backends at once, or to the first of them that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

# Attempts go back and forth between the oldest event and the one after it.
_LINES_REMEMBERED = 8


class CompositeSender:
    """Counts an event as delivered once every part has it, or one where the first is enough.

    openlineage's own composite counts it once any part has it: what a dead part misses is then lost without a word.
    """

    def __init__(self, parts: Sequence[Sender], *, first_is_enough: bool) -> None:
        """Send to ``parts``, in their order."""
        self._parts = parts
        self._first_is_enough = first_is_enough
        self._had: dict[bytes, set[int]] = {}

    def send(self, line: bytes) -> None:
        """Send one event; a part that had it when another failed does not get it again with the next attempt.

        Raises:
            EventRefusedError: All that did not take it refuse it.
            BackendUnavailableError: At least one did not take it this time.
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
