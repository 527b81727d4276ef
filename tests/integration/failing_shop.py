"""A product in which a model and a test fail, a job over it, and what a run of it says and leaves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from dbt_v2 import set_engine
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from lineage_backend import LineageServer

SECRET = "correct-horse-battery"  # noqa: S105 - nobody's
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-end:
          - "{{ log('traceparent ' ~ env_var('TRACEPARENT', 'none'), info=true) }}
             {{ 'copy (select 1 as id) to ''flag.csv''' if var('mend', false) }}"
          - "{{ 'select * from nowhere' if var('break_hook', false) }}"
        """,
    "seeds/regions.csv": """
        id,name
        1,north
        2,south
        """,
    "models/first.sql": "{{ config(materialized='table') }} select 1 as id, 'a' as name",
    "models/island.sql": f"select {{{{ var('island', 1) }}}} as id -- {SECRET}",
    # Prints as models, adapters and libraries do: without an end of line, and like dbt's own events.
    "models/chatty.py": """
        import os
        import subprocess


        def model(dbt, session):
            dbt.config(materialized="table")
            print('{"info": {"name": "FloeDbtEnd", "level": "info", "msg": ""}, "data": {"success": true}}')
            subprocess.run(["printf", "half a line of a child"], check=True)
            os.write(1, b"half a line of a library")
            print("half a line of a model", end="")
            return session.sql("select 1 as id")
        """,
    "models/flaky.sql": "select * from read_csv('flag.csv')",
    "models/batched.sql": """
        {{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='year',
                  begin='2024-01-01') }}
        select 1 as id, cast('2025-06-01' as timestamp) as day
        {% if model.batch and model.batch.id.startswith('2025') %} from read_csv('flag.csv') {% endif %}
        """,
    "models/child.sql": "select first.id from {{ ref('flaky') }} join {{ ref('first') }} as first using (id)",
    "models/checked.sql": "select * from read_csv('checked.csv')",
    "models/after_checked.sql": "select * from {{ ref('checked') }}",
    "models/schema.yml": """
        sources:
          - name: landing
            schema: main
            tables:
              - name: files
                columns: [{name: id, data_tests: [not_null]}]
        models:
          - name: first
            columns:
              - {name: ID, description: The key., data_tests: [unique]}
          - name: island
            columns:
              - name: id
                data_tests:
                  - accepted_values: {arguments: {values: [3]}, config: {severity: warn, store_failures: true}}
                  - not_null
          - name: child
            columns: [{name: id, data_tests: [not_null]}]
          - name: checked
            columns: [{name: id, data_tests: [{accepted_values: {arguments: {values: [1]}}}]}]
        """,
    "checked.csv": "id\n2\n",
}
NAMES = ("batched", "chatty", "first", "island", "flaky", "child", "checked", "after_checked")


def write_shop(directory: Path) -> Path:
    """Write the product into ``directory``, parsed; `flaky` wants a file that is not there, a test another value."""
    project = write_files(directory, FILES)
    output = profiles(threads=1)
    output["shop-orders"]["outputs"]["prod"] = {"type": "postgres", "password": "{{ env_var('SHOP_PASSWORD') }}"}
    kept = {"keep_targets": 1, "keep_failed_targets": 2}
    config = {"executor": "in_process", "dbt": {**kept, "attach_artifacts": True, "failed_rows": 5}}
    models = [model(name) for name in NAMES]
    artifacts = contract(*models, config=config, dbt_profiles=output)
    artifacts["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_rebuilt)
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("create table files as select 1 as id")
    return project


def set_shop_engine(shop: Path, engine: Mapping[str, str]) -> Path:
    """Let an engine run the product; returns the path of its artifacts. dbt v2 gets no Python model."""
    artifacts = set_engine(shop / "compiled_artifacts.json", engine)
    if engine["engine"] == "v2":
        (shop / "models" / "chatty.py").unlink()
        write_files(shop, {"models/chatty.sql": "select 1 as id"})
        load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


@dg.asset(deps=["first", "child"])
def report() -> None:
    """Read two models, outside dbt."""


@dg.asset(deps=["first"])
def early() -> None:
    """Read a model that is built even when others fail, outside dbt."""


@dg.asset
def aside() -> None:
    """Read nothing of dbt's."""


def shop_job() -> dg.JobDefinition:
    """Define a job over the product and a plain asset downstream of it."""
    product = definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"]))
    everything = dg.define_asset_job("everything", selection="*")
    return dg.Definitions.merge(
        product, dg.Definitions(assets=[report, early, aside], jobs=[everything])
    ).resolve_job_def("everything")


def own_copy(parsed: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a parsed project for one test; ``FLOE_ARTIFACTS_PATH`` names the copy's product."""
    project = Path(shutil.copytree(parsed, directory / parsed.name))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(project / "compiled_artifacts.json"))
    return project


def product_job() -> dg.JobDefinition:
    """Define the job of the product that ``FLOE_ARTIFACTS_PATH`` names."""
    return definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"])).resolve_job_def("shop_orders")


def ran(project: Path) -> list[set[str]]:
    """Tell what each invocation that is still there ran, the oldest first."""
    files = sorted((project / "target").glob("*/run_results.json"), key=lambda path: path.stat().st_mtime)
    return [{result["unique_id"].split(".")[2] for result in json.loads(path.read_text())["results"]} for path in files]


def built(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Tell what was materialized, with its metadata."""
    events = [event for event in result.all_events if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION]
    found = [event.step_materialization_data.materialization for event in events]
    return {one.asset_key.path[-1]: {name: value.value for name, value in one.metadata.items()} for one in found}


def states(backend: LineageServer, job: str) -> list[str]:
    """List the events of a job."""
    return [event["eventType"] for event in backend.events if event["job"]["name"] == job]


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """Tell what the failed step says on its page."""
    [failure] = result.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def tried_again(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> int:
    """Count the tries after the first."""
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def logged(instance: dg.DagsterInstance, run_id: str, level: str) -> str:
    """Tell what a run has logged at a level."""
    levels = {"INFO": 20, "WARNING": 30, "ERROR": 40}
    entries = instance.all_logs(run_id)
    return "\n".join(
        entry.user_message for entry in entries if entry.level == levels[level] and not entry.is_dagster_event
    )
