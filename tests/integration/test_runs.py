"""A run on real dbt: what became of every node, what a retry runs, what is left on disk."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_made_anew
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from recording import recording
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lineage_backend import LineageServer

SECRET = "correct-horse-battery"  # noqa: S105 - nobody's
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-end:
          - "{{ 'copy (select 1 as id) to ''flag.csv''' if var('mend', false) }}"
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


@pytest.fixture(scope="session")
def _parsed_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("runs") / "shop", FILES)
    output = profiles(threads=1)
    output["shop-orders"]["outputs"]["prod"] = {"type": "postgres", "password": "{{ env_var('SHOP_PASSWORD') }}"}
    config = {"executor": "in_process", "dbt": {"keep_targets": 1, "keep_failed_targets": 2, "attach_artifacts": True}}
    models = [model(name) for name in NAMES]
    artifacts = contract(*models, config=config, dbt_profiles=output)
    artifacts["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_made_anew)
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("create table files as select 1 as id")
    return project


@pytest.fixture
def shop(_parsed_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project in which `flaky` fails, and a test of `checked`."""
    project = Path(shutil.copytree(_parsed_shop, tmp_path / "shop"))
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(project / "compiled_artifacts.json"))
    return project


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:
    """Serve a lineage backend that the test's runs tell of themselves."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving() as served:
        monkeypatch.setenv("OPENLINEAGE_URL", served.url.removesuffix("/api/v1/lineage"))
        yield served


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance whose runs can be re-executed."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


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


def tried_again(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def logged(instance: dg.DagsterInstance, run_id: str, level: str) -> str:
    levels = {"INFO": 20, "WARNING": 30, "ERROR": 40}
    entries = instance.all_logs(run_id)
    return "\n".join(
        entry.user_message for entry in entries if entry.level == levels[level] and not entry.is_dagster_event
    )


def test_failed_and_skipped_nodes_are_told_and_a_re_execution_runs_only_what_is_left(
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
    assert lines[-1] == "    fix: Correct it, then re-execute from failure: what succeeded is not built again."
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
        r"^\d+/15 skipped model child, because of flaky$", logged(lasting, first.run_id, "WARNING"), re.MULTILINE
    )
    assert re.search(
        r"^\d+/15 success seed regions, 2 rows, [\d.]+ s$", logged(lasting, first.run_id, "INFO"), re.MULTILINE
    )
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
    stands = {one.check_name: one.metadata["status"].value for one in again.get_asset_check_evaluations()}
    assert stands["unique_first_ID"] == "reused"
    assert stands["not_null_child_id"] == "pass"
    assert rebuilt["after_checked"]["dagster/column_lineage"] == dg.TableColumnLineage(
        {"id": [dg.TableColumnDep(dg.AssetKey("checked"), "id")]}
    )
    assert_valid_json(backend.events)
    assert states(backend, "shop-orders") == ["START", "FAIL", "START", "COMPLETE"]


def test_lineage_tells_what_became_of_each_node_while_the_run_goes_on(
    shop: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("first", "flaky", "child")]

    with recording() as recorded:
        result = job.execute_in_process(instance=instance, asset_selection=chosen, raise_on_error=False)

    assert_valid_json(backend.events)
    build = recorded.span("build").get_span_context()
    assert build is not None
    trace = f"{build.trace_id:032x}"
    tags = [tag for event in backend.events for tag in event["run"]["facets"]["tags"]["tags"]]
    traces = [tag["value"].split("-")[1] for tag in tags if tag["key"] == "traceparent"]
    assert traces == [trace] * len(backend.events)
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
    assert tables["first"]["dagster/column_schema"] == dg.TableSchema(
        [dg.TableColumn("id", "INTEGER", description="The key."), dg.TableColumn("name", "VARCHAR")]
    )
    assert Path(tables["first"]["compiled_sql"]).read_text().strip() == "select 1 as id, 'a' as name"
    checks = {found.check_name: found for found in result.get_asset_check_evaluations()}
    warned = checks["accepted_values_island_id__3"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warned.description == "Got 1 result, configured to warn if != 0"
    assert warned.metadata["dagster_dbt/failed_row_count"].value == 1
    query = str(warned.metadata["failed_rows_query"].value)
    assert query == '```sql\nselect * from "shop"."main_dbt_test__audit"."accepted_values_island_id__3"\n```'
    with duckdb.connect(str(shop / "shop.duckdb"), read_only=True) as connection:
        assert connection.sql(query.removeprefix("```sql\n").removesuffix("\n```")).fetchall() == [(1, 1)]
    assert checks["unique_first_ID"].passed


def job_that_tries_twice(shop: Path) -> dg.JobDefinition:
    path = shop / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text())
    artifacts["plugins"]["orchestrator"]["config"]["retries"] = {"max_retries": 1}
    write_json(path, artifacts)
    return definitions_from_file(path).resolve_job_def("shop_orders")


def test_a_hook_that_fails_is_named_and_a_retry_runs_it_again_with_its_nodes(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    job = job_that_tries_twice(shop)

    def launch(**options: object) -> dg.ExecuteInProcessResult:
        config = {"ops": {"shop_orders_dbt_build": {"config": options}}}
        chosen = [dg.AssetKey("first")]
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    result = launch(vars={"break_hook": True})

    assert tried_again(result) == 1
    headline, hook, *_ = failure_of(result).splitlines()
    assert headline == f"{shop}: 1 on-run hook failed, 2 succeeded"
    assert hook.startswith("  dbt_project.yml: hook shop.on-run-end.1: ")
    assert [names & {"first", "unique_first_ID"} for names in ran(shop)] == [{"first", "unique_first_ID"}] * 2
    refused = launch(flags=["--select"])
    assert "is not passed on to dbt" in failure_of(refused)
    assert tried_again(refused) == 0


def keys_left(instance: dg.DagsterInstance, run_id: str) -> tuple[set[dg.AssetKey], set[dg.AssetCheckKey]]:
    """Ask Dagster what a re-execution of the failed assets selects, as its webserver does."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    plan = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
    find = getattr(instance, "_get_keys_to_reexecute", None)  # of Dagster 1.10
    if find is None:
        from dagster._core.instance.runs.run_domain import RunDomain

        find = RunDomain(instance).get_keys_to_reexecute
    assets, checks = find(run_id, plan)
    return set(assets), set(checks)


