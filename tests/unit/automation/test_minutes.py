"""Hourly crons in timezones with an offset of part of an hour, which Dagster before 1.12.21 shifts."""

from __future__ import annotations

import itertools
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import pytz
from croniter import croniter
from dagster._utils.schedules import schedule_execution_time_iterator
from packaging.version import Version

from floe_orchestrator_dagster.automation.cron import JobSchedule, check_cron
from floe_orchestrator_dagster.automation.ineffective_settings import FIXED_IN_DAGSTER, shifted_minutes
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.inspect.validation import examine_product
from unit.dbt_shop import dbt_shop, write_dbt_shop

if TYPE_CHECKING:
    from pathlib import Path

KATHMANDU, KOLKATA, LORD_HOWE = "Asia/Kathmandu", "Asia/Kolkata", "Australia/Lord_Howe"
OLD = "1.12.20"
IS_OLD = Version(dg.__version__) < Version(FIXED_IN_DAGSTER)
CRONS = ["0 * * * *", "@hourly", "*/15 * * * *", "*/20 * * * *", "0,30 * * * *", "5 0-23 * * *", "* * * * *"]
CRONS += ["0 6 * * *", "0 */2 * * *", "20 * * * MON", "20 * 1 * *", "20 * * 5 *"]


@pytest.mark.parametrize(
    ("cron", "zone", "what", "written"),
    [
        ("0 * * * *", KATHMANDU, "ticks at minute 45 of the hour in Asia/Kathmandu, not at minute 0", "15 * * * *"),
        ("@hourly", KOLKATA, "ticks at minute 30 of the hour in Asia/Kolkata, not at minute 0", "30 * * * *"),
        (
            "*/20 * * * *",
            KATHMANDU,
            "ticks at minutes 5, 25, 45 of the hour in Asia/Kathmandu, not at minutes 0, 20, 40",
            "15,35,55 * * * *",
        ),
    ],
)
def test_shifted_minutes_are_reported_with_the_cron_to_write_instead(
    cron: str, zone: str, what: str, written: str
) -> None:
    found = shifted_minutes("here", cron, zone, OLD)

    assert str(found) == (
        f"here: {cron!r} {what}: Dagster {OLD} counts these minutes in UTC\n"
        f"    fix: Upgrade Dagster to {FIXED_IN_DAGSTER} or newer, or write {written!r} while you use {OLD}."
    )


def test_no_cron_corrects_the_minutes_where_clocks_change_by_half_an_hour() -> None:
    found = shifted_minutes("here", "0 * * * *", LORD_HOWE, OLD)

    assert found is not None
    assert "in Australia/Lord_Howe for a part of the year" in found.what
    assert found.fix == f"Upgrade Dagster to {FIXED_IN_DAGSTER} or newer."


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", KATHMANDU, KOLKATA])
def test_newer_dagsters_tick_as_the_cron_says(cron: str, zone: str) -> None:
    assert shifted_minutes("here", cron, zone, FIXED_IN_DAGSTER) is None


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", KATHMANDU, KOLKATA])
def test_warning_appears_exactly_when_this_dagster_ticks_differently(cron: str, zone: str) -> None:
    start = datetime(2026, 11, 22, 11, 7, 30, tzinfo=timezone.utc)
    iterator = schedule_execution_time_iterator(start.timestamp(), check_cron(cron), zone)
    ticks = [tick.astimezone(pytz.timezone(zone)) for tick in itertools.islice(iterator, 20)]
    expected = list(itertools.islice(croniter(cron, start.astimezone(pytz.timezone(zone))).all_next(datetime), 20))

    assert (shifted_minutes("here", cron, zone) is None) == (ticks == expected)


@pytest.mark.skipif(not IS_OLD, reason="this Dagster counts minutes in the cron's own timezone")
@pytest.mark.parametrize("zone", [KATHMANDU, KOLKATA])
def test_proposed_cron_ticks_at_the_intended_minutes(zone: str) -> None:
    found = shifted_minutes("here", "0 * * * *", zone)
    assert found is not None
    written = found.fix.split("'")[1]

    start = datetime(2026, 11, 22, 11, 7, 30, tzinfo=timezone.utc)
    ticks = itertools.islice(schedule_execution_time_iterator(start.timestamp(), written, zone), 20)

    assert {tick.astimezone(pytz.timezone(zone)).minute for tick in ticks} == {0}


def test_each_cron_that_this_dagster_shifts_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {
        "default_schedule": "0 * * * *",
        "timezone": KATHMANDU,
        "schedules": [{"name": "half", "cron": "30 * * * *"}, {"name": "fine", "cron": "30 6 * * *"}],
        "automation": {"condition": "on_cron", "cron": "@hourly", "timezone": KOLKATA},
    }
    places = ["default_schedule", "schedules[0].cron", "automation[0].cron"]
    wanted = [f"plugins.orchestrator.config.{place}" for place in places] if IS_OLD else []

    remarks = examine_product(write_dbt_shop(tmp_path, config)).warnings
    build_definitions(dbt_shop(tmp_path, config), [JobSchedule("shop_orders", "10 * * * *", KATHMANDU)])

    logged = [problem for record in caplog.records for problem in getattr(record, "problems", ())]
    assert [remark.problem.where for remark in remarks] == wanted
    assert [problem.where for problem in logged] == [*wanted, *(["schedule_job of 'shop_orders'"] if IS_OLD else [])]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == (1 if IS_OLD else 0)
