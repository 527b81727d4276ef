"""Events to several backends at once, or to the first of them that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.sender import BackendUnavailableError, EventRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.sender import Sender


class CompositeSender:
    """Counts an event as delivered once every part has it, or one where the first is enough.

    openlineage's own composite counts it once any part has it: what a dead part misses is then lost without a word.
    """

    def __init__(self, parts: Sequence[Sender], *, first_is_enough: bool) -> None:
        """Send to ``parts``, in their order."""
        self._parts = parts
        self._first_is_enough = first_is_enough
        self._line = b""
        self._had: set[int] = set()

    def send(self, line: bytes) -> None:
        """Send one event; a part that had it when another failed does not get it again with the next attempt.

        Raises:
            EventRefusedError: All that did not take it refuse it.
            BackendUnavailableError: At least one did not take it this time.
        """
        if line != self._line:
            self._line, self._had = line, set()
        refused: list[EventRefusedError] = []
        unavailable: list[BackendUnavailableError] = []
        for number, part in enumerate(self._parts):
            if number in self._had:
                continue
            try:
                part.send(line)
            except EventRefusedError as error:
                refused.append(error)
            except BackendUnavailableError as error:
                unavailable.append(error)
            else:
                self._had.add(number)
                if self._first_is_enough:
                    return
        if unavailable:
            raise unavailable[0]
        if refused:
            raise refused[0]

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()
