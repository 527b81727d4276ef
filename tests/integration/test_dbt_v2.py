"""dbt v2 as the engine of a product: what a run of it builds, checks, reports and leaves."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import FILES as SHOP_FILES
from integration.failing_shop import SECRET, built, failure_of, logged, ran, states
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lineage_backend import LineageServer

FILES = {
    **{name: SHOP_FILES[name] for name in ("seeds/regions.csv", "models/flaky.sql", "models/schema.yml")},
    **{name: SHOP_FILES[name] for name in ("models/island.sql", "models/after_checked.sql")},
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-end: ["{{ 'select * from nowhere' if var('break_hook', false) else 'select 1' }}"]
        """,
    "models/first.sql": "{{ config(materialized='table') }} select id, upper(name) as name from {{ ref('regions') }}",
    "models/inner.sql": "{{ config(materialized='ephemeral') }} select id from {{ ref('first') }}",
    "models/grown.sql": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id, current_timestamp as at from {{ ref('inner') }}
        """,
    "models/child.sql": "select flaky.id from {{ ref('flaky') }} as flaky join {{ ref('first') }} using (id)",
    "models/checked.sql": "select 2 as id",
    "models/tested.sql": "select id * 2 as twice from {{ ref('first') }}",
    "models/after_tested.sql": "select * from {{ ref('tested') }}",
    "snapshots/history.yml": """
        snapshots:
          - name: history
            relation: ref('first')
            config: {unique_key: id, strategy: check, check_cols: all}
        """,
    "models/unit_tests.yml": """
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
    config = {"executor": "in_process", "dbt": {**engine_config("v2"), **dbt}}
    artifacts = contract(*(model(name) for name in MODELS), config=config, dbt_profiles=output)
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
    assert headline == f"{shop}: 4 failed, 5 skipped because of them, 10 succeeded"
    first_lines = {
        '  models/flaky.sql: model flaky: Database Error: IO Error: No files found that match the pattern "flag.csv"',
        (
            "  tests/no_such_column.sql: test no_such_column: Database Error: Binder Error: "
            'Referenced column "no_such_column" not found in FROM clause!'
        ),
        "  models/schema.yml: test accepted_values_checked_id__1: Got 1 result",
        "  models/unit_tests.yml: unit test twice_the_id: actual differs from expected:",
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
        "unique_first_ID": (True, "ERROR", "pass"),
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
    assert set(checks(result)) == {"unique_first_ID"}


def observed(result: dg.ExecuteInProcessResult, name: str) -> dict[str, dg.MetadataValue]:
    """Return a value that the run's observations have in their metadata, by the asset's name."""
    events = [event for event in result.all_events if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION]
    observations = [event.asset_observation_data.asset_observation for event in events]
    return {one.asset_key.path[-1]: one.metadata[name] for one in observations if name in one.metadata}


def observed_columns(result: dg.ExecuteInProcessResult) -> dict[str, dg.TableSchema]:
    """Return the columns that the run's observations have, by the asset's name."""
    found = observed(result, "dagster/column_schema")
    return {name: schema.schema for name, schema in found.items() if isinstance(schema, dg.TableSchemaMetadataValue)}


def test_columns_are_recorded_once_dbt_has_ended(shop: Path, instance: dg.DagsterInstance) -> None:
    write_contract(shop, row_counts="all")

    result = run(shop, instance, ["regions", "first", "history", "island"], exclude="resource_type:test")

    assert result.success
    schemas = observed_columns(result)
    rows = {name: value.value for name, value in observed(result, "dagster/row_count").items()}
    assert rows == {"regions": 2, "first": 2, "history": 2, "island": 1}  # island is a view
    assert {name: {column.name: column.type for column in schema.columns} for name, schema in schemas.items()} == {
        "regions": {"id": "INTEGER", "name": "VARCHAR"},
        "first": {"id": "INTEGER", "name": "VARCHAR"},
        "island": {"id": "INTEGER"},
        "history": {
            "id": "INTEGER",
            "name": "VARCHAR",
            **dict.fromkeys(("dbt_updated_at", "dbt_valid_from", "dbt_valid_to"), "TIMESTAMP"),
            "dbt_scd_id": "VARCHAR",
        },
    }
    assert schemas["first"].columns[0].description == "The key."

    write_contract(shop, columns=False)
    unasked = run(shop, instance, ["first"])
    assert unasked.success
    assert not observed_columns(unasked)


def test_columns_are_recorded_where_the_projects_env_file_has_a_relative_path_of_the_database(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    path = shop / "compiled_artifacts.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["dbt_profiles"]["shop-orders"]["outputs"]["dev"]["path"] = "{{ env_var('SHOP_DATABASE') }}"
    write_json(path, content)
    (shop / ".env").write_text("SHOP_DATABASE=shop.duckdb\n", encoding="utf-8")

    result = run(shop, instance, ["regions"])

    assert result.success
    assert set(observed_columns(result)) == {"regions"}


def test_a_model_that_does_not_compile_is_not_tried_again_and_a_project_that_does_not_names_its_file(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    (shop / "models" / "island.sql").write_text("select {{ exceptions.raise_compiler_error('oh') if execute }} as id")

    result = run(shop, instance, ["island"])

    assert "  models/island.sql: model island: Compilation Error: oh" in failure_of(result)

    (shop / "models" / "island.sql").write_text("select * from {{ ref('nowhere') }}")
    broken = failure_of(run(shop, instance, ["first"]))
    assert broken.startswith(f"{shop}: dbt failed: Ref 'nowhere' not found in project.")
    assert "models/island.sql" in broken


def test_a_failing_node_with_fail_fast_ends_the_run_with_its_reason(shop: Path, instance: dg.DagsterInstance) -> None:
    (shop / "models" / "child.sql").write_text("select id from {{ ref('first') }}")

    result = run(shop, instance, ["checked", "after_checked"], fail_fast=True)

    assert "test accepted_values_checked_id__1: Got 1 result" in failure_of(result)
    assert "checked" in built(result)
    assert "after_checked" not in built(result)


def test_what_a_run_leaves_is_private_where_dbt_masks_nothing(shop: Path, instance: dg.DagsterInstance) -> None:
    assert run(shop, instance, ["regions"]).success

    [target] = (path.parent for path in (shop / "target").glob("*/.floe-succeeded"))
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert not list(shop.rglob("dbt.log"))
    assert not list(shop.rglob("query_log.sql"))


SOURCES = """
    sources:
      - name: pantry
        schema: main
        config:
          freshness: {warn_after: {count: 1, period: day}, error_after: {count: 2, period: day}}
        tables:
          - {name: fresh, identifier: files, config: {loaded_at_field: current_timestamp}}
          - {name: warm, identifier: files, config: {loaded_at_field: current_timestamp - interval 36 hour}}
          - {name: stale, identifier: files, config: {loaded_at_field: "cast(now() - interval 72 hour as timestamp)"}}
          - {name: empty, identifier: files, config: {loaded_at_field: now(), freshness: {filter: id > 1}}}
          - {name: broken, identifier: files, config: {loaded_at_field: no_such_column}}
          - {name: numbered, identifier: files, config: {loaded_at_field: id}}
    """


def test_source_freshness_comes_from_a_query_for_each_source(
    shop: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    write_files(shop, {"models/pantry.yml": SOURCES})
    path = shop / "compiled_artifacts.json"
    load_product(path, manifest_source=manifest_rebuilt)
    definitions = definitions_from_file(path)
    keys = [key for key in definitions.resolve_asset_graph().asset_check_keys if key.name == "freshness"]
    job = dg.define_asset_job("on_demand", selection=dg.AssetSelection.checks(*keys))
    with_job = dg.Definitions(assets=definitions.assets, asset_checks=definitions.asset_checks, jobs=[job])

    result = with_job.resolve_job_def("on_demand").execute_in_process(instance=instance, raise_on_error=False)

    assert result.success
    found = {evaluation.asset_key.path[-1]: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert {name: (evaluation.passed, evaluation.severity.value) for name, evaluation in found.items()} == {
        "fresh": (True, "ERROR"),
        "warm": (False, "WARN"),
        "stale": (False, "ERROR"),
        "empty": (False, "ERROR"),
        "broken": (False, "ERROR"),
        "numbered": (False, "ERROR"),
    }
    stale: dict[str, Any] = {name: value.value for name, value in found["stale"].metadata.items()}
    assert stale["status"] == "error"
    assert 72 * 3600 <= stale["age_seconds"] < 73 * 3600
    assert stale["criteria"]["error_after"] == {"count": 2, "period": "day"}
    assert found["empty"].metadata["max_loaded_at"].value == "0001-01-01T00:00:00+00:00"
    assert "no_such_column" in str(found["broken"].description)
    assert "'1' is not a timestamp: correct loaded_at_field" in str(found["numbered"].description)
    assert_valid_json(backend.events)
    assert states(backend, "source.shop.pantry.stale") == ["START", "FAIL"]
