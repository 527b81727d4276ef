"""Configured schedules: their selections, ticks and tags."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from floe_orchestrator_dagster.automation.cron import JobSchedule
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError, ScheduleError
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, product

if TYPE_CHECKING:
    from pathlib import Path

NEW_YEAR = datetime(2026, 1, 1, 6, tzinfo=ZoneInfo("UTC"))


def schedule(definitions: dg.Definitions, name: str) -> dg.ScheduleDefinition:
    return definitions.get_repository_def().get_schedule_def(name)


def requests(definition: dg.ScheduleDefinition) -> list[dg.RunRequest]:
    """Evaluate a tick as the daemon does."""
    with dg.build_schedule_context(
        instance=dg.DagsterInstance.ephemeral(), scheduled_execution_time=NEW_YEAR
    ) as context:
        return list(definition.evaluate_tick(context).run_requests or [])


def test_schedule_with_a_selection_runs_a_part_of_the_products_job(tmp_path: Path) -> None:
    entry = {"name": "hourly", "cron": "@hourly", "select": "tag:daily", "exclude": "stg", "tags": {"team": "finance"}}

    definition = schedule(build_definitions(dbt_shop(tmp_path, {"schedules": [entry]})), "hourly")

    [request] = requests(definition)
    assert definition.job_name == "shop_orders"
    assert request.asset_selection == [dg.AssetKey("mart")]
    assert request.tags == {"team": "finance", "dagster/schedule_name": "hourly"}


def test_only_the_checks_of_the_selected_assets_run(tmp_path: Path) -> None:
    definitions = build_definitions(
        dbt_shop(tmp_path, {"schedules": [{"name": "hourly", "cron": "@hourly", "select": "mart"}]})
    )
    [request] = requests(schedule(definitions, "hourly"))

    run = (
        definitions.get_repository_def()
        .get_job("shop_orders")
        .get_subset(
            asset_selection=set(request.asset_selection or []),
            asset_check_selection=set(request.asset_check_keys) if request.asset_check_keys is not None else None,
        )
    )

    assert run.asset_layer.executable_asset_keys == {dg.AssetKey("mart")}
    assert run.asset_layer.asset_graph.asset_check_keys == {dg.AssetCheckKey(dg.AssetKey("mart"), "unique_mart")}


def test_schedule_with_an_exclusion_only_runs_the_rest(tmp_path: Path) -> None:
    entry = {"name": "hourly", "cron": "@hourly", "exclude": "resource_type:seed"}

    [request] = requests(schedule(build_definitions(dbt_shop(tmp_path, {"schedules": [entry]})), "hourly"))

    assert {key.to_user_string() for key in request.asset_selection or []} == {"stg", "mart", "wide_v1"}


@pytest.mark.parametrize(("job", "launched"), [("nightly", "nightly"), (None, "shop_orders"), ("shop_orders",) * 2])
def test_schedule_without_a_selection_runs_a_job_whole(job: str | None, launched: str) -> None:
    entry = {"name": "late", "cron": "0 23 * * *", "tags": {"team": "finance"}, **({"job": job} if job else {})}
    shop = product(model("a"), config={"jobs": [{"name": "nightly"}], "schedules": [entry]})

    definition = schedule(build_definitions(shop), "late")

    [request] = requests(definition)
    assert definition.job_name == launched
    assert request.asset_selection is None
    assert request.tags == {"team": "finance", "dagster/schedule_name": "late"}


def test_timezone_is_the_schedules_or_else_the_configurations() -> None:
    entries = [
        {"name": "here", "cron": "0 6 * * *"},
        {"name": "there", "cron": "0 6 * * *", "timezone": "Asia/Tokyo"},
    ]
    shop = product(model("a"), config={"timezone": "Europe/Berlin", "schedules": entries})

    definitions = build_definitions(shop)

    assert schedule(definitions, "here").execution_timezone == "Europe/Berlin"
    assert schedule(definitions, "there").execution_timezone == "Asia/Tokyo"


def test_disabled_schedule_is_defined_and_stopped() -> None:
    entries = [{"name": "on", "cron": "@daily"}, {"name": "off", "cron": "@daily", "enabled": False}]

    definitions = build_definitions(product(model("a"), config={"schedules": entries}))

    assert schedule(definitions, "on").default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule(definitions, "off").default_status is dg.DefaultScheduleStatus.STOPPED


def test_configured_main_and_registered_schedules_are_all_defined() -> None:
    shop = product(
        model("a"),
        config={
            "default_schedule": "@daily",
            "jobs": [{"name": "nightly"}],
            "schedules": [{"name": "extra", "cron": "@daily"}],
        },
    )

    definitions = build_definitions(shop, [JobSchedule("nightly", "0 1 * * *", "UTC")])

    assert {(entry.name, entry.job_name) for entry in definitions.get_repository_def().schedule_defs} == {
        ("shop_orders_schedule", "shop_orders"),
        ("nightly_at_0_1_any_any_any_UTC", "nightly"),
        ("extra", "shop_orders"),
    }


def test_registered_schedule_of_an_unknown_job_is_refused_with_all_known_ones() -> None:
    shop = product(model("a"), config={"jobs": [{"name": "nightly"}]})

    with pytest.raises(ScheduleError) as raised:
        build_definitions(shop, [JobSchedule("weekly", "@weekly", "UTC")])

    assert str(raised.value) == "no job 'weekly' in product 'shop-orders'; its jobs: 'shop_orders', 'nightly'."


def test_name_of_a_registered_schedule_is_refused() -> None:
    name = "shop_orders_at_atdaily_UTC"
    shop = product(model("a"), config={"schedules": [{"name": name, "cron": "@hourly"}]})

    with pytest.raises(ConfigError, match=r"schedules\[0\]\.name: .* is the name of a schedule registered with"):
        build_definitions(shop, [JobSchedule("shop_orders", "@daily", "UTC")])


@pytest.mark.parametrize("key", ["select", "exclude"])
def test_selection_of_a_schedule_is_refused_with_its_place(tmp_path: Path, key: str) -> None:
    entries: list[Json] = [{"name": "a", "cron": "@daily"}, {"name": "b", "cron": "@daily", key: "labels:x"}]
    shop = dbt_shop(tmp_path, {"schedules": entries})

    with pytest.raises(ConfigError, match=rf"config\.schedules\[1\]\.{key}: 'labels:x' is not a valid dbt selection"):
        build_definitions(shop)
