"""Runs that are ended in the middle: dbt goes with its step, whatever ends that, and the database stays usable."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.job_process import JobProcess, dagster_home, newest_run, tables
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lineage_backend import LineageServer

FILES = {
    "dbt_project.yml": '{name: shop, version: "1.0", profile: shop_orders}',
    "models/first.sql": "{{ config(materialized='table') }} select 1 as id",
    # A query that takes minutes, unless a variable makes it short.
    "models/endless.sql": """
        {{ config(materialized='table') }}
        select count(*) as n from range({{ env_var('ROWS', '1000000000000') if execute else 10 }}) as a
        join {{ ref('first') }} on true
        """,
    # Nobody writes into this pipe: the query waits, and takes no processor meanwhile.
    "models/hanging.sql": """
        {{ config(materialized='table') }}
        select n from {{ ref('endless') }}
        {{ "join read_csv('pipe', columns={'id': 'int'}) on true" if execute and env_var('HANG', '') }}
        """,
}


def write_contract(project: Path, **dbt: object) -> Path:
    models = [model("first"), model("endless", "first"), model("hanging", "endless")]
    config = {"executor": "in_process", "dbt": dbt, "lineage": {"spool_dir": str(project.parent / "spool")}}
    content = contract(*models, config=config)
    content["observability"]["lineage"] = True
    return write_json(project / "compiled_artifacts.json", content)


@pytest.fixture(scope="session")
def _parsed_endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("endless") / "shop", FILES)
    load_product(write_contract(project), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def shop(_parsed_endless: Path, tmp_path: Path, engine: dict[str, str]) -> Path:
    """Give a project whose second model does not end."""
    project = Path(shutil.copytree(_parsed_endless, tmp_path / "shop"))
    os.mkfifo(project / "pipe")
    write_contract(project, **engine)
    return project


@pytest.fixture
def backend() -> Iterator[LineageServer]:
    with serving() as served:
        yield served


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


@pytest.fixture
def endless(shop: Path, home: Path, backend: LineageServer, engine: dict[str, str]) -> Iterator[JobProcess]:
    """Start a run with lineage, and wait until it is in the middle of a query."""
    run = JobProcess(shop, home, OPENLINEAGE_URL=backend.url.removesuffix("/api/v1/lineage"))
    try:
        is_core = engine["engine"] == "core"
        run.wait_for(run.says("Began running node model.shop.endless" if is_core else "running model main.endless"))
        time.sleep(0.5)
        yield run
    finally:
        run.end()


def evaluate_sensor(project: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate the sensor of the newest run's status, as the daemon does."""
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
    repository = definitions_from_file(project / "compiled_artifacts.json").get_repository_def()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_runs(limit=1)[0]
        kinds = {dg.DagsterEventType.RUN_CANCELED, dg.DagsterEventType.RUN_FAILURE}
        [record] = instance.all_logs(run.run_id, of_type=kinds)
        name = f"shop_orders_lineage_{run.status.value.lower()}"
        repository.get_sensor_def(name)(dg.RunStatusSensorContext(name, run, record.dagster_event, instance))


def emitted(backend: LineageServer) -> list[tuple[str, str]]:
    return [(event["job"]["name"].rpartition(".")[2], event["eventType"]) for event in backend.events]


def test_a_run_that_is_cancelled_takes_dbt_along(
    endless: JobProcess, shop: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same as Dagster's termination: it records the request, then signals the process.
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_run_canceling(instance.get_runs(limit=1)[0])
    endless.process.send_signal(signal.SIGTERM)

    assert endless.ended_within(30), endless.text
    endless.process.wait(timeout=120)
    assert newest_run(home).status is dg.DagsterRunStatus.CANCELED
    assert "first" in tables(shop)
    assert not list(Path(shop / "target").glob("*/partial_parse.msgpack"))
    assert_valid_json(backend.events)
    assert emitted(backend)[-3:] == [("endless", "START"), ("endless", "ABORT"), ("shop-orders", "ABORT")]
    events = len(backend.events)
    evaluate_sensor(shop, home, backend, monkeypatch)
    assert len(backend.events) == events  # the run itself has emitted all events


def test_the_lineage_of_a_run_that_was_killed_is_ended_once(
    endless: JobProcess, shop: Path, home: Path, backend: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless.wait_for(lambda: emitted(backend)[-1:] == [("endless", "START")])
    endless.process.kill()

    assert endless.ended_within(30), endless.text
    endless.process.wait()
    with dg.DagsterInstance.from_config(str(home)) as instance:  # as Dagster's run monitoring does
        instance.report_run_failed(instance.get_runs(limit=1)[0], "the machine is gone")
    for _ in range(2):
        evaluate_sensor(shop, home, backend, monkeypatch)
    assert_valid_json(backend.events)
    start, end, product = backend.events[-3:]
    assert emitted(backend)[-3:] == [("endless", "START"), ("endless", "ABORT"), ("shop-orders", "FAIL")]
    assert end["run"]["runId"] == start["run"]["runId"]
    assert (end["inputs"], end["outputs"]) == (start["inputs"], start["outputs"])
    assert end["run"]["facets"]["errorMessage"]["message"].endswith("the machine is gone")
    assert product["run"]["runId"] == backend.events[0]["run"]["runId"]


def test_an_invocation_that_takes_too_long_is_ended_and_lets_the_run_in_that_waits(
    shop: Path, home: Path, engine: dict[str, str]
) -> None:
    write_contract(shop, **engine, timeout_seconds=90)  # a busy machine needs a minute to start the second run
    # Without a wait, the copy of a step's output can end before it has copied the last lines.
    run = JobProcess(shop, home, ROWS="10", HANG="yes", DAGSTER_COMPUTE_LOG_TAIL_WAIT_AFTER_FINISH="3")
    second = None
    try:
        run.wait_for(run.says("running dbt"))
        write_contract(shop, **engine)
        second = JobProcess(shop, home, ROWS="10")
        second.wait_for(second.says(f"waiting for {shop / 'shop.duckdb'}, which another run of dbt uses"))
        assert run.process.poll() is None
        while run.process.poll() is None:
            run.look()
            time.sleep(0.05)
        assert run.dbt_ended_within(0)
        assert second.process.wait(timeout=600) == 0, second.text
    finally:
        for process in filter(None, (run, second)):
            process.end()

    assert (
        f"{shop}: dbt exceeded its time limit of 90 s. Nodes that had not ended: hanging. Check why it takes this long"
        in run.text
    )
    assert "dbt was ended before these nodes had ended: hanging" in run.text
    assert {"first", "endless", "hanging"} <= tables(shop)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert statuses == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
