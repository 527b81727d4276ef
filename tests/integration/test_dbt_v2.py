"""dbt v2 as the engine of a product: what a run of it builds, checks, reports and leaves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dbt_v2 import v2_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import built, failure_of, logged, ran, states
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lineage_backend import LineageServer

SECRET = "correct-horse-battery"  # noqa: S105  # nobody's
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-end: ["{{ 'select * from nowhere' if var('break_hook', false) else 'select 1' }}"]
        """,
    "seeds/regions.csv": """
        id,name
        1,north
        2,south
        """,
    "models/first.sql": "{{ config(materialized='table') }} select id, upper(name) as name from {{ ref('regions') }}",
    "models/inner.sql": "{{ config(materialized='ephemeral') }} select id from {{ ref('first') }}",
    "models/island.sql": f"select {{{{ var('island', 1) }}}} as id -- {SECRET}",
    "models/grown.sql": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id, current_timestamp as at from {{ ref('inner') }}
        """,
    "models/flaky.sql": "select * from read_csv('flag.csv')",
    "models/child.sql": "select flaky.id from {{ ref('flaky') }} as flaky join {{ ref('first') }} using (id)",
    "models/checked.sql": "select 2 as id",
    "models/after_checked.sql": "select * from {{ ref('checked') }}",
    "models/tested.sql": "select id * 2 as twice from {{ ref('first') }}",
    "models/after_tested.sql": "select * from {{ ref('tested') }}",
    "snapshots/history.yml": """
        snapshots:
          - name: history
            relation: ref('first')
            config: {unique_key: id, strategy: check, check_cols: all}
        """,
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
              - {name: id, description: The key., data_tests: [unique]}
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
        unit_tests:
          - name: twice_the_id
            model: tested
            given: [{input: ref('first'), rows: [{id: 1}]}]
            expect: {rows: [{twice: 3}]}
        """,
    "tests/no_such_column.sql": "select no_such_column from {{ ref('island') }}",
}
MODELS = ("first", "inner", "island", "grown", "flaky", "child", "checked", "after_checked", "tested", "after_tested")


@pytest.fixture(scope="module")
def _parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("v2") / "shop", FILES)
    write_contract(project)
    load_product(project / "compiled_artifacts.json", manifest_source=manifest_rebuilt)
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("create table files as select 1 as id")
    return project


@pytest.fixture
def shop(_parsed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project in which `flaky` fails, two tests, and a unit test; dbt v2 runs it."""
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    return Path(shutil.copytree(_parsed, tmp_path / "shop"))


def write_contract(project: Path, **dbt: object) -> None:
    output = profiles(threads=2)
    output["shop-orders"]["outputs"]["prod"] = {"type": "postgres", "password": "{{ env_var('SHOP_PASSWORD') }}"}
    artifacts = contract(*(model(name) for name in MODELS), config=v2_config(**dbt), dbt_profiles=output)
    artifacts["observability"]["lineage"] = True
    write_json(project / "compiled_artifacts.json", artifacts)


def run(
    project: Path, instance: dg.DagsterInstance, select: Sequence[str] | None = None, **options: object
) -> dg.ExecuteInProcessResult:
    """Run the product's job for these assets, or all."""
    job = definitions_from_file(project / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in select] if select is not None else None
    config = {"ops": {"shop_orders_dbt_build": {"config": options}}} if options else {}
    return job.execute_in_process(run_config=config, instance=instance, asset_selection=chosen, raise_on_error=False)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_every_node_has_its_result_with_the_cause_of_what_failed_and_was_skipped(
    shop: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], backend: LineageServer
) -> None:
    result = run(shop, instance)

    assert not result.success
    headline, *lines = failure_of(result).splitlines()
    assert headline == f"{shop}: 4 failed, 5 skipped because of them, 11 succeeded"
    first_lines = {
        '  models/flaky.sql: model flaky: Database Error: IO Error: No files found that match the pattern "flag.csv"',
        (
            "  tests/no_such_column.sql: test no_such_column: Database Error: Binder Error: "
            'Referenced column "no_such_column" not found in FROM clause!'
        ),
        "  models/schema.yml: test accepted_values_checked_id__1: Got 1 result",
        "  models/schema.yml: unit test twice_the_id: actual differs from expected:",
    }
    assert first_lines <= set(lines)
    assert lines[-1] == "    fix: Correct it, then re-execute from failure. Nodes that succeeded are not built again."
    log = logged(instance, result.run_id, "WARNING")
    assert {line.partition(" ")[2] for line in log.splitlines()} == {
        "skipped model child because of flaky",
        "skipped test not_null_child_id because of flaky",
        "skipped model after_checked because of accepted_values_checked_id__1",
        "skipped model tested because of twice_the_id",
        "skipped model after_tested because of twice_the_id",
    }
    said = logged(instance, result.run_id, "INFO")
    assert re.search(r"^dbt engine: dbt 2\.\d\S*$", said, re.MULTILINE)
    assert re.search(r"^\d+/19 success seed regions, 2 rows, [\d.]+ s$", said, re.MULTILINE)
    captured = capfd.readouterr().out
    assert re.search(r"create\s+table", captured)
    assert "-- ***" in captured
    assert SECRET not in captured
    assert states(backend, "shop-orders") == ["START", "FAIL"]
    assert {name: states(backend, name) for name in ("model.shop.first", "model.shop.flaky", "model.shop.child")} == {
        "model.shop.first": ["START", "COMPLETE"],
        "model.shop.flaky": ["START", "FAIL"],
        "model.shop.child": ["START", "ABORT"],
    }
    assert_valid_json(backend.events)
    assert SECRET not in json.dumps(backend.events)


