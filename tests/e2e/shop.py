"""A small product in a running Dagster with a daemon: what it is, what is launched of it, what became of that."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx
import psutil
import pytest

from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from e2e.servers import DagsterDev

# The instance retries runs, and looks at their time limits often.
INSTANCE = """\
run_retries: {enabled: true, max_retries: 1}
run_monitoring: {enabled: true, poll_interval_seconds: 2}
"""
CONFIG = {
    "schedules": [{"name": "every_minute", "cron": "* * * * *", "select": "tag:minutely", "tags": {"team": "finance"}}],
    "executor": "in_process",
    "jobs": [
        {"name": "afterwards", "select": "rarely"},
        {"name": "fragile", "select": "steady broken after_broken"},
        {"name": "stuck", "select": "waiting"},
    ],
    "sensors": [{"type": "run_status", "name": "follow", "status": "success", "job": "afterwards"}],
    "timeout_seconds": 600,
    "dbt": {"keep_targets": 20},
}
FILES = {
    "dbt_project.yml": "{name: shop_orders, profile: shop_orders, version: '1.0'}",
    "models/often.sql": "{{ config(tags=['minutely']) }} select 1 as id",
    "models/rarely.sql": "select id from {{ ref('often') }}",
    "models/steady.sql": "{{ config(materialized='table') }} select '{{ invocation_id }}' as built_by",
    "models/broken.sql": "{{ config(materialized='table') }} select * from read_csv('mended.csv')",
    "models/after_broken.sql": "select built_by from {{ ref('steady') }} join {{ ref('broken') }} on true",
    # Nobody writes into this pipe: the query waits, and takes no processor meanwhile.
    "models/waiting.sql": "{{ config(materialized='table') }} select * from read_csv('pipe', columns={'id': 'int'})",
    "models/schema.yml": "models: [{name: often, columns: [{name: id, data_tests: [unique]}]}]",
}
MODELS = (
    model("often"),
    model("rarely", "often"),
    model("steady"),
    model("broken"),
    model("after_broken", "steady", "broken"),
    model("waiting"),
)
LOCATION = "floe_orchestrator_dagster.definitions"
UNFINISHED = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}

RUNS = """{
  runsOrError { ... on Runs { results {
    runId jobName status
    tags { key value }
    assetSelection { path }
    assets { key { path } }
    assetChecks { name }
  } } }
}"""
LAUNCH = """mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
SCHEDULES = """{
  repositoriesOrError { ... on RepositoryConnection { nodes { schedules { scheduleState { id } } } } }
}"""
STOP = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
MESSAGES = """query($run: ID!) {
  logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events { ... on MessageEvent { message } } } }
}"""


@dataclass(frozen=True)
class ShopDev:
    """A running ``dagster dev`` with the product.

    Attributes:
        dev: The server.
        killed: Id of a run whose process was killed while dbt built a model.
        stuck: Id of a run that waits until its time is over.
        broken: Id of a run that fails, and that the daemon retries.
        lineage: Address of its lineage backend.
    """

    dev: DagsterDev
    killed: str
    stuck: str
    broken: str
    lineage: str

    def emitted_by(self, run_id: str) -> list[tuple[str, str]]:
        """List the lineage events of a run: job, and start or end."""
        events = httpx.get(self.lineage, timeout=300, trust_env=False).raise_for_status().json()
        return [
            (event["job"]["name"], event["eventType"])
            for event in events
            if {"key": "dagster_run_id", "value": run_id, "source": "DAGSTER"} in event["run"]["facets"]["tags"]["tags"]
        ]


