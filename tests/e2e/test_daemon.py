"""A real daemon ticks: a schedule launches a part of the product, a sensor the job that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from processes import floe_dagster
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = {
    "schedules": [{"name": "every_minute", "cron": "* * * * *", "select": "tag:minutely", "tags": {"team": "finance"}}],
    "executor": "in_process",
    "jobs": [{"name": "afterwards", "select": "rarely"}],
    "sensors": [{"type": "run_status", "name": "follow", "status": "success", "job": "afterwards"}],
}
RUNS = """{
  runsOrError { ... on Runs { results {
    runId jobName status
    tags { key value }
    assetSelection { path }
    assets { key { path } }
    assetChecks { name }
  } } }
}"""
SCHEDULES = (
    """{ repositoriesOrError { ... on RepositoryConnection { nodes { schedules { scheduleState { id } } } } } }"""
)
STOP = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """Serve a product of two models, one of them built every minute."""
    directory = tmp_path_factory.mktemp("daemon")
    project = directory / "project"
    home, log, port = dagster_home(directory / "home"), directory / "dagster_dev.log", free_port()
    models = project / "models"
    write_json(project / "dbt_project.yml", {"name": "shop_orders", "profile": "shop_orders", "version": "1.0"})
    tests = [{"name": "often", "columns": [{"name": "id", "data_tests": ["unique"]}]}]
    write_json(models / "schema.yml", {"models": tests})
    (models / "often.sql").write_text("{{ config(tags=['minutely']) }} select 1 as id", encoding="utf-8")
    (models / "rarely.sql").write_text("select id from {{ ref('often') }}", encoding="utf-8")
    artifacts = contract(model("often"), model("rarely", "often"), config=CONFIG)
    path = write_json(project / "compiled_artifacts.json", artifacts)
    floe_dagster("prepare", str(path))
    served = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    arguments = ["-m", "floe_orchestrator_dagster.definitions", "--host", "127.0.0.1", "--port", str(port)]
    with server("dev", *arguments, log=log, FLOE_ARTIFACTS_PATH=str(path), DAGSTER_HOME=str(home)) as process:
        wait_until(lambda: answers(served), 120, process, log)
        wait_until(lambda: bool(runs(served, "shop_orders")), 180, process, log)
        stop_schedule(served)
        wait_until(lambda: bool(runs(served, "afterwards")), 300, process, log)
        yield served


def stop_schedule(dev: DagsterDev) -> None:
    """Stop the only schedule: runs that start every minute would slow each other down."""
    [repository] = dev.graphql(SCHEDULES)["repositoriesOrError"]["nodes"]
    [schedule] = repository["schedules"]
    answer = dev.graphql(STOP, id=schedule["scheduleState"]["id"])
    assert answer["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"


def runs(dev: DagsterDev, job: str) -> list[dict[str, Any]]:
    """Return the runs of a job, the first one first."""
    results = dev.graphql(RUNS)["runsOrError"]["results"]
    return [run for run in reversed(results) if run["jobName"] == job]


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def test_schedule_builds_its_selection_every_minute(dev: DagsterDev) -> None:
    run = runs(dev, "shop_orders")[0]

    assert run["status"] == "SUCCESS"
    assert run["assetSelection"] == [{"path": ["often"]}]
    assert run["assets"] == [{"key": {"path": ["often"]}}]
    assert run["assetChecks"] == [{"name": "unique_often_id"}]


def test_scheduled_run_carries_the_schedules_tags_and_the_products(dev: DagsterDev) -> None:
    carried = tags(runs(dev, "shop_orders")[0])

    assert carried["dagster/schedule_name"] == "every_minute"
    assert carried["team"] == "finance"
    assert carried["floe/product"] == "shop-orders"


def test_sensor_launches_the_job_that_follows(dev: DagsterDev) -> None:
    first, follower = runs(dev, "shop_orders")[0], runs(dev, "afterwards")[0]

    assert tags(follower)["dagster/sensor_name"] == "follow"
    assert tags(follower)["dagster/run_key"] == first["runId"]
