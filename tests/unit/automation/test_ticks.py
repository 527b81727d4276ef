"""Ticks of schedules on days of clock changes, as Dagster defines them (SC-007).

- Spring: a time that does not exist ticks at the first instant after the gap; several such times tick once.
- Autumn: a time that exists twice ticks once, the second time; a cron that ticks every hour ticks in both.
- A cron that ticks every hour or more often counts real time. Where clocks change by half an hour (Lord Howe), its
  minutes therefore move on the day of the change.

The expected instants come from croniter on a clock without timezone, and from pytz. For ranges, which croniter's
versions read differently, they come from going through all minutes.
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
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.automation.ineffective_settings import FIXED_IN_DAGSTER
from floe_orchestrator_dagster.automation.schedules import product_schedules
from floe_orchestrator_dagster.automation.targets import Targets
from unit.samples import model, product

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
KATHMANDU = "Asia/Kathmandu"
MINUTE = timedelta(minutes=1)
WEEKDAY = 4
TWO_DAYS = timedelta(days=2)


def wall_clock(time: str) -> datetime:
    """Return the local time of an instant."""
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
# Timezones in which older Dagster versions evaluate the minutes of hourly crons in UTC.
BY_UTC = {LORD_HOWE} if Version(dg.__version__) >= Version(FIXED_IN_DAGSTER) else {LORD_HOWE, KATHMANDU}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Lowest value, how many there are, names: minute, hour, day, month, weekday.
FIELDS: list[tuple[int, int, tuple[str, ...]]] = [
    (0, 60, ()),
    (0, 24, ()),
    (1, 31, ()),
    (1, 12, MONTHS),
    (0, 7, WEEKDAYS),
]
RANGES = [
    "0 6-6 * * *",
    "30-30 2-2 * * *",
    "0 6 * * MON-MON",
    "0 1 * * 7-7",
    "30 2 * * SUN-SUN",
    "15 2 * * 6-7",
    "0 22-2 * * *",
    "30 22-2/2 * * *",
    "15 23-3/2,12 * * *",
    "50-10/10 1-2 * * *",
    "0,30 20-2/3 * * *",
    "0 2 * * SAT-MON",
    "0 1 * * 7-1",
    "0 2 * NOV-MAR *",
    "0 1 28-3 * *",
    "0 2 30-1 * SUN-SUN",
    "59/15 1 * * *",
    "0 5-4 * * *",
    "45-15/15 * * * *",
    "30-30 * * * *",
]
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


def values(text: str, lowest: int, size: int, names: tuple[str, ...]) -> set[int]:
    """Read a field of a cron: what it says, going on at the field's first value after its last one."""

    def value(word: str) -> int:
        number = names.index(word.lower()) + lowest if word.lower() in names else int(word)
        return (number - lowest) % size

    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start = 0 if first == "*" else value(first)
        end = size - 1 if first == "*" or (step and not last) else value(last or first)
        found |= {(start + offset) % size for offset in range(0, (end - start) % size + 1, int(step or 1))}
    return {number + lowest for number in found}


def by_all_minutes(cron: str, timezone_name: str, start: datetime) -> list[datetime]:
    """Go through the minutes of two days; a cron of all hours ticks by the instant, another one by the wall."""
    texts = cron.split()
    minutes, hours, days, months, weekdays = (values(text, *kind) for text, kind in zip(texts, FIELDS, strict=True))
    either = texts[2] != "*" and texts[4] != "*"

    def matches(wall: datetime) -> bool:
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        of_day, of_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return of_day or of_weekday if either else of_day and of_weekday

    if len(hours) == len(range(24)):
        first, end = (in_utc(wall, timezone_name) for wall in (start, start + TWO_DAYS))
        instants = (first + MINUTE * count for count in range((end - first) // MINUTE))
        zone = pytz.timezone(timezone_name)
        return [at for at in instants if matches(at.astimezone(zone).replace(tzinfo=None))]
    walls = (start + MINUTE * count for count in range(TWO_DAYS // MINUTE))
    return sorted({in_utc(wall, timezone_name) for wall in walls if matches(wall)})


@pytest.mark.parametrize("cron", RANGES)
@pytest.mark.parametrize(("timezone_name", "start"), [change for change in CHANGES if change[0] not in BY_UTC])
def test_range_ticks_at_the_minutes_that_it_names(timezone_name: str, start: datetime, cron: str) -> None:
    assert ticks(cron, timezone_name, start) == by_all_minutes(cron, timezone_name, start)


@st.composite
def ranges(draw: st.DrawFn, field: int) -> str:
    """Draw a list of ranges, equal ones and ones over the end among them, with steps and names."""
    lowest, size, names = FIELDS[field]
    highest = 7 if field == WEEKDAY else lowest + size - 1
    word = st.integers(lowest, highest).map(
        lambda number: names[(number - lowest) % size] if names and number % 2 else str(number)
    )
    parts = draw(st.lists(st.tuples(word, word, st.sampled_from(["", "", "/1", "/2", "/5"])), min_size=1, max_size=2))
    return ",".join(f"{first}-{last}{step}" for first, last, step in parts)


@settings(max_examples=25, deadline=None)
@given(
    fields=st.tuples(
        ranges(0),
        ranges(1),
        st.sampled_from(["*", "*", "28-3", "7-7", "25-31/2"]),
        st.one_of(st.just("*"), ranges(3)),
        st.one_of(st.just("*"), ranges(WEEKDAY)),
    ),
    change=st.sampled_from([change for change in CHANGES if change[0] not in BY_UTC]),
)
def test_any_range_ticks_at_the_minutes_that_it_names(fields: tuple[str, ...], change: tuple[str, datetime]) -> None:
    cron = " ".join(fields)

    assert ticks(cron, *change) == by_all_minutes(cron, *change)


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
