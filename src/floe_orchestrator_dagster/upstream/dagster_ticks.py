"""Ticks of a cron, at the times at which the installed Dagster's daemon evaluates them.

They differ between versions: older daemons evaluate the minutes of some crons in UTC. The ticks therefore come from the
iterator that the daemon uses, which is not public. Without it, croniter computes them in the cron's timezone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytz
from croniter import croniter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def ticks_after(instant: datetime, cron: str | Sequence[str], timezone: str) -> Iterator[datetime]:
    """Yield the ticks after an instant, without end.

    Args:
        instant: A time with a timezone.
        cron: Five fields or a macro, or several of these.
        timezone: IANA name of the cron's timezone.
    """
    try:
        from dagster._utils.schedules import schedule_execution_time_iterator
    except ImportError:
        return _croniters_ticks(instant, [cron] if isinstance(cron, str) else cron, timezone)
    return schedule_execution_time_iterator(instant.timestamp(), cron, timezone, ascending=True)


def _croniters_ticks(instant: datetime, crons: Sequence[str], timezone: str) -> Iterator[datetime]:
    start = instant.astimezone(pytz.timezone(timezone))
    ticks = [croniter(cron, start) for cron in crons]
    upcoming = [found.get_next(datetime) for found in ticks]
    while True:
        first = min(upcoming)
        yield first
        upcoming = [found.get_next(datetime) if at == first else at for found, at in zip(ticks, upcoming, strict=True)]
