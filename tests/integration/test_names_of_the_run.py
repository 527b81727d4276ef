"""Tables have the names that the run's own environment and target give them, whatever they were at `prepare`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import built
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from lineage_backend import LineageServer

FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "models/orders.sql": "{{ config(materialized='table') }} select 1 as id",
    "models/report.sql": """
        {{ config(schema=env_var('MARTS', 'marts')) }}
        select made.id from {{ ref('orders') }} as made join {{ source('raw', 'landed') }} as landed using (id)
        """,
    "models/schema.yml": """
        sources:
          - name: raw
            schema: "{{ target.schema }}"
            tables: [{name: landed, identifier: orders, columns: [{name: id}]}]
          - name: other
            schema: "{{ target.schema }}"
            tables: [{name: undocumented, identifier: orders}]
        """,
    "snapshots/history.sql": """
        {% snapshot history %}
        {{ config(unique_key='id', strategy='check', check_cols=['id'],
                  snapshot_meta_column_names={'dbt_valid_from': 'start_date', 'dbt_valid_to': 'end_date'}) }}
        select * from {{ source('other', 'undocumented') }} -- {{ ref('orders') }}
        {% endsnapshot %}
        """,
}


@pytest.fixture(scope="module", params=["core", "v2"])
def path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Give a product of each dbt engine that was prepared without the variables of its runs, as in an image build."""
    project = write_files(tmp_path_factory.mktemp("names") / "shop", FILES)
    outputs = profiles(schema="{{ env_var('WH_SCHEMA') }}")
    dev = outputs["shop-orders"]["outputs"]["dev"]
    outputs["shop-orders"]["outputs"]["prod"] = {**dev, "schema": "live"}
    config = {"executor": "in_process", "dbt": engine_config(request.param)}
    artifacts = contract(model("orders"), model("report", "orders"), config=config, dbt_profiles=outputs)
    artifacts["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_rebuilt)
    return path


def tables(metadata: dict[str, dict[str, object]]) -> dict[str, object]:
    return {name: entries.get("dagster/table_name") for name, entries in metadata.items()}


def test_names_are_those_of_the_environment_that_dbt_runs_in(
    path: Path, instance: dg.DagsterInstance, backend: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WH_SCHEMA", "prod")
    monkeypatch.setenv("MARTS", "gold")

    result = definitions_from_file(path).resolve_job_def("shop_orders").execute_in_process(instance=instance)

    assert tables(built(result)) == {
        "orders": "shop.prod.orders",
        "report": "shop.prod_gold.report",
        "history": "shop.prod.history",
    }
    complete = {event["job"]["name"]: event for event in backend.events if event["eventType"] == "COMPLETE"}
    datasets = {
        name: ([read["name"] for read in event["inputs"]], [made["name"] for made in event["outputs"]])
        for name, event in complete.items()
        if name.startswith(("model.", "snapshot."))
    }
    assert datasets == {
        "model.shop.orders": ([], ["shop.prod.orders"]),
        "model.shop.report": (["shop.prod.orders", "shop.prod.orders"], ["shop.prod_gold.report"]),
        "snapshot.shop.history": (["shop.prod.orders", "shop.prod.orders"], ["shop.prod.history"]),
    }
    assert_valid_json(backend.events)
    history = complete["snapshot.shop.history"]["outputs"][0]["facets"]
    config = json.loads(path.read_text(encoding="utf-8"))["plugins"]["orchestrator"]["config"]
    if config["dbt"]["engine"] == "v2":  # no columns of `select *` from a source without documented ones
        assert {"columnLineage", "schema"}.isdisjoint(history)
        return
    assert set(history["columnLineage"]["fields"]) == {"id"}
    assert {"start_date", "end_date"} <= {field["name"] for field in history["schema"]["fields"]}


def test_column_lineage_is_known_on_another_target_without_openlineage(
    path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WH_SCHEMA", "prod")
    artifacts = json.loads(path.read_text(encoding="utf-8"))
    artifacts["observability"]["lineage"] = False
    quiet = write_json(path.with_name("quiet_artifacts.json"), artifacts)
    chosen = [dg.AssetKey("orders"), dg.AssetKey(["marts", "report"])]
    config = {"ops": {"shop_orders_dbt_build": {"config": {"target": "prod"}}}}

    job = definitions_from_file(quiet).resolve_job_def("shop_orders")
    result = job.execute_in_process(instance=instance, asset_selection=chosen, run_config=config)

    found = built(result)
    assert tables(found) == {"orders": "shop.live.orders", "report": "shop.live_marts.report"}
    lineage = found["report"]["dagster/column_lineage"]
    assert isinstance(lineage, dg.TableColumnLineage)
    assert {column: [dep.column_name for dep in deps] for column, deps in lineage.deps_by_column.items()} == {
        "id": ["id"]
    }
