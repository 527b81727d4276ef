"""A project full of names that Dagster does not accept, on real dbt: it loads, runs and is selected node by node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "models/day-sales.sql": "select 1 as id",
    "models/day_sales.sql": "select 1 as id",
    "models/größe.sql": "select 1 as id",
    "models/type.sql": "select id from {{ ref('day-sales') }} union all select id from {{ ref('day_sales') }}",
    "models/class.sql": "select id from {{ ref('type') }} union all select id from {{ ref('größe') }}",
    "models/odd.yml": """
        groups:
          - {name: finance-team, owner: {name: Finance, email: finance}}
        models:
          - {name: day-sales, config: {group: finance-team}, columns: [{name: id, data_tests: [not_null]}]}
          - {name: day_sales, columns: [{name: id, data_tests: [not_null]}]}
          - {name: type, columns: [{name: id, data_tests: [not_null]}]}
        unit_tests:
          - {name: is-one, model: day-sales, given: [], expect: {rows: [{id: 1}]}}
        """,
    "tests/assert-positive.sql": "select * from {{ ref('day-sales') }} where id < 0",
    "tests/summe-größer.sql": "select * from {{ ref('class') }} where id < 0",
}


@pytest.fixture
def artifacts(stranger: Path) -> Path:
    write_files(stranger, FILES)
    path = stranger / "target" / "compiled_artifacts.json"
    load_product(path, manifest_source=manifest_rebuilt)
    return path


def test_everything_runs_and_each_check_is_evaluated(
    artifacts: Path, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = definitions_from_file(artifacts)
    graph = definitions.resolve_asset_graph()
    names = ["day-sales", "day_sales", "größe", "type", "class"]

    whole = definitions.resolve_job_def("jaffle_shop").execute_in_process(instance=lasting)

    assert whole.success
    built = {event.asset_key for event in whole.get_asset_materialization_events()}
    assert {dg.AssetKey(["kitchen", name]) for name in names} < built == graph.materializable_asset_keys
    assert {found.asset_check_key for found in whole.get_asset_check_evaluations()} == graph.asset_check_keys

    # A node by itself, with the state of the whole run to defer to: ours selects, theirs is deferred to.
    newest = max(artifacts.parent.parent.glob("build/dbt/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    monkeypatch.setenv("DBT_STATE", str(newest.parent))
    monkeypatch.setenv("DBT_DEFER", "1")
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    one = dg.materialize(assets, selection=dg.AssetSelection.assets(["kitchen", "type"]), instance=lasting)

    assert one.success
    assert [event.asset_key for event in one.get_asset_materialization_events()] == [dg.AssetKey(["kitchen", "type"])]
    ran = max(artifacts.parent.parent.glob("build/dbt/*/run_results.json"), key=lambda path: path.stat().st_mtime)
    arguments = json.loads(ran.read_text(encoding="utf-8"))["args"]
    assert arguments["defer_state"] == str(newest.parent)
    assert arguments["state"] != str(newest.parent)
