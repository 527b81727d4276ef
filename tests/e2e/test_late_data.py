"""Dagster's own daemon reports a model that was not built for too long, and its next build, each once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from e2e.shop import LOCATION, ended, eventually, launch
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json
from webhook import receiving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif("AUTOMATION" not in os.environ, reason="a policy needs minutes: run `make test-automation`"),
    pytest.mark.skipif(
        not hasattr(getattr(dg, "FreshnessPolicy", None), "time_window"), reason="no policies before Dagster 1.12"
    ),
]
FILES = {
    "dbt_project.yml": "{name: shop_orders, profile: shop_orders, version: '1.0'}",
    "models/orders.sql": """
        {{ config(materialized='table', freshness={'error_after': {'count': 3, 'period': 'minute'}}) }}
        select 1 as id
        """,
}
CONFIG = {"executor": "in_process", "alerts": [{"name": "platform", "variable": "ALERTS"}]}
TICKS = """{
  sensorsOrError(repositorySelector: {repositoryLocationName: "%s", repositoryName: "__repository__"}) {
    ... on Sensors { results { sensorState { ticks(limit: 1) { id } } } }
  }
}"""


def has_tick(dev: DagsterDev) -> bool:
    """Return whether the sensor has run."""
    [sensor] = dev.graphql(TICKS % LOCATION)["sensorsOrError"]["results"]
    return bool(sensor["sensorState"]["ticks"])


def test_a_late_model_is_one_message_and_its_next_build_another(tmp_path: Path) -> None:
    project = write_files(tmp_path / "shop", FILES)
    artifacts = write_json(project / "compiled_artifacts.json", contract(model("orders"), config=CONFIG))
    load_product(artifacts, manifest_source=manifest_rebuilt)
    home, log, port = dagster_home(tmp_path / "home"), tmp_path / "dagster_dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    with receiving() as webhook:
        arguments = ["-m", LOCATION, "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "FLOE_ARTIFACTS_PATH": str(artifacts),
            "DAGSTER_HOME": str(home),
            "ALERTS": webhook.url,
            "FRESHNESS_DAEMON_INTERVAL_SECONDS": "5",
        }
        with server("dev", *arguments, log=log, **environment) as process:
            wait_until(lambda: answers(dev), 600, process, log)
            eventually(dev, lambda: has_tick(dev))
            built = launch(dev, "shop_orders")
            assert ended(dev, built) == "SUCCESS"
            eventually(dev, lambda: len(webhook.messages) == 1)
            rebuilt = launch(dev, "shop_orders")
            assert ended(dev, rebuilt) == "SUCCESS"
            eventually(dev, lambda: len(webhook.messages) == 2)

    late, fresh = webhook.messages
    assert late["title"] == "shop-orders: freshness of orders failed"
    assert late["message"].startswith(f"Run: {built}\n")
    assert "which its freshness policy does not allow." in late["message"]
    assert (fresh["title"], fresh["message"]) == (
        "shop-orders: freshness of orders works again",
        f"Run: {rebuilt}",
    )