def write_shop(directory: Path, lineage: str) -> Path:
    """Write and parse the product; returns its artifacts.

    Args:
        directory: Of the dbt project.
        lineage: Address of the lineage backend.
    """
    write_files(directory, FILES)
    os.mkfifo(directory / "pipe")
    content = contract(*MODELS, config={**CONFIG, "lineage": {"spool_dir": str(directory.parent / "spool")}})
    content["observability"] |= {"lineage": True, "lineage_endpoint": lineage}
    artifacts = write_json(directory / "compiled_artifacts.json", content)
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def launch(dev: DagsterDev, job: str, location: str = LOCATION, **tags: str) -> str:
    """Launch a job with tags of Dagster's own; returns the id of its run."""
    params = {
        "selector": {"repositoryLocationName": location, "repositoryName": "__repository__", "jobName": job},
        "executionMetadata": {"tags": [{"key": f"dagster/{key}", "value": value} for key, value in tags.items()]},
    }
    answer = dev.graphql(LAUNCH, params=params)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def kill_one(dev: DagsterDev, run_ids: Sequence[str]) -> str:
    """Kill the process of the run that builds a model, while the others wait for the database; returns its id."""
    [building] = [run_id for run_id in run_ids if is_building(dev, run_id)]
    running = dbt_processes(dev, building)
    for process in running:
        worker = process.parent()
        assert worker is not None
        if worker not in running:  # and not the guard of dbt
            worker.kill()
    return building


def is_building(dev: DagsterDev, run_id: str) -> bool:
    return "Began running node" in captured(dev, run_id)


def limit(dev: DagsterDev, run_id: str, seconds: int) -> None:
    """Set a different time limit for a run whose first node has already started."""
    with dg.DagsterInstance.from_config(str(dev.project.parent / "home")) as instance:
        instance.add_run_tags(run_id, {"dagster/max_runtime": str(seconds)})


def stop_schedules(dev: DagsterDev) -> None:
    """Stop all schedules: runs that start every minute would slow each other down."""
    [repository] = dev.graphql(SCHEDULES)["repositoriesOrError"]["nodes"]
    for schedule in repository["schedules"]:
        answer = dev.graphql(STOP, id=schedule["scheduleState"]["id"])
        assert answer["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"


def runs(dev: DagsterDev, job: str) -> list[dict[str, Any]]:
    """Return the runs of a job, the first one first."""
    results = dev.graphql(RUNS)["runsOrError"]["results"]
    return [run for run in reversed(results) if run["jobName"] == job]


def run_of(dev: DagsterDev, run_id: str) -> dict[str, Any]:
    [found] = [run for run in dev.graphql(RUNS)["runsOrError"]["results"] if run["runId"] == run_id]
    return dict(found)


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def messages(dev: DagsterDev, run_id: str) -> str:
    """Return what a run's log says."""
    events = dev.graphql(MESSAGES, run=run_id)["logsForRun"]["events"]
    return "\n".join(event["message"] for event in events)


def eventually(dev: DagsterDev, happened: Callable[[], bool], seconds: float = 600) -> None:
    """Wait until it happened; fail with the server's log when it does not."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            pytest.fail(f"not after {seconds:g} s:\n{dev.log.read_text(errors='replace')}")
        time.sleep(0.25)


def ended(dev: DagsterDev, run_id: str) -> str:
    """Wait for the end of a run; returns its status."""
    eventually(dev, lambda: run_of(dev, run_id)["status"] not in UNFINISHED)
    return str(run_of(dev, run_id)["status"])


def ran(dev: DagsterDev, run_id: str) -> dict[str, str]:
    """Tell how the models ended that dbt ran for a run, as dbt itself noted it."""
    [file] = (dev.project / "target").glob(f"*-{run_id[:8]}-*/run_results.json")
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    return {result["unique_id"].split(".")[2]: result["status"] for result in results}


def captured(dev: DagsterDev, run_id: str) -> str:
    """Return what a run's step has printed so far: dbt's own log."""
    files = (dev.project.parent / "home" / "storage" / run_id / "compute_logs").glob("*.out")
    return "".join(file.read_text(encoding="utf-8") for file in files)


def dbt_processes(dev: DagsterDev, run_id: str = "") -> list[psutil.Process]:
    """Find the processes that run dbt on the product, all of them or those of a run."""
    parts = (str(dev.project), run_id[:8])
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if all(part in " ".join(process.info["cmdline"] or ()) for part in parts)
    ]
