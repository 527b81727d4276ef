"""One product, two dbt engines: each compute has its own, in one run, on one DuckDB file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from dbt_v2 import v2_executable
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import built, logged
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

    from lineage_backend import LineageServer

FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "models/first.sql": "{{ config(materialized='table') }} select 1 as id",
    # Only dbt-core runs Python models on DuckDB.
    "models/second.py": """
        def model(dbt, session):
            return session.sql(f"select id + 1 as id from ({dbt.ref('first').sql_query()})")
        """,
    "models/third.sql": "{{ config(materialized='table') }} select id + 1 as id from {{ ref('second') }}",
    "models/schema.yml": "models: [{name: second, columns: [{name: id, data_tests: [unique]}]}]",
}


def test_each_compute_is_built_by_its_engine(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    project = write_files(tmp_path / "shop", FILES)
    outputs = profiles()
    outputs["shop-orders"]["outputs"]["python"] = outputs["shop-orders"]["outputs"]["dev"]
    config = {
        "executor": "in_process",
        "dbt": {"engine": "v2", "executable": v2_executable()},
        "computes": {"python": {"engine": "core"}},
    }
    models = [model("first"), {**model("second", "first"), "compute": "python"}, model("third", "second")]
    artifacts = contract(*models, config=config, dbt_profiles=outputs)
    artifacts["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_rebuilt)

    result = definitions_from_file(path).resolve_job_def("shop_orders").execute_in_process(instance=instance)

    assert set(built(result)) == {"first", "second", "third"}
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("unique_second_id", True)
    engines = re.findall(r"^dbt engine: (dbt\S*) (\d)", logged(instance, result.run_id, "INFO"), re.MULTILINE)
    assert engines == [("dbt", "2"), ("dbt-core", "1"), ("dbt", "2")]
    with duckdb.connect(str(project / "shop.duckdb"), read_only=True) as connection:
        assert connection.execute("select id from third").fetchall() == [(3,)]
    assert_valid_json(backend.events)
    tables = {table["name"] for event in backend.events for side in ("inputs", "outputs") for table in event[side]}
    assert tables == {f"shop.main.{name}" for name in ("first", "second", "third")}
