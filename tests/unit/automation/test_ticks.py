"""When schedules tick where clocks change, as Dagster defines it (SC-007).

- Spring: a time that does not exist ticks at the first instant after the gap; several such times tick once.
- Autumn: a time that exists twice ticks once, the second time; a cron that ticks every hour ticks in both.
- A cron that ticks every hour or more often counts real time. Where clocks change by half an hour (Lord Howe), its
  minutes therefore move on the day of the change.

The expected instants come from croniter on a clock without timezone, and from pytz.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from itertools import takewhile

import dagster as dg
import pytest
import pytz
from croniter import croniter
from dagster._utils.schedules import schedule_execution_time_iterator
from packaging.version import Version

from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.automation.minutes import RIGHT_SINCE
from floe_orchestrator_dagster.automation.schedules import product_schedules
from floe_orchestrator_dagster.automation.targets import Targets
from unit.samples import model, product

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
KATHMANDU = "Asia/Kathmandu"
MINUTE = timedelta(minutes=1)
TWO_DAYS = timedelta(days=2)


def wall_clock(time: str) -> datetime:
    """Read what a clock on the wall shows."""
    return datetime.fromisoformat(time)


# The day before the clocks change: New York 2026-03-08 and 2026-11-01 at 2:00, London 2026-03-29 and 2026-10-25 at
# 1:00 UTC, Lord Howe 2026-10-04 and 2026-04-05 at 2:00, by half an hour. In Kathmandu (UTC+5:45) they never do.
CHANGES = [
    (NEW_YORK, wall_clock("2026-03-07T12:10")),
    (NEW_YORK, wall_clock("2026-10-31T12:10")),
    (LONDON, wall_clock("2026-03-28T12:10")),
    (LONDON, wall_clock("2026-10-24T12:10")),
    (LORD_HOWE, wall_clock("2026-10-03T12:10")),
    (LORD_HOWE, wall_clock("2026-04-04T12:10")),
    (KATHMANDU, wall_clock("2026-03-28T12:10")),
    (KATHMANDU, wall_clock("2026-10-24T12:10")),
]
DAILY = [
    "0 0 * * *",
    "0 1 * * *",
    "15 1 * * *",
    "30 1 * * *",
    "45 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "59 2 * * *",
    "0 3 * * *",
    "0 6 * * MON-FRI",
    "30 2 * * SUN",
    "30 1 * * 7",
    "30 2 L * *",
    "@daily",
]
SEVERAL_A_DAY = ["0 */2 * * *", "0 1-3 * * *", "15,45 1,2 * * *", "0,30 2 * * *", "10 2,14 * * *"]
# Where minutes of an hourly cron are not those of the wall. Older Dagsters count them in UTC.
BY_UTC = {LORD_HOWE} if Version(dg.__version__) >= Version(RIGHT_SINCE) else {LORD_HOWE, KATHMANDU}
HOURLY = ["0 * * * *", "@hourly", "30 * * * *", "*/30 * * * *", "*/7 * * * *", "10-12 * * * *", "* * * * *"]


def in_utc(wall: datetime, timezone_name: str) -> datetime:
    """Say at which instant a clock on the wall shows a time: the second time it does, or right after it was skipped."""
    zone = pytz.timezone(timezone_name)
    try:
        return zone.localize(wall, is_dst=None).astimezone(timezone.utc)
    except pytz.AmbiguousTimeError:
        return zone.localize(wall, is_dst=False).astimezone(timezone.utc)
    except pytz.NonExistentTimeError:
        instant = zone.localize(wall - timedelta(hours=2)).astimezone(timezone.utc)
        while instant.astimezone(zone).replace(tzinfo=None) < wall:
            instant += MINUTE
        return instant


def ticks(cron: str, timezone_name: str, start: datetime) -> list[datetime]:
    """Let Dagster compute two days of ticks of a schedule of ours, in UTC."""
    entry = {"name": "tick", "cron": cron, "timezone": timezone_name}
    shop = product(model("a"), config={"schedules": [entry]})
    [schedule] = product_schedules(shop, Targets([], NodeSelection(shop)))
    iterator = schedule_execution_time_iterator(
        in_utc(start, timezone_name).timestamp(),
        str(schedule.cron_schedule),
        schedule.execution_timezone,
        ascending=True,
    )
    end = in_utc(start + TWO_DAYS, timezone_name)
    return list(takewhile(lambda tick: tick < end, (tick.astimezone(timezone.utc) for tick in iterator)))


def on_the_wall(cron: str, timezone_name: str, start: datetime) -> list[datetime]:
    """Let croniter tick on a wall clock that never changes, then look up the instants."""
    walls = takewhile(lambda wall: wall < start + TWO_DAYS, croniter(cron, start).all_next(datetime))
    return sorted({in_utc(wall, timezone_name) for wall in walls})


def every_matching_minute(cron: str, timezone_name: str, start: datetime) -> list[datetime]:
    """Go through all minutes and keep those at which the wall clock shows a minute of the cron; its hours are all."""
    zone, first, end = (
        pytz.timezone(timezone_name),
        in_utc(start, timezone_name),
        in_utc(start + TWO_DAYS, timezone_name),
    )
    minutes = croniter.expand(cron)[0][0]
    instants = (first + MINUTE * count for count in range((end - first) // MINUTE))
    return [at for at in instants if minutes == ["*"] or at.astimezone(zone).minute in minutes]


@pytest.mark.parametrize("cron", DAILY + SEVERAL_A_DAY)
@pytest.mark.parametrize(("timezone_name", "start"), CHANGES)
def test_time_of_day_ticks_once(timezone_name: str, start: datetime, cron: str) -> None:
    assert ticks(cron, timezone_name, start) == on_the_wall(cron, timezone_name, start)


@pytest.mark.parametrize("cron", HOURLY)
@pytest.mark.parametrize(("timezone_name", "start"), [change for change in CHANGES if change[0] not in BY_UTC])
def test_hourly_cron_ticks_at_every_time_that_matches(timezone_name: str, start: datetime, cron: str) -> None:
    assert ticks(cron, timezone_name, start) == every_matching_minute(cron, timezone_name, start)


@pytest.mark.parametrize("start", [start for name, start in CHANGES if name == LORD_HOWE])
def test_hourly_cron_counts_real_hours_where_clocks_change_by_half_an_hour(start: datetime) -> None:
    found = ticks("0 * * * *", LORD_HOWE, start)

    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    ("cron", "timezone_name", "start", "expected"),
    [
        # 2:30 does not exist: 3:00 EDT.
        ("30 2 * * *", NEW_YORK, wall_clock("2026-03-08"), "2026-03-08T07:00:00+00:00"),
        # 1:30 comes twice: the second one, EST.
        ("30 1 * * *", NEW_YORK, wall_clock("2026-11-01"), "2026-11-01T06:30:00+00:00"),
        # 1:30 does not exist: 2:00 BST.
        ("30 1 * * *", LONDON, wall_clock("2026-03-29"), "2026-03-29T01:00:00+00:00"),
        # 1:30 comes twice: the second one, GMT.
        ("30 1 * * *", LONDON, wall_clock("2026-10-25"), "2026-10-25T01:30:00+00:00"),
        # 2:15 does not exist: 2:30, at UTC+11.
        ("15 2 * * *", LORD_HOWE, wall_clock("2026-10-04"), "2026-10-03T15:30:00+00:00"),
        # 1:45 comes twice: the second one, at UTC+10:30.
        ("45 1 * * *", LORD_HOWE, wall_clock("2026-04-05"), "2026-04-04T15:15:00+00:00"),
        # UTC+5:45 all year.
        ("0 6 * * *", KATHMANDU, wall_clock("2026-03-29"), "2026-03-29T00:15:00+00:00"),
    ],
)
def test_tick_on_the_day_of_the_change(cron: str, timezone_name: str, start: datetime, expected: str) -> None:
    assert ticks(cron, timezone_name, start)[0].isoformat() == expected
