"""The gRPC code server, as a deployment runs one per product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

from e2e.servers import dagster_home, free_port, server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port(prepared_sample: Path, tmp_path: Path) -> Iterator[int]:
    """Serve the prepared sample and give the port of its code server."""
    home, log, port = dagster_home(tmp_path / "home"), tmp_path / "code_server.log", free_port()
    environment = {
        "FLOE_ARTIFACTS_PATH": str(prepared_sample / "compiled_artifacts.json"),
        "DAGSTER_HOME": str(home),
    }
    module = ("-m", "floe_orchestrator_dagster.definitions")
    client = DagsterGrpcClient(host="127.0.0.1", port=port)
    with server("api", "grpc", *module, "--host", "127.0.0.1", "--port", str(port), log=log, **environment) as process:
        wait_until(lambda: _answers(client), 600, process, log)
        yield port


def _answers(client: DagsterGrpcClient) -> bool:
    try:
        client.ping("floe")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def test_code_server_serves_the_assets_the_job_and_the_schedule(port: int) -> None:
    target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="floe")

    with dg.instance_for_test() as instance, WorkspaceProcessContext(instance, target) as workspace:
        location = workspace.create_request_context().get_code_location("floe")
        [repository] = location.get_repositories().values()
        graph = repository.asset_graph

        assert {job.name for job in repository.get_all_jobs()} == {"__ASSET_JOB", "retail_orders"}
        assert [
            (schedule.name, schedule.job_name, schedule.cron_schedule, schedule.execution_timezone)
            for schedule in repository.get_schedules()
        ] == [("retail_orders_schedule", "retail_orders", "0 6 * * MON-FRI", "America/New_York")]
        assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
            "customer_lifetime_value",
            "customers",
            "customers_snapshot",
            "dim_customers",
            "dim_products",
            "fct_daily_revenue",
            "fct_orders",
            "int_customer_orders",
            "int_order_payments",
            "product_performance",
            "products",
            "stg_customers",
            "stg_order_items",
            "stg_orders",
            "stg_payments",
            "stg_products",
            "stg_stores",
            "stores",
        }
        assert {key.to_user_string() for key in graph.external_asset_keys} == {
            "exposure/weekly_trading_dashboard",
            "shop/order_items",
            "shop/orders",
            "shop/payments",
        }
        assert len(graph.asset_check_keys) == 83
