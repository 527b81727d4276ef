"""Counts of an emitter's events by their state of delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
