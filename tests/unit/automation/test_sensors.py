"""Configured sensors, evaluated on an instance with real runs and materializations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NIGHTLY = {"name": "nightly"}
FOLLOW = {"type": "asset", "name": "follow", "asset": "erp/orders"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def watch(status: str, **changes: object) -> Json:
    return {"type": "run_status", "name": "watch", "status": status, "job": "nightly", **changes}


def repository(config: Json) -> dg.RepositoryDefinition:
    return build_definitions(product(model("a"), config=config)).get_repository_def()


def ended_run(instance: dg.DagsterInstance, status: str, job: str = "shop_orders") -> str:
    """Run a job that ends with the status and return the run's id."""

    @dg.op
    def step() -> None:
        if status == "failure":
            raise ValueError("broken")

    definition = dg.GraphDefinition(name=job, node_defs=[step]).to_job()
    if status != "canceled":
        return definition.execute_in_process(instance=instance, raise_on_error=False).run_id
    run = instance.create_run_for_job(definition)
    instance.report_run_canceling(run)
    instance.report_run_canceled(run)
    return run.run_id


def tick(
    sensor: dg.SensorDefinition,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
    shop: dg.RepositoryDefinition | None = None,
) -> Any:  # noqa: ANN401
    """Evaluate a sensor as the daemon does; with partitions it needs the code location."""
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, sensor_name=sensor.name, repository_def=shop
    ) as context:
        return sensor.evaluate_tick(context)


@pytest.mark.parametrize("status", ["success", "failure", "canceled"])
def test_run_with_the_watched_status_launches_the_job_once(instance: dg.DagsterInstance, status: str) -> None:
    sensor = repository({"jobs": [NIGHTLY], "sensors": [watch(status)]}).get_sensor_def("watch")
    cursor = tick(sensor, instance).cursor
    runs = {ended: ended_run(instance, ended) for ended in ("success", "failure", "canceled")}
    ended_run(instance, status, job="another")

    ticked = tick(sensor, instance, cursor)
    again = tick(sensor, instance, ticked.cursor)

    assert [request.run_key for request in ticked.run_requests] == [runs[status]]
    assert [job.name for job in sensor.jobs] == ["nightly"]
    assert again.run_requests == []


@pytest.mark.parametrize(("jobs", "watched"), [([], "shop_orders"), (["weekly", "hourly"], "weekly")])
def test_named_jobs_are_watched_or_else_the_main_job(
    instance: dg.DagsterInstance, jobs: list[str], watched: str
) -> None:
    config = {
        "jobs": [NIGHTLY, {"name": "weekly"}, {"name": "hourly"}],
        "sensors": [watch("success", **({"jobs": jobs} if jobs else {}))],
    }
    sensor = repository(config).get_sensor_def("watch")
    cursor = tick(sensor, instance).cursor
    runs = {job: ended_run(instance, "success", job) for job in ("shop_orders", "weekly", "nightly")}

    ticked = tick(sensor, instance, cursor)

    assert [request.run_key for request in ticked.run_requests] == [runs[watched]]


def test_materialized_asset_launches_the_job(instance: dg.DagsterInstance) -> None:
    sensor = repository({"jobs": [NIGHTLY], "sensors": [{**FOLLOW, "job": "nightly"}]}).get_sensor_def("follow")

    assert tick(sensor, instance).run_requests == []
    instance.report_runless_asset_event(dg.AssetMaterialization(["erp", "orders"]))
    ticked = tick(sensor, instance)
    again = tick(sensor, instance, ticked.cursor)

    [request] = ticked.run_requests
    assert request.run_key
    assert [job.name for job in sensor.jobs] == ["nightly"]
    assert again.run_requests == []


def test_asset_sensor_launches_the_products_job_when_none_is_named() -> None:
    sensor = repository({"sensors": [FOLLOW]}).get_sensor_def("follow")

    assert [job.name for job in sensor.jobs] == ["shop_orders"]
    assert sensor.description == "Launches shop_orders when erp/orders was materialized."


def test_enabled_sensor_is_running() -> None:
    config = {
        "jobs": [NIGHTLY],
        "sensors": [
            FOLLOW,
            {**FOLLOW, "name": "follow_off", "enabled": False},
            watch("success"),
            watch("success", name="watch_off", enabled=False),
        ],
    }

    assert {sensor.name: sensor.default_status.name for sensor in repository(config).sensor_defs} == {
        "follow": "RUNNING",
        "follow_off": "STOPPED",
        "watch": "RUNNING",
        "watch_off": "STOPPED",
    }


@pytest.mark.parametrize(
    ("asset", "job"), [("mart", None), ("mart", "daily"), ("stg", "daily"), ("raw", "shop_orders")]
)
def test_asset_that_the_job_builds_itself_is_refused(tmp_path: Path, asset: str, job: str | None) -> None:
    entry = {"type": "asset", "name": "loop", "asset": asset, **({"job": job} if job else {})}
    shop = dbt_shop(tmp_path, {"jobs": [{"name": "daily", "select": "tag:daily"}], "sensors": [entry]})

    with pytest.raises(ConfigError) as raised:
        build_definitions(shop)

    [problem] = raised.value.problems
    assert problem.where == "plugins.orchestrator.config.sensors[0].asset"
    assert problem.what == (
        f"{asset!r} is an asset that the job {job or 'shop_orders'!r} builds, so that it would launch itself repeatedly"
    )


def test_asset_that_the_job_does_not_build_is_accepted(tmp_path: Path) -> None:
    entry = {"type": "asset", "name": "after_seed", "asset": "raw", "job": "daily"}
    shop = dbt_shop(tmp_path, {"jobs": [{"name": "daily", "select": "tag:daily"}], "sensors": [entry]})

    build_definitions(shop).get_repository_def().load_all_definitions()


# --- partitions -----------------------------------------------------------------------------------------------------

_PARTITIONS = [
    {"select": "stg", "type": "daily", "start": "2026-01-01", "end": "2026-02-01"},
    {"select": "mart", "type": "static", "values": ["north", "south"]},
]


def test_run_that_ended_launches_a_run_for_each_static_partition(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    sensors = [watch("success", job="shop_orders_static")]
    shop = build_definitions(dbt_shop(tmp_path, {"sensors": sensors, "partitions": _PARTITIONS})).get_repository_def()
    sensor = shop.get_sensor_def("watch")
    cursor = tick(sensor, instance).cursor
    run = ended_run(instance, "success")

    requests = tick(sensor, instance, cursor, shop).run_requests

    assert [(request.run_key, request.partition_key) for request in requests] == [
        (f"{run}/north", "north"),
        (f"{run}/south", "south"),
    ]


def test_materialized_asset_launches_the_newest_partition(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    shop = build_definitions(dbt_shop(tmp_path, {"sensors": [FOLLOW], "partitions": _PARTITIONS})).get_repository_def()
    sensor = shop.get_sensor_def("follow")
    instance.report_runless_asset_event(dg.AssetMaterialization(["erp", "orders"]))

    [request] = tick(sensor, instance, shop=shop).run_requests

    assert (sensor.job.name, request.partition_key) == ("shop_orders", "2026-01-31")


def test_job_without_partitions_is_launched_without_one(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": "rest", "select": "raw"}],
        "sensors": [{**FOLLOW, "job": "rest"}],
        "partitions": _PARTITIONS,
    }
    sensor = build_definitions(dbt_shop(tmp_path, config)).get_repository_def().get_sensor_def("follow")
    instance.report_runless_asset_event(dg.AssetMaterialization(["erp", "orders"]))

    [request] = tick(sensor, instance).run_requests

    assert request.partition_key is None
