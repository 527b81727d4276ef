"""A real dbt build of some of the sample's nodes, as its log and results have it, and what runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.lineage.datasets.names import read_warehouse
from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents, LineageRun, NodeOutcome, outcome_of
from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.product.spec import ProductSpec
from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import model, product

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    Json = dict[str, Any]

DATA = Path(__file__).parents[2] / "data" / "lineage"
CREATED_AT = datetime(2026, 11, 22, 5, 0, tzinfo=timezone.utc)
RUN_ID = "5f0c1d3a-7a0e-4b8f-9a64-0f6f1f1f8a11"
PRODUCER = "https://example.com/floe-orchestrator-dagster/0.1.0"
OUTPUT = {"type": "duckdb", "path": "/warehouse/retail_orders.duckdb"}
WAREHOUSE = read_warehouse(OUTPUT, {}, PurePosixPath("/project"))
FCT_ORDERS = "model.retail_orders.fct_orders"
STG_ORDERS = "model.retail_orders.stg_orders"
INVOCATION = "a8167bf9-4725-462a-bd38-2e2c383fa1b1"


def lineage_run(**changes: Any) -> LineageRun:  # noqa: ANN401  # any field of the run
    """Make the run of the sample's step."""
    sample = product(
        model("stg_orders", quality_tier="bronze"), model("fct_orders", quality_tier="gold"), name="retail-orders"
    )
    spec = ProductSpec(
        owner="retail-data@example.com", description="Orders of a small shop chain", labels={"domain": "retail"}
    )
    run = LineageRun(
        product=replace(sample, spec=spec),
        dagster_run_id=RUN_ID,
        job_name="retail_orders_job",
        created_at=CREATED_AT,
        producer=PRODUCER,
        step_key="retail_orders_dbt",
        dagster_version="1.13.27",
        dbt_version="1.11.16",
        adapter="duckdb 1.11.1",
        adapter_version="0.1.0",
    )
    return replace(run, **changes)


@cache
def sample_manifest() -> Manifest:
    """Read the manifest of the build's nodes."""
    path = DATA / "manifest.json"
    return Manifest(path, trim(json.loads(path.read_text(encoding="utf-8"))))


@cache
def log_events() -> list[Json]:
    """Read dbt's log."""
    return [json.loads(line) for line in (DATA / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def outcomes() -> dict[str, NodeOutcome]:
    """Read what dbt's results and the warehouse tell of each node."""
    results = json.loads((DATA / "results.json").read_text(encoding="utf-8"))
    return {result["unique_id"]: outcome_of(result, result.get("columns", {})) for result in results}


def new_events(**changes: Any) -> DbtEvents:  # noqa: ANN401  # any field of the run
    """Begin an invocation."""
    return DbtEvents(lineage_run(**changes), sample_manifest(), WAREHOUSE)


def observed(events: DbtEvents | None = None) -> list[RunEvent]:
    """Hand the whole log to ``events``, each end with its outcome."""
    events = events or new_events()
    return [
        made
        for event in log_events()
        for made in events.observe(event, outcomes().get(event["data"].get("node_info", {}).get("unique_id", "")))
    ]


@cache
def sample_events() -> tuple[RunEvent, ...]:
    """Observe the whole log, once."""
    return tuple(observed())


def log_event(
    name: str,
    unique_id: str = FCT_ORDERS,
    *,
    level: str = "info",
    invocation: str = INVOCATION,
    **data: Any,  # noqa: ANN401  # as dbt's
) -> Json:
    """Make a log event as dbt does."""
    node: Json = {"unique_id": unique_id, "node_status": data.pop("node_status", ""), **data.pop("node", {})}
    info = {
        "name": name,
        "invocation_id": invocation,
        "ts": "2026-11-22T05:01:00.5Z",
        "level": level,
        "msg": f"{name} of {unique_id}",
    }
    return {"info": info, "data": {"node_info": node, **data}}
