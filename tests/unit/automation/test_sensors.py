"""The configured sensors, evaluated on an instance with real runs and real materializations."""

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


def ended_run(instance: dg.DagsterInstance, *, fails: bool) -> dg.ExecuteInProcessResult:
    """Run a job that succeeds or fails."""

    @dg.op
    def step() -> None:
        if fails:
            raise ValueError("broken")

    @dg.job(name="shop_orders")
    def shop_orders() -> None:
        step()

    return shop_orders.execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.parametrize(("status", "fails"), [("success", False), ("failure", True)])
def test_ended_run_launches_the_job_once(instance: dg.DagsterInstance, status: str, fails: bool) -> None:  # noqa: FBT001
    sensor = repository({"jobs": [NIGHTLY], "sensors": [watch(status)]}).get_sensor_def("watch")
    assert isinstance(sensor, dg.RunStatusSensorDefinition)
    result = ended_run(instance, fails=fails)
    event: dg.DagsterEvent = result.get_run_failure_event() if fails else result.get_run_success_event()

    context = dg.build_run_status_sensor_context(
        sensor_name="watch", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
    )
    request: Any = sensor(context)

    assert isinstance(request, dg.RunRequest)
    assert request.run_key == result.run_id


def test_products_own_job_is_watched_when_none_is_named() -> None:
    config = {
        "jobs": [NIGHTLY, {"name": "weekly"}],
        "sensors": [watch("success"), watch("failure", name="second", jobs=["weekly"])],
    }

    definitions = repository(config)

    descriptions = {sensor.name: sensor.description for sensor in definitions.sensor_defs}
    assert descriptions["watch"] == "Launches nightly when a run of shop_orders ended with status success."
    assert descriptions["second"] == "Launches nightly when a run of weekly ended with status failure."


def test_materialized_asset_launches_the_job(instance: dg.DagsterInstance) -> None:
    definitions = repository({"jobs": [NIGHTLY], "sensors": [{**FOLLOW, "job": "nightly"}]})
    sensor = definitions.get_sensor_def("follow")

    with dg.build_sensor_context(instance=instance, repository_def=definitions) as context:
        assert sensor.evaluate_tick(context).run_requests == []
    instance.report_runless_asset_event(dg.AssetMaterialization(["erp", "orders"]))
    with dg.build_sensor_context(instance=instance, repository_def=definitions) as context:
        tick = sensor.evaluate_tick(context)
    with dg.build_sensor_context(instance=instance, repository_def=definitions, cursor=tick.cursor) as context:
        again = sensor.evaluate_tick(context)

    [request] = tick.run_requests or []
    assert request.job_name in {None, "nightly"}
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
        f"{asset!r} is an asset that the job {job or 'shop_orders'!r} builds: it would launch itself again and again"
    )


def test_asset_that_the_job_does_not_build_is_fine(tmp_path: Path) -> None:
    entry = {"type": "asset", "name": "after_seed", "asset": "raw", "job": "daily"}
    shop = dbt_shop(tmp_path, {"jobs": [{"name": "daily", "select": "tag:daily"}], "sensors": [entry]})

    build_definitions(shop).get_repository_def().load_all_definitions()
