"""The sample product in a Dagster that stores everything in PostgreSQL, as on Kubernetes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from e2e.shop import LOCATION, ended, eventually, launch, run_of, runs, stop_schedules, tags
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from postgres import dagster_storage, running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = {
    "schedules": [{"name": "every_minute", "cron": "* * * * *", "job": "minutely"}],
    "jobs": [{"name": "minutely", "select": "stores"}, {"name": "afterwards", "select": "products"}],
    "sensors": [{"type": "run_status", "name": "follow", "status": "success", "job": "afterwards"}],
}
NEED_PAYMENTS = {
    "customer_lifetime_value",
    "dim_customers",
    "fct_daily_revenue",
    "fct_orders",
    "int_customer_orders",
    "int_order_payments",
    "product_performance",
    "stg_payments",
}
REEXECUTE = """mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""

MATERIALIZATIONS = """query($run: ID!) {
  logsForRun(runId: $run, limit: 1000) {
    ... on EventConnection { events { ... on MaterializationEvent { assetKey { path } } } }
  }
}"""


@dataclass(frozen=True)
class OnPostgres:
    """A running ``dagster dev`` on PostgreSQL.

    Attributes:
        dev: The server.
        failed: Id of a run of the product's job while the file of payments was missing.
        repeated: Id of its re-execution from failure, with the file.
    """

    dev: DagsterDev
    failed: str
    repeated: str


@pytest.fixture(scope="module")
def on_postgres(_parsed_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnPostgres]:
    """Serve the sample; run its job without a file that it reads, and again from failure with it."""
    directory = tmp_path_factory.mktemp("on_postgres")
    project = shutil.copytree(_parsed_sample, directory / "dbt_project")
    artifacts = project / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["plugins"]["orchestrator"]["config"] = CONFIG
    artifacts.write_text(json.dumps(content), encoding="utf-8")
    load_product(artifacts, manifest_source=manifest_rebuilt)
    log, port = directory / "dagster_dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    arguments = ["-m", LOCATION, "--host", "127.0.0.1", "--port", str(port)]
    with running_postgres("dagster") as postgres:
        home = dagster_home(directory / "home", dagster_storage(postgres, "dagster"))
        environment = {"FLOE_ARTIFACTS_PATH": str(artifacts), "DAGSTER_HOME": str(home), "DAGSTER_PG_PASSWORD": "none"}
        with server("dev", *arguments, log=log, **environment) as process:
            wait_until(lambda: answers(dev), 600, process, log)
            wait_until(lambda: bool(runs(dev, "minutely")), 600, process, log)
            stop_schedules(dev)
            yield _run_twice(dev)


def _run_twice(dev: DagsterDev) -> OnPostgres:
    payments = dev.project / "data" / "payments.csv"
    aside = payments.rename(payments.with_suffix(".aside"))
    failed = launch(dev, "retail_orders")
    ended(dev, failed)
    aside.rename(payments)
    params = {"parentRunId": failed, "strategy": "FROM_FAILURE"}
    answer = dev.graphql(REEXECUTE, params=params)["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return OnPostgres(dev, failed, answer["run"]["runId"])


def materialized(dev: DagsterDev, run_id: str) -> set[str]:
    events = dev.graphql(MATERIALIZATIONS, run=run_id)["logsForRun"]["events"]
    return {event["assetKey"]["path"][-1] for event in events if event}


def test_run_of_the_product_ends_with_what_it_could_build(on_postgres: OnPostgres) -> None:
    dev, failed = on_postgres.dev, on_postgres.failed

    assert ended(dev, failed) == "FAILURE"
    assert len(materialized(dev, failed)) == 10
    assert not materialized(dev, failed) & NEED_PAYMENTS


def test_reexecution_from_failure_builds_the_rest(on_postgres: OnPostgres) -> None:
    dev, repeated = on_postgres.dev, on_postgres.repeated

    assert ended(dev, repeated) == "SUCCESS", dev.log.read_text(errors="replace")
    assert tags(run_of(dev, repeated))["dagster/parent_run_id"] == on_postgres.failed
    assert materialized(dev, repeated) == NEED_PAYMENTS


def test_sensor_launches_its_job_after_the_success(on_postgres: OnPostgres) -> None:
    dev = on_postgres.dev
    ended(dev, on_postgres.repeated)
    eventually(dev, lambda: bool(runs(dev, "afterwards")))
    [run] = runs(dev, "afterwards")

    assert tags(run)["dagster/run_key"] == on_postgres.repeated
    assert ended(dev, run["runId"]) == "SUCCESS"
    assert materialized(dev, run["runId"]) == {"products"}


def test_schedule_ticks_and_its_run_succeeds(on_postgres: OnPostgres) -> None:
    dev = on_postgres.dev
    run = runs(dev, "minutely")[0]

    assert tags(run)["dagster/schedule_name"] == "every_minute"
    assert ended(dev, run["runId"]) == "SUCCESS"
    assert materialized(dev, run["runId"]) == {"stores"}
