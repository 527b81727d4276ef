"""What became of events, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Deliveries:
    """What became of the events of one emitter.

    Attributes:
        emitted: Events handed to it.
        sent: Acknowledged by the backend.
        refused: Refused by the backend for good, and kept beside the spool for people to look at.
        pending: Neither.
        spooled: Those of the pending ones that are on disk, from where a replay delivers them.
        dropped: Lost: neither delivered nor stored.
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
        """Say how many events there are of each kind, such as ``40 sent, 2 spooled``."""
        counts = {"sent": self.sent, "spooled": self.spooled, "refused": self.refused, "dropped": self.dropped}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "sent")

    def whereabouts(self, spool: Path) -> str:
        """Say where the events are that the backend does not have."""
        counts = {
            f"waiting in {spool}": self.spooled,
            "in memory only": self.pending - self.spooled,
            "refused and kept there": self.refused,
            "lost": self.dropped,
        }
        return ", ".join(f"{count} {place}" for place, count in counts.items() if count)
