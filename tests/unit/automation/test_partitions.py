"""Partitions of each job, and the partitions that a tick requests."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from floe_orchestrator_dagster.automation.targets import partitions_by_job, requested_partitions
from unit.samples import Json, model, product

_DAILY = dg.DailyPartitionsDefinition("2026-01-01")
_HOURLY = dg.HourlyPartitionsDefinition("2026-01-01-00:00")


def _utc(day: int, hour: int = 6) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("definition", "previous", "instant", "expected"),
    [
        (_DAILY, _utc(9), _utc(10), ["2026-03-09"]),
        # Two ticks were missed. The next one requests all partitions that were completed since the previous tick.
        (_DAILY, _utc(7), _utc(10), ["2026-03-07", "2026-03-08", "2026-03-09"]),
        # Nothing new since the tick before: the newest again.
        (_DAILY, _utc(10, 6), _utc(10, 7), ["2026-03-09"]),
        (_HOURLY, _utc(9, 22), _utc(10, 1), ["2026-03-09-22:00", "2026-03-09-23:00", "2026-03-10-00:00"]),
        (dg.DailyPartitionsDefinition("2026-01-01", end_offset=1), _utc(9), _utc(10), ["2026-03-10"]),
        (dg.DailyPartitionsDefinition("2026-01-01", end_offset=-1), _utc(9), _utc(10), ["2026-03-08"]),
        (dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05"), _utc(9), _utc(10), ["2026-01-04"]),
        (dg.WeeklyPartitionsDefinition("2026-01-04"), _utc(7), _utc(8), ["2026-03-01"]),
        (dg.MonthlyPartitionsDefinition("2026-01-01"), _utc(9), _utc(10), ["2026-02-01"]),
        (dg.DailyPartitionsDefinition("2026-03-10"), _utc(9), _utc(10), []),
        (dg.StaticPartitionsDefinition(["north", "south"]), _utc(9), _utc(10), ["north", "south"]),
    ],
)
def test_a_tick_requests_the_partitions_completed_since_the_previous_one(
    definition: dg.PartitionsDefinition[str], previous: datetime, instant: datetime, expected: list[str]
) -> None:
    assert requested_partitions(definition, previous, instant) == expected


def test_future_partitions_are_not_requested() -> None:
    tomorrow = datetime.now(tz=timezone.utc) + timedelta(days=2)
    definition = dg.DailyPartitionsDefinition(tomorrow.strftime("%Y-%m-%d"))

    assert requested_partitions(definition, _utc(9), _utc(10)) == []


def test_main_job_builds_the_first_time_partitions_and_all_others_have_separate_jobs() -> None:
    def time(kind: str, start: str = "2026-01-01") -> Json:
        return {"select": "x", "type": kind, "start": start}

    static = {"select": "x", "type": "static", "values": ["a"]}
    rules = [static, time("daily"), time("daily"), time("daily", "2026-02-01"), {**static, "values": ["b"]}]

    jobs = partitions_by_job(product(model("orders"), config={"partitions": rules}))

    assert jobs == {
        "shop_orders_static": dg.StaticPartitionsDefinition(["a"]),
        "shop_orders": dg.DailyPartitionsDefinition("2026-01-01"),
        "shop_orders_daily": dg.DailyPartitionsDefinition("2026-02-01"),
        "shop_orders_static_2": dg.StaticPartitionsDefinition(["b"]),
    }