def test_what_is_built_and_checked_has_the_metadata_that_it_has_with_dbt_core(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    result = run(shop, instance)

    tables = built(result)
    assert set(tables) == {"regions", "first", "history", "island", "grown", "checked"}
    assert {table["status"] for table in tables.values()} == {"success"}
    assert tables["regions"]["rows_affected"] == 2
    assert tables["grown"]["compiled_sql"] == str(shop / "target" / "compiled" / "shop" / "models" / "grown.sql")
    assert Path(tables["grown"]["compiled_sql"]).read_text().startswith("with __dbt__cte__inner as (")
    assert tables["first"]["dagster/column_lineage"] == dg.TableColumnLineage(
        {name: [dg.TableColumnDep(dg.AssetKey("regions"), name)] for name in ("id", "name")}
    )
    found = checks(result)
    assert {
        name: (check.passed, check.severity.value, check.metadata["status"].value) for name, check in found.items()
    } == {
        "source_not_null_landing_files_id": (True, "ERROR", "pass"),
        "not_null_island_id": (True, "ERROR", "pass"),
        "accepted_values_island_id__3": (False, "WARN", "warn"),
        "no_such_column": (False, "ERROR", "error"),
        "accepted_values_checked_id__1": (False, "ERROR", "fail"),
        "unique_first_id": (True, "ERROR", "pass"),
        "twice_the_id": (False, "ERROR", "fail"),
    }
    counted = {name: check.metadata.get("dagster_dbt/failed_row_count") for name, check in found.items()}
    assert {name: count.value for name, count in counted.items() if count and count.value} == {
        "accepted_values_island_id__3": 1,
        "accepted_values_checked_id__1": 1,
        "twice_the_id": 1,
    }
    shown = {name: value for name, check in found.items() if (value := check.metadata.get("failed_rows_query"))}
    stored = '"shop"."main_dbt_test__audit"."accepted_values_island_id__3"'
    assert shown["accepted_values_island_id__3"] == dg.MarkdownMetadataValue(f"```sql\nselect * from {stored}\n```")
    assert "where value_field not in" in str(shown["accepted_values_checked_id__1"].value)
    assert "| 3 -> 2 |" in str(found["twice_the_id"].description)


def test_a_run_builds_exactly_what_is_selected(shop: Path, instance: dg.DagsterInstance) -> None:
    run(shop, instance, ["regions", "first"])

    result = run(shop, instance, ["grown"])
    assert result.success
    assert ran(shop)[-1] - {"shop-on-run-end-0"} == {"grown", "inner"}
    assert set(built(result)) == {"grown"}
    assert not checks(result)

    result = run(shop, instance, ["first", "island"], exclude="island")
    assert result.success
    assert set(built(result)) == {"first"}
    assert set(checks(result)) == {"unique_first_id"}
