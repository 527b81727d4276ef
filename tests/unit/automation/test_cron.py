"""Crons and timezones: valid exactly when croniter, pytz and Dagster all accept them."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import cast

import dagster as dg
import pytest
import pytz
from croniter import croniter
from dagster._check import CheckError
from dagster._utils.schedules import is_valid_cron_schedule, schedule_execution_time_iterator
from dagster._vendored.croniter.croniter import CroniterError as DagsterCroniterError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.automation.cron import JobSchedule, check_cron, check_timezone, checked_schedule
from floe_orchestrator_dagster.errors import ScheduleError

_CRON_EXAMPLES = "'0 6 * * *' (daily at 6:00), '0 8 * * MON-FRI' (weekdays at 8:00), '*/15 * * * *', '@hourly'"
_NEW_YEAR = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()

_ACCEPTED = [
    # every field, lists, ranges, steps
    "* * * * *",
    "0 6 * * *",
    "00 06 * * *",
    "59 23 31 12 *",
    "0,15,30,45 * * * *",
    "1-5 * * * *",
    "1-10/3 * * * *",
    "10/3 * * * *",
    "*/7 * * * *",
    "*/5,*/7 * * * *",
    "*/59 * * * *",
    "0 0 */31 * *",
    "0 0 * */12 *",
    # names
    "0 8 * * MON-FRI",
    "0 8 * * mon,Wed,FRI",
    "0 0 1 JAN *",
    "0 0 1 jan-mar *",
    "0 0 * * SUN-SAT",
    # Sunday twice
    "0 0 * * 0",
    "0 0 * * 7",
    "0 0 * * 1-7",
    "0 0 * * 0-7",
    # last and n-th
    "0 0 L * *",
    "0 0 l * *",
    "0 0 1,L * *",
    "0 0 L 2 *",
    "0 0 * * L5",
    "0 0 * * L1,L2",
    "0 0 * * MON#1",
    "0 0 * * 1#5",
    "0 0 * * sat#2,sat#4",
    "0 0 * * mon-fri#2",
    # rare dates that come
    "0 0 29 2 *",
    "0 0 29 2 MON",
    "0 0 31 * *",
    "0 0 31 4,5 *",
    "0 0 ? * *",
    "0 0 * * ?",
]
_MACROS = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"]
_NOT_FIVE_FIELDS = [
    "",
    "   ",
    "*",
    "* * * *",
    "0 6 * * * *",
    "0 0 6 * * *",
    "0 6 * * * 2030",
    "0 6 * * * # daily",
    "@reboot",
    "@every 5m",
    "@",
    "daily",
    "0 6 * * *\x00",
    "\x00",
    "0\x00 6 * * *",
    "0\u200b6 * * *",
    "* " * 150,
    "x" * 300,
]
_CANNOT_FIRE = [
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 0 *",
    "* * * 13 *",
    "* * * * 8",
    "-1 * * * *",
    "1-61 * * * *",
    "*/0 * * * *",
    "1/0 * * * *",
    "1-5/0 * * * *",
    "5-1/0 * * * *",
    "5-5/0 * * * *",
    "60-60 * * * *",
    "61-2 * * * *",
    "0 0 * * 8-8",
    "0 0 L-2 * *",
    "0 0 L-L * *",
    "0 0 * * 5-1#2",
    "1.5 * * * *",
    "0x1 * * * *",
    "** * * * *",
    "*5 * * * *",
    "*/* * * * *",
    "1-2-3 * * * *",
    "1,,2 * * * *",
    ", * * * *",
    "a b c d e",
    "0 0 * FOO *",
    "0 0 * * MON-",
    "0 0 * * -",
    "0 0 * * L",
    "0 0 * * 5L",
    "0 0 * * L8",
    "0 0 * * 1#6",
    "0 0 * * 1,L5",
    "0 0 L-3 * *",
    "0 0 LW * *",
    "0 0 1W * *",
    "0 0 15W * MON",
    "? ? ? ? ?",
    "H * * * *",
    "H/5 * * * *",
    "0 6 * * *;ls",
    "$(ls) 6 * * *",
    "0 0 31 2 *",
    "0 0 30 FEB *",
    "0 0 30,31 2 *",
    "0 0 31 4 *",
    "0 0 31 4,6,9,11 *",
    "0 0 30 2 L1",
    # A day that never comes: croniter would fire on the weekday alone, Dagster refuses or fails at every tick.
    "0 0 31 2 1",
    "0 0 30 2 MON",
    "0 0 30,31 2 MON",
    "0 0 31 4,6 MON-FRI",
]
_TIMEZONES = [
    "UTC",
    "GMT",
    "Etc/UTC",
    "Etc/GMT+12",
    "Etc/GMT-14",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Kyiv",
    "Europe/Kiev",
    "America/New_York",
    "America/Argentina/Buenos_Aires",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Africa/Lagos",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Antarctica/Troll",
    "US/Pacific",
    "CET",
    "EST5EDT",
]
_NOT_TIMEZONES = [
    "",
    " ",
    "UTC ",
    " UTC",
    "UTC\n",
    "utc",
    "europe/berlin",
    "Europe",
    "America",
    "Europe/",
    "/Europe/Berlin",
    "Europe/Nowhere",
    "Europe/Berlin\x00",
    "../etc",
    "../etc/passwd",
    "/etc/localtime",
    "posix/UTC",
    "localtime",
    "Factory",
    "GMT+1",
    "UTC+2",
    "+01:00",
    "CEST",
    "Berlin",
    "\x00",
    "\ud800",
    "x" * 300,
]


def _dagster_takes(cron: str) -> bool:
    """Whether Dagster accepts the cron and can compute its ticks."""
    if not is_valid_cron_schedule(cron):
        return False
    try:
        ticks = list(islice(schedule_execution_time_iterator(_NEW_YEAR, cron, "UTC", ascending=True), 2))
    except (DagsterCroniterError, CheckError):
        return False
    return len(ticks) == 2


# --- cron -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cron", _ACCEPTED + _MACROS)
def test_cron_that_fires_is_returned_unchanged(cron: str) -> None:
    assert check_cron(cron) == cron


@pytest.mark.parametrize("cron", ["0 6 * * * ", "  0 6 * * *", "0 6 * * *\n", "0  6 * *   *", "0\t6\t*\t*\t*"])
def test_blanks_do_not_change_a_cron(cron: str) -> None:
    assert check_cron(cron) == "0 6 * * *"


@pytest.mark.parametrize(
    ("cron", "meant"),
    [
        ("*/60 * * * *", "0 * * * *"),
        ("*/99 * * * *", "0 * * * *"),
        ("0 */24 * * *", "0 0 * * *"),
        ("0 0 */32 * *", "0 0 1 * *"),
        ("0 0 1 */13 *", "0 0 1 1 *"),
        ("0 0 * * */8", "0 0 * * 0"),
        ("5,*/60 */23 */31 */12 */7", "5,0 */23 */31 */12 */7"),
    ],
)
def test_a_step_beyond_its_field_is_normalized_to_dagsters_ticks(cron: str, meant: str) -> None:
    schedule = dg.ScheduleDefinition(job_name="shop", cron_schedule=check_cron(cron), execution_timezone="UTC")

    assert schedule.cron_schedule == meant
    as_written, as_meant = (list(islice(croniter(text, _NEW_YEAR).all_next(float), 5)) for text in (cron, meant))
    assert as_written == as_meant


@pytest.mark.parametrize(
    ("cron", "meant"),
    [
        # equal ranges
        ("6-6 * * * *", "6 * * * *"),
        ("0 06-6 * * *", "0 06 * * *"),
        ("0 6-6/2 * * *", "0 6 * * *"),
        ("0 6 1-1,31-L * *", "0 6 1,31 * *"),
        ("0 6 * JAN-1 *", "0 6 * JAN *"),
        ("0 6 * * MON-MON", "0 6 * * MON"),
        ("0 6 * * 7-7", "0 6 * * 7"),
        ("0 6 * * 7-SUN", "0 6 * * 7"),
        ("0 6 * * fri-fri#2", "0 6 * * 5#2"),
        ("5-5,10-20/5 6-6,8 * * *", "5,10-20/5 6,8 * * *"),
        # ranges over the end
        ("5-1 * * * *", "5-59,0-1 * * * *"),
        ("0 22-3 * * *", "0 22-23,0-3 * * *"),
        ("0 22-2/2 * * *", "0 22,0-2/2 * * *"),
        ("0 23-4/3 * * *", "0 23,2 * * *"),
        ("0 20-2/9 * * *", "0 20 * * *"),
        ("0 1,22-0 * * *", "0 1,22-23,0 * * *"),
        ("0 6 28-3 * *", "0 6 28-31,1-3 * *"),
        ("0 6 * NOV-FEB *", "0 6 * 11-12,1-2 *"),
        ("0 6 * 10-3/3 *", "0 6 * 10,1 *"),
        ("0 6 * * 5-1", "0 6 * * 5-6,0-1"),
        ("0 6 * * FRI-MON", "0 6 * * 5-6,0-1"),
        ("0 6 * * fri-mon#2", "0 6 * * 5#2,6#2,0#2,1#2"),
        ("0 6 * * 7-2", "0 6 * * 0-2"),
        ("0 6 * * 7-3/2", "0 6 * * 0-3/2"),
        # steps beyond the range or the field
        ("0-1/2 * * * *", "0 * * * *"),
        ("59/15 * * * *", "59 * * * *"),
        ("0 6 * DEC/3 *", "0 6 * DEC *"),
    ],
)
def test_ambiguous_crons_are_normalized(cron: str, meant: str) -> None:
    assert check_cron(cron) == meant
    assert check_cron(meant) == meant
    assert _dagster_takes(meant)


@pytest.mark.parametrize("cron", ["@daily ", "\t@daily"])
def test_blanks_around_a_macro_are_removed(cron: str) -> None:
    assert check_cron(cron) == "@daily"


@pytest.mark.parametrize("cron", _NOT_FIVE_FIELDS)
def test_cron_without_five_fields_is_refused(cron: str) -> None:
    shown = repr(cron) if len(repr(cron)) <= 60 else f"{repr(cron)[:59]}…"

    with pytest.raises(ScheduleError) as raised:
        check_cron(cron)

    assert str(raised.value) == (
        f"cron {shown} needs five fields (minute hour day month weekday), such as {_CRON_EXAMPLES}."
    )


@pytest.mark.parametrize("cron", [None, 5, ["0 6 * * *"], b"0 6 * * *"])
def test_cron_that_is_not_a_string_is_refused(cron: object) -> None:
    with pytest.raises(ScheduleError) as raised:
        check_cron(cast("str", cron))

    assert str(raised.value) == (
        f"cron {cron!r} needs five fields (minute hour day month weekday), such as {_CRON_EXAMPLES}."
    )


@pytest.mark.parametrize("cron", _CANNOT_FIRE)
def test_cron_that_cannot_fire_is_refused_with_guidance(cron: str) -> None:
    with pytest.raises(ScheduleError) as raised:
        check_cron(cron)

    # The words between are croniter's.
    assert str(raised.value).startswith(f"cron {cron!r} cannot fire: ")
    assert str(raised.value).endswith(f". Use one such as {_CRON_EXAMPLES}.")


@pytest.mark.parametrize("cron", ["0 0 0-0 * *", "0 0 5-0 * *", "0 0 * 3-0 *", "0 0 * 0-0 *"])
def test_range_to_an_invalid_value_is_refused_although_dagster_accepts_it(cron: str) -> None:
    with pytest.raises(ScheduleError, match="out of range"):
        check_cron(cron)

    assert _dagster_takes(cron)


def test_reason_is_one_sentence() -> None:
    with pytest.raises(ScheduleError) as raised:
        check_cron("0 0 31 2 *")

    assert str(raised.value) == (
        f"cron '0 0 31 2 *' cannot fire: failed to find next date. Use one such as {_CRON_EXAMPLES}."
    )


@pytest.mark.parametrize("cron", _ACCEPTED + _MACROS)
def test_accepted_cron_is_valid_in_dagster(cron: str) -> None:
    schedule = dg.ScheduleDefinition(job_name="shop", cron_schedule=check_cron(cron), execution_timezone="UTC")

    assert _dagster_takes(str(schedule.cron_schedule))


@pytest.mark.parametrize("cron", _NOT_FIVE_FIELDS + _CANNOT_FIRE)
def test_refused_cron_is_invalid_in_dagster_or_never_ticks(cron: str) -> None:
    assert not _dagster_takes(cron)


_MINUTES = ["*", "0", "59", "*/15", "5-1", "1,2", "60", "*/0", "*/99", "10/3", "L", "H", "1-5/7"]
_HOURS = ["*", "0", "23", "*/6", "22-3", "8,9", "24"]
_DAYS = ["*", "1", "31", "30", "29", "L", "1,L", "?", "0", "32", "30,31", "1W", "W", "L-1", "*/31"]
_MONTHS = ["*", "1", "2", "FEB", "JAN-MAR", "NOV-FEB", "4,6", "2,2", "2/12", "13", "0", "FOO"]
_WEEKDAYS = ["*", "0", "7", "MON-FRI", "FRI-MON", "L5", "L", "1#5", "MON#2", "?", "8", "1,L2", "5-5"]


@settings(deadline=None)
@given(st.tuples(*(st.sampled_from(values) for values in (_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS))).map(" ".join))
@example("0 0 1W * *")
@example("0 0 31 2 1")
@example("0 0 30,31 2 MON")
def test_result_is_the_same_as_dagsters(cron: str) -> None:
    try:
        check_cron(cron)
    except ScheduleError:
        accepted = False
    else:
        accepted = True

    assert accepted is _dagster_takes(cron)


@given(st.text(max_size=30))
def test_any_string_is_a_cron_valid_in_dagster_or_a_schedule_error(text: str) -> None:
    try:
        cron = check_cron(text)
    except ScheduleError as error:
        message = str(error)
    else:
        message = "cron "
        assert _dagster_takes(cron)
    assert message.startswith("cron ")


# --- timezone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _TIMEZONES)
def test_iana_timezone_is_returned_unchanged(name: str) -> None:
    assert check_timezone(name) == name


def test_every_timezone_of_pytz_is_accepted() -> None:
    assert [check_timezone(name) for name in pytz.all_timezones] == list(pytz.all_timezones)


@pytest.mark.parametrize("name", _TIMEZONES)
def test_accepted_timezone_is_valid_in_dagster(name: str) -> None:
    schedule = dg.ScheduleDefinition(job_name="shop", cron_schedule="0 6 * * *", execution_timezone=name)

    assert schedule.execution_timezone == name


@pytest.mark.parametrize("name", _NOT_TIMEZONES)
def test_other_timezone_is_refused_with_examples(name: str) -> None:
    shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:59]}…"

    with pytest.raises(ScheduleError) as raised:
        check_timezone(name)

    assert str(raised.value) == (
        f"timezone {shown} is not an IANA timezone such as 'UTC', 'Europe/Berlin', 'America/New_York'."
    )


@pytest.mark.parametrize("name", [None, 5, ["UTC"], b"UTC", {}, timezone.utc])
def test_timezone_that_is_not_a_string_is_refused(name: object) -> None:
    with pytest.raises(ScheduleError) as raised:
        check_timezone(cast("str", name))

    assert str(raised.value) == (
        f"timezone {name!r} is not an IANA timezone such as 'UTC', 'Europe/Berlin', 'America/New_York'."
    )


@given(st.text())
def test_any_string_is_an_iana_name_or_a_schedule_error(text: str) -> None:
    try:
        name = check_timezone(text)
    except ScheduleError as error:
        assert str(error).startswith("timezone ")  # noqa: PT017  # either outcome is right
    else:
        assert name in pytz.all_timezones_set


# --- both -----------------------------------------------------------------------------------------------------------


def test_checked_schedule_has_the_checked_values() -> None:
    assert checked_schedule("shop", " 0 6 * * * ", "Europe/Berlin") == JobSchedule(
        "shop", "0 6 * * *", "Europe/Berlin", enabled=True
    )
    assert checked_schedule("shop", "@daily", "UTC", enabled=False).enabled is False


@pytest.mark.parametrize(("cron", "name"), [("0 6 * *", "UTC"), ("0 6 * * *", "Nowhere")])
def test_checked_schedule_is_refused_when_either_is_wrong(cron: str, name: str) -> None:
    with pytest.raises(ScheduleError):
        checked_schedule("shop", cron, name)
