"""Main and registered schedules of a product: without duplicates, with distinct names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.assets.transforms import contract_assets
from floe_orchestrator_dagster.automation import schedules as automation
from floe_orchestrator_dagster.automation.cron import JobSchedule
from floe_orchestrator_dagster.automation.targets import Targets
from floe_orchestrator_dagster.errors import ConfigError, ScheduleError
from floe_orchestrator_dagster.product import Product, load_product
from unit.samples import Json, contract, model, product, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_RUNNING = dg.DefaultScheduleStatus.RUNNING
_STOPPED = dg.DefaultScheduleStatus.STOPPED


def _declared(tmp_path: Path, schedule: Json | None, config: Json | None = None) -> Product:
    """Make a product whose floe.yaml (JSON is YAML) declares ``schedule``."""
    spec = {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": "shop-orders", "version": "1.0.0"},
        "transforms": [{"name": "stg_orders"}],
        **({"schedule": schedule} if schedule is not None else {}),
    }
    (tmp_path / "floe.yaml").write_text(json.dumps(spec), encoding="utf-8")
    return load_product(write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders"), config=config)))


def product_schedules(shop: Product, registered: Sequence[JobSchedule] = ()) -> list[dg.ScheduleDefinition]:
    return automation.product_schedules(shop, Targets(contract_assets(shop), NodeSelection(shop)), registered)


def _summary(schedules: list[dg.ScheduleDefinition]) -> list[tuple[str, object, str | None, dg.DefaultScheduleStatus]]:
    assert all(schedule.job_name == "shop_orders" for schedule in schedules)
    return [
        (schedule.name, schedule.cron_schedule, schedule.execution_timezone, schedule.default_status)
        for schedule in schedules
    ]


# --- the product's own ----------------------------------------------------------------------------------------------


def test_product_without_any_schedule_has_none() -> None:
    assert product_schedules(product(model("stg_orders"))) == []


def test_schedule_of_floe_yaml_is_the_products(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 8 * * MON-FRI", "timezone": "America/New_York"})

    assert _summary(product_schedules(shop)) == [
        ("shop_orders_schedule", "0 8 * * MON-FRI", "America/New_York", _RUNNING)
    ]


def test_timezone_left_out_is_utc(tmp_path: Path) -> None:
    assert _summary(product_schedules(_declared(tmp_path, {"cron": "@daily"}))) == [
        ("shop_orders_schedule", "@daily", "UTC", _RUNNING)
    ]


def test_disabled_schedule_is_defined_and_stopped(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 6 * * *", "enabled": False})

    assert _summary(product_schedules(shop)) == [("shop_orders_schedule", "0 6 * * *", "UTC", _STOPPED)]


def test_configured_default_is_the_products_schedule() -> None:
    shop = product(model("stg_orders"), config={"default_schedule": "*/10 * * * *", "timezone": "Asia/Tokyo"})

    assert _summary(product_schedules(shop)) == [("shop_orders_schedule", "*/10 * * * *", "Asia/Tokyo", _RUNNING)]


def test_floe_yaml_takes_precedence_over_the_configured_default(tmp_path: Path) -> None:
    shop = _declared(
        tmp_path, {"cron": "0 6 * * *"}, config={"default_schedule": "*/10 * * * *", "timezone": "Asia/Tokyo"}
    )

    assert _summary(product_schedules(shop)) == [("shop_orders_schedule", "0 6 * * *", "UTC", _RUNNING)]


def test_disabled_schedule_of_floe_yaml_also_takes_precedence(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 6 * * *", "enabled": False}, config={"default_schedule": "*/10 * * * *"})

    assert _summary(product_schedules(shop)) == [("shop_orders_schedule", "0 6 * * *", "UTC", _STOPPED)]


@pytest.mark.parametrize("schedule", [None, {}, {"timezone": "Europe/Berlin"}, {"cron": None}, {"cron": ""}])
def test_floe_yaml_without_a_cron_leaves_the_configured_default(tmp_path: Path, schedule: Json | None) -> None:
    shop = _declared(tmp_path, schedule, config={"default_schedule": "*/10 * * * *"})

    assert _summary(product_schedules(shop)) == [("shop_orders_schedule", "*/10 * * * *", "UTC", _RUNNING)]


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ({"cron": "0 0 31 2 *"}, "cron '0 0 31 2 *' cannot fire: failed to find next date. Use one such as "),
        ({"cron": "@daily", "timezone": "Mars/Base"}, "timezone 'Mars/Base' is not an IANA timezone such as 'UTC', "),
    ],
)
def test_invalid_schedule_of_floe_yaml_is_refused_with_its_place(tmp_path: Path, schedule: Json, problem: str) -> None:
    with pytest.raises(ScheduleError) as raised:
        product_schedules(_declared(tmp_path, schedule))

    assert str(raised.value).startswith(f"floe.yaml of 'shop-orders', schedule: {problem}")


def test_invalid_configured_default_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError) as raised:
        product(model("stg_orders"), config={"default_schedule": "* * *"})

    assert str(raised.value).startswith(
        "CompiledArtifacts: 1 problem\n  plugins.orchestrator.config.default_schedule: cron '* * *' needs five fields"
    )


# --- registered -----------------------------------------------------------------------------------------------------


def test_registered_schedule_gets_a_name_that_says_when() -> None:
    registered = [JobSchedule("shop_orders", "0 6 * * MON-FRI", "America/New_York")]

    assert _summary(product_schedules(product(model("stg_orders")), registered)) == [
        ("shop_orders_at_0_6_any_any_MONtoFRI_America_New_York", "0 6 * * MON-FRI", "America/New_York", _RUNNING)
    ]


def test_same_schedule_registered_twice_is_one() -> None:
    registered = [JobSchedule("shop_orders", "0 6 * * *", "UTC")] * 2

    assert len(product_schedules(product(model("stg_orders")), registered)) == 1


def test_registered_schedule_equal_to_the_products_own_is_one(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 6 * * *", "timezone": "UTC"})

    schedules = product_schedules(shop, [JobSchedule("shop_orders", "0 6 * * *", "UTC")])

    assert _summary(schedules) == [("shop_orders_schedule", "0 6 * * *", "UTC", _RUNNING)]


def test_registered_schedule_equal_to_a_disabled_one_switches_it_on(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 6 * * *", "timezone": "UTC", "enabled": False})

    schedules = product_schedules(shop, [JobSchedule("shop_orders", "0 6 * * *", "UTC")])

    assert _summary(schedules) == [("shop_orders_schedule", "0 6 * * *", "UTC", _RUNNING)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("0 6 * * *", "UTC"), ("0 7 * * *", "UTC")),
        (("0 6 * * *", "UTC"), ("0 6 * * *", "Europe/Berlin")),
        (("1-5 * * * *", "UTC"), ("1,5 * * * *", "UTC")),
        (("1/5 * * * *", "UTC"), ("1-5 * * * *", "UTC")),
        (("0 6 * * *", "Etc/GMT+5"), ("0 6 * * *", "Etc/GMT-5")),
        (("0 0 * * 1#2", "UTC"), ("0 0 * * 1,2", "UTC")),
        (("0 0 ? * 1", "UTC"), ("0 0 * * 1", "UTC")),
        (("@daily", "UTC"), ("0 0 * * *", "UTC")),
    ],
)
def test_different_schedules_of_a_job_have_distinct_names(first: tuple[str, str], second: tuple[str, str]) -> None:
    registered = [JobSchedule("shop_orders", *first), JobSchedule("shop_orders", *second)]

    schedules = product_schedules(product(model("stg_orders")), registered)

    assert [(schedule.cron_schedule, schedule.execution_timezone) for schedule in schedules] == [first, second]
    assert len({schedule.name for schedule in schedules}) == 2


def test_products_own_schedule_comes_first(tmp_path: Path) -> None:
    shop = _declared(tmp_path, {"cron": "0 6 * * *"})

    schedules = product_schedules(shop, [JobSchedule("shop_orders", "0 7 * * *", "UTC")])

    assert [schedule.cron_schedule for schedule in schedules] == ["0 6 * * *", "0 7 * * *"]


@pytest.mark.parametrize("job", ["shop-orders", "nightly", "", "SHOP_ORDERS"])
def test_schedule_of_an_unknown_job_is_refused_with_the_known_ones(job: str) -> None:
    with pytest.raises(ScheduleError) as raised:
        product_schedules(product(model("stg_orders")), [JobSchedule(job, "0 6 * * *", "UTC")])

    assert str(raised.value) == f"no job {job!r} in product 'shop-orders'; its jobs: 'shop_orders'."