def test_a_re_execution_of_failed_assets_runs_what_dagster_selects(shop: Path, instance: dg.DagsterInstance) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("first", "flaky", "child", "checked", "after_checked")]
    first = job.execute_in_process(instance=instance, asset_selection=chosen, raise_on_error=False)
    assets, checks = keys_left(instance, first.run_id)

    (shop / "flag.csv").write_text("id\n1\n", encoding="utf-8")
    (shop / "checked.csv").write_text("id\n1\n", encoding="utf-8")
    again = job.get_subset(asset_selection=assets, asset_check_selection=checks).execute_in_process(
        instance=instance,
        tags={
            "dagster/is_asset_resume_retry": "true",
            "dagster/parent_run_id": first.run_id,
            "dagster/root_run_id": first.run_id,
        },
    )

    assert {key.path[-1] for key in assets} == {"flaky", "child", "checked", "after_checked"}
    assert again.success
    assert set(built(again)) == {"flaky", "child", "checked", "after_checked"}
    assert {name for name in ran(shop)[-1] if not name.startswith("shop-on-run-end")} == {
        *("flaky", "child", "not_null_child_id"),
        *("checked", "accepted_values_checked_id__1", "after_checked"),
    }


def test_a_retry_of_the_step_runs_only_what_is_left(
    shop: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    job = job_that_tries_twice(shop)
    chosen = [dg.AssetKey(name) for name in ("regions", "first", "flaky", "child")]
    config = {"ops": {"shop_orders_dbt_build": {"config": {"vars": {"mend": True}}}}}

    result = job.execute_in_process(instance=instance, asset_selection=chosen, run_config=config)

    assert result.success
    first, second = ran(shop)
    assert {"regions", "first", "flaky", "child"} <= first
    assert {name for name in second if not name.startswith("shop-on-run-end")} == {
        "flaky",
        "child",
        "not_null_child_id",
    }
    assert all(metadata["status"] == "success" for metadata in built(result).values())
    assert_valid_json(backend.events)
    assert states(backend, "shop-orders") == ["START", "COMPLETE"]  # no FAIL of a step that is tried again
    assert states(backend, "model.shop.flaky") == ["START", "FAIL", "START", "COMPLETE"]
    first_try, _, second_try, _ = (e for e in backend.events if e["job"]["name"] == "model.shop.flaky")
    assert first_try["run"]["runId"] != second_try["run"]["runId"]


def test_options_of_the_run_reach_dbt_and_others_are_refused(shop: Path, instance: dg.DagsterInstance) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("first", "island")]

    def launch(**options: object) -> dg.ExecuteInProcessResult:
        config = {"ops": {"shop_orders_dbt_build": {"config": options}}}
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    result = launch(
        vars={"island": 3}, exclude="first not_null_island_id", fail_fast=True, threads=2, flags=["--store-failures"]
    )

    assert result.success
    assert set(built(result)) == {"island"}
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    command = next(line for line in logged(instance, result.run_id, "INFO").splitlines() if "running dbt" in line)
    assert command.endswith(
        '--vars {"island": 3} --threads 2 --fail-fast --store-failures --profile shop_orders --target dev'
    )
    refused = launch(flags=["--select", "--vars={}", "--nonsense"])
    text = failure_of(refused)
    assert "'--select' is not passed on to dbt: launch the run for the assets that you want" in text
    assert "'--vars={}' is not passed on to dbt: set `vars`" in text
    assert "'--nonsense' is not passed on to dbt: known flags are --empty" in text
    unknown = "target: 'test' is no output of the dbt profile 'shop_orders'. Choose one of 'dev', 'prod'."
    assert unknown in failure_of(launch(target="test"))
    assert "run configuration, exclude: 'nonsense:x' is no dbt selection" in failure_of(launch(exclude="nonsense:x"))


def test_target_directories_of_old_runs_go_and_those_of_failures_stay(shop: Path, instance: dg.DagsterInstance) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")

    def directories() -> set[Path]:
        return {path.parent for path in (shop / "target").glob("*/.floe-*")}

    def build(name: str) -> Path:
        before = directories()
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(name)], raise_on_error=False)
        [new] = directories() - before
        return new

    failed = build("flaky")
    succeeded = build("first")
    newest = build("first")

    assert directories() == {failed, newest}
    assert not succeeded.exists()
    assert (failed / "compiled" / "shop" / "models" / "flaky.sql").is_file()
    assert not list(newest.glob("partial_parse.msgpack"))
    assert (shop / "target" / "compiled" / "shop" / "models" / "first.sql").is_file()


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
    assert "fix: Another process has the DuckDB file open: close it" in text
