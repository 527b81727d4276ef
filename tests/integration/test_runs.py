"""A run on real dbt: results of all nodes in Dagster, in the run's log and in a lineage backend."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from integration.failing_shop import SECRET, built, logged, ran, shop_job, states
from openlineage_schemas import assert_valid_json
from recording import recording
from unit.samples import write_json
from webhook import receiving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lineage_backend import LineageServer


def test_failed_and_skipped_nodes_are_recorded_and_a_re_execution_runs_only_them(
    shop: Path, lasting: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], backend: LineageServer
) -> None:
    first = dg.execute_job(dg.reconstructable(shop_job), instance=lasting)

    assert not first.success
    # Of what is outside dbt, only what needs nothing of the failed step: `early` reads a table that is there.
    assert set(built(first)) == {"regions", "chatty", "first", "island", "checked", "aside"}
    [failure] = first.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert data.user_failure_data.description is not None
    headline, *lines = data.user_failure_data.description.splitlines()
    assert headline == f"{shop}: 3 failed, 3 skipped because of them, 9 succeeded"
    assert any(
        line.startswith("  models/flaky.sql: model flaky: Runtime Error: IO Error: No files found") for line in lines
    )
    assert any(line.startswith("  models/batched.sql: model batched: PARTIAL SUCCESS (") for line in lines)
    reason = lines.index("batch 2025 of main.batched: Runtime Error")
    assert "No files found" in lines[reason + 1]
    assert "  models/schema.yml: test accepted_values_checked_id__1: Got 1 result, configured to fail if != 0" in lines
    assert lines[-1] == "    fix: Correct it, then re-execute from failure. Nodes that succeeded are not built again."
    skipped = data.user_failure_data.metadata["skipped"]
    assert isinstance(skipped, dg.TableMetadataValue)
    assert {(row.data["skipped"], row.data["because of"]) for row in skipped.records} == {
        ("model child", "flaky"),
        ("test not_null_child_id", "flaky"),
        ("model after_checked", "accepted_values_checked_id__1"),
    }
    assert re.search(
        r"^\d+/15 error model flaky, [\d.]+ s\nRuntime Error", logged(lasting, first.run_id, "ERROR"), re.MULTILINE
    )
    assert re.search(
        r"^\d+/15 skipped model child because of flaky$", logged(lasting, first.run_id, "WARNING"), re.MULTILINE
    )
    assert re.search(
        r"^\d+/15 success seed regions, 2 rows, [\d.]+ s$", logged(lasting, first.run_id, "INFO"), re.MULTILINE
    )
    assert_failures_are_shown({found.check_name: found.metadata for found in first.get_asset_check_evaluations()})
    [attached] = Path(lasting.storage_directory(), first.run_id).glob("*-dbt_artifacts.tar.gz")
    assert f"dbt's artifacts are in {attached}" in logged(lasting, first.run_id, "INFO")
    with tarfile.open(attached) as archive:
        results = json.load(archive.extractfile("run_results.json") or io.BytesIO())
        assert {result["status"] for result in results["results"]} == {
            "success",
            "pass",
            "warn",
            "error",
            "fail",
            "skipped",
            "partial success",
        }
        assert {"manifest.json", "compiled/shop/models/flaky.sql"} <= set(archive.getnames())
    captured = capfd.readouterr().out
    assert "create or replace" in captured or "create  table" in captured
    assert SECRET not in captured
    for printed in ("FloeDbtEnd", "half a line of a child", "half a line of a library", "half a line of a model"):
        assert printed in captured

    (shop / "flag.csv").write_text("id\n1\n", encoding="utf-8")
    (shop / "checked.csv").write_text("id\n1\n", encoding="utf-8")
    again = dg.execute_job(
        dg.reconstructable(shop_job),
        instance=lasting,
        reexecution_options=dg.ReexecutionOptions.from_failure(first.run_id, lasting),
        tags={"dagster/is_resume_retry": "true"},  # as the webserver and the daemon mark such a run
    )

    assert again.success
    assert ran(shop)[-1] - {"shop-on-run-end-0", "shop-on-run-end-1"} == {
        *("batched", "flaky", "child", "not_null_child_id"),
        *("checked", "accepted_values_checked_id__1", "after_checked"),
    }
    rebuilt = built(again)
    assert set(rebuilt) == {"batched", "flaky", "child", "checked", "after_checked", "report", "early", "first"}
    assert rebuilt["first"] == {"status": "reused", "floe/built_in_run": first.run_id}
    assert rebuilt["child"]["status"] == "success"
    # A microbatch model is counted once, not for each of its batches.
    assert capfd.readouterr().out.count('select count(*) from "shop"."main"."batched"') == 1
    assert rebuilt["batched"]["dagster/row_count"] == 1
    assert "dagster/row_count" not in built(first)["island"]  # a view
    stands = {one.check_name: one.metadata["status"].value for one in again.get_asset_check_evaluations()}
    assert stands["unique_first_ID"] == "reused"
    assert stands["not_null_child_id"] == "pass"
    assert rebuilt["after_checked"]["dagster/column_lineage"] == dg.TableColumnLineage(
        {"id": [dg.TableColumnDep(dg.AssetKey("checked"), "id")]}
    )
    assert_valid_json(backend.events)
    assert states(backend, "shop-orders") == ["START", "FAIL", "START", "COMPLETE"]


def test_owners_are_told_what_is_broken_and_that_it_works_again(
    shop: Path, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text(encoding="utf-8"))
    artifacts["plugins"]["orchestrator"]["config"]["alerts"] = [{"name": "team", "variable": "TEAM_ALERTS"}]
    write_json(path, artifacts)
    definitions = definitions_from_file(path)
    [alerts] = [sensor for sensor in definitions.sensors or () if sensor.name == "shop_orders_alerts"]
    chosen = [dg.AssetKey(name) for name in ("first", "flaky", "child", "checked", "after_checked")]

    def run_and_tick(cursor: str | None) -> str | None:
        job = definitions.resolve_job_def("shop_orders")
        job.execute_in_process(instance=lasting, asset_selection=chosen, raise_on_error=False)
        context = dg.build_sensor_context(instance=lasting, cursor=cursor)
        alerts(context)
        return context.cursor

    monkeypatch.setattr("floe_orchestrator_dagster.automation.alerts.sensor._SETTLING_SECONDS", 0.0)
    with receiving() as webhook:
        monkeypatch.setenv("TEAM_ALERTS", webhook.url)
        first = dg.build_sensor_context(instance=lasting)
        alerts(first)
        cursor = run_and_tick(first.cursor)
        told = {message["title"]: message["message"] for message in webhook.messages}
        write_files(shop, {"flag.csv": "id\n1\n", "checked.csv": "id\n1\n"})
        run_and_tick(cursor)

    assert sorted(told) == [
        "shop-orders: asset flaky failed",
        "shop-orders: check accepted_values_checked_id__1 of checked failed",
    ]
    assert "No files found" in told["shop-orders: asset flaky failed"]
    assert "Skipped because of it: model child" in told["shop-orders: asset flaky failed"]
    assert "where value_field not in" in told["shop-orders: check accepted_values_checked_id__1 of checked failed"]
    assert sorted(message["title"] for message in webhook.messages[2:]) == [
        "shop-orders: asset flaky works again",
        "shop-orders: check accepted_values_checked_id__1 of checked works again",
    ]


def test_lineage_reports_the_end_of_each_node_while_the_run_continues(
    shop: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], backend: LineageServer
) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("first", "flaky", "child")]

    with recording() as recorded:
        result = job.execute_in_process(instance=instance, asset_selection=chosen, raise_on_error=False)

    assert_valid_json(backend.events)
    build = recorded.span("build").get_span_context()
    assert build is not None
    flush = dict(recorded.span("lineage.flush").attributes or {})
    assert (flush["floe.namespace"], flush["floe.product.name"]) == ("sales", "shop-orders")
    trace = f"{build.trace_id:032x}"
    tags = [tag for event in backend.events for tag in event["run"]["facets"]["tags"]["tags"]]
    traces = [tag["value"].split("-")[1] for tag in tags if tag["key"] == "traceparent"]
    assert traces == [trace] * len(backend.events)
    # Variables of dbt's environment, printed by a hook.
    assert f"traceparent 00-{trace}-{build.span_id:016x}-" in capfd.readouterr().out
    ends = {
        event["job"]["name"].removeprefix("model.shop."): event["eventType"]
        for event in backend.events
        if event["eventType"] != "START" and "test." not in event["job"]["name"]
    }
    assert ends == {"first": "COMPLETE", "flaky": "FAIL", "child": "ABORT", "shop-orders": "FAIL"}
    assert backend.names[0] == "shop-orders"
    assert backend.names[-1] == "shop-orders"
    [first] = [event for event in backend.events if event["job"]["name"] == "model.shop.first"][1:]
    [table] = first["outputs"]
    assert (table["namespace"], table["name"]) == (f"duckdb://{shop / 'shop.duckdb'}", "shop.main.first")
    fields = table["facets"]["schema"]["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [("id", "INTEGER"), ("name", "VARCHAR")]
    [flaky] = [event for event in backend.events if event["job"]["name"] == "model.shop.flaky"][1:]
    assert "No files found" in flaky["run"]["facets"]["errorMessage"]["message"]
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["floe/lineage"] == f"{len(backend.events)} sent"


def test_results_carry_columns_rows_and_the_query_that_shows_them(
    shop: Path, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The database's path comes from the environment, and is a link.
    path = shop / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text())
    artifacts["dbt_profiles"]["shop-orders"]["outputs"]["dev"]["path"] = "{{ env_var('SHOP_DB') }}"
    artifacts["plugins"]["orchestrator"]["config"]["dbt"]["row_counts"] = "all"
    write_json(path, artifacts)
    monkeypatch.setenv("SHOP_DB", "shop.duckdb")
    (tmp_path / "warehouse").mkdir()
    warehouse = (shop / "shop.duckdb").rename(tmp_path / "warehouse" / "shop.duckdb")
    (shop / "shop.duckdb").symlink_to(warehouse)
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("regions", "first", "island")]

    result = job.execute_in_process(instance=instance, asset_selection=chosen)

    assert (tmp_path / "warehouse" / ".shop.duckdb.lock").exists()
    assert not (shop / ".shop.duckdb.lock").exists()
    tables = built(result)
    assert tables["regions"]["rows_affected"] == 2
    rows = {name: table.get("dagster/row_count") for name, table in tables.items()}
    assert rows == {"regions": 2, "first": 1, "island": 1}  # island is a view
    assert tables["first"]["dagster/column_schema"] == dg.TableSchema(
        [dg.TableColumn("id", "INTEGER", description="The key."), dg.TableColumn("name", "VARCHAR")]
    )
    assert Path(tables["first"]["compiled_sql"]).read_text().strip() == "select 1 as id, 'a' as name"
    checks = {found.check_name: found for found in result.get_asset_check_evaluations()}
    warned = checks["accepted_values_island_id__3"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warned.description == "Got 1 result, configured to warn if != 0"
    assert warned.metadata["dagster_dbt/failed_row_count"].value == 1
    assert shown_failure(warned.metadata) == ("id", {"values": [3]}, [{"value_field": "1", "n_records": "1"}])
    query = str(warned.metadata["failed_rows_query"].value)
    assert query == '```sql\nselect * from "shop"."main_dbt_test__audit"."accepted_values_island_id__3"\n```'
    with duckdb.connect(str(shop / "shop.duckdb"), read_only=True) as connection:
        assert connection.sql(query.removeprefix("```sql\n").removesuffix("\n```")).fetchall() == [(1, 1)]
    assert checks["unique_first_ID"].passed


def assert_failures_are_shown(checks: Mapping[str, Mapping[str, dg.MetadataValue]]) -> None:
    checked, passed = checks["accepted_values_checked_id__1"], checks["unique_first_ID"]
    assert shown_failure(checked) == ("id", {"values": [1]}, [{"value_field": "2", "n_records": "1"}])
    assert not passed.keys() & {"floe/column", "floe/arguments", "failed_rows_query", "failed_rows"}


def shown_failure(metadata: Mapping[str, dg.MetadataValue]) -> tuple[object, object, list[object]]:
    """Return the column, the arguments and the rows that a failed check shows."""
    rows = metadata["failed_rows"]
    assert isinstance(rows, dg.TableMetadataValue)
    return metadata["floe/column"].value, metadata["floe/arguments"].value, [row.data for row in rows.records]


def test_a_database_that_another_process_holds_is_named_with_what_to_do(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    code = f"import duckdb; c = duckdb.connect({str(shop / 'shop.duckdb')!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("first")], raise_on_error=False)
        holder.stdin.close()

    [failure] = result.filter_events(lambda event: event.is_step_failure)
    text = str(failure.step_failure_data.error)
    assert "Could not set lock on file" in text
    assert "fix: Another process has opened the DuckDB file. Close it" in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"schema": "{{ env_var('SHOP_SCHEMA') }}"}, "SHOP_SCHEMA"),
        # Nobody can make a directory there: not an error of this package's own.
        ({"path": "/proc/shop/shop.duckdb"}, "/proc/shop"),
    ],
)
def test_run_whose_dbt_cannot_start_fails_and_has_lineage(
    shop: Path, backend: LineageServer, instance: dg.DagsterInstance, setting: dict[str, str], said: str
) -> None:
    artifacts = json.loads((shop / "compiled_artifacts.json").read_text(encoding="utf-8"))
    artifacts["dbt_profiles"]["shop-orders"]["outputs"]["dev"] |= setting
    job = definitions_from_file(write_json(shop / "compiled_artifacts.json", artifacts)).resolve_job_def("shop_orders")

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    [failure] = result.get_step_failure_events()
    assert said in str(failure.step_failure_data)
    assert states(backend, "shop-orders") == ["START", "FAIL"]
    assert set(backend.names) == {"shop-orders"}
