"""A recorded dbt build of some of the sample's nodes: its log and files, and the command that runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart
from floe_orchestrator_dagster.lineage.datasets.names import read_warehouse
from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents
from floe_orchestrator_dagster.lineage.events.run import LineageRun
from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.product.spec import ProductSpec
from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import model, product

if TYPE_CHECKING:
    from collections.abc import Iterable

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
def sample_values() -> tuple[NodeStart | NodeResult, ...]:
    """Read dbt's log, and add to each result what the files of dbt and the warehouse say of the node."""
    log = (DATA / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return with_files(map(json.loads, log), json.loads((DATA / "results.json").read_text(encoding="utf-8")))


def with_files(log: Iterable[Json], files: Iterable[Json]) -> tuple[NodeStart | NodeResult, ...]:
    """Read the nodes of a log; their compiled SQL and columns are in other files."""
    known = {entry["unique_id"]: entry for entry in files}
    reader = CoreEvents()
    found: list[NodeStart | NodeResult] = []
    for value in map(reader.read, log):
        if isinstance(value, NodeResult):
            entry = known.get(value.unique_id, {})
            found.append(replace(value, compiled_code=entry.get("compiled_code"), columns=entry.get("columns")))
        elif isinstance(value, NodeStart):
            found.append(value)
    return tuple(found)


def new_events(**changes: Any) -> DbtEvents:  # noqa: ANN401  # any field of the run
    """Start an invocation."""
    return DbtEvents(lineage_run(**changes), sample_manifest(), WAREHOUSE)


def observed(events: DbtEvents | None = None) -> list[RunEvent]:
    """Make the events of the whole log."""
    return events_of(sample_values(), events or new_events())


def events_of(values: Iterable[NodeStart | NodeResult], events: DbtEvents) -> list[RunEvent]:
    """Make the events of starts and results."""
    return [
        event
        for value in values
        for event in (events.start(value) if isinstance(value, NodeStart) else events.end(value))
    ]


@cache
def sample_events() -> tuple[RunEvent, ...]:
    """Make the events of the whole log, once."""
    return tuple(observed())


def node_start(unique_id: str = FCT_ORDERS, **fields: Any) -> NodeStart:  # noqa: ANN401  # any field
    """Make the start of a node."""
    known = {"time": "2026-11-22T05:01:00Z", "invocation_id": INVOCATION, **fields}
    return NodeStart(unique_id, unique_id.partition(".")[0], **known)


def node_result(status: str = "success", unique_id: str = FCT_ORDERS, **fields: Any) -> NodeResult:  # noqa: ANN401
    """Make the result of a node."""
    kind, _, name = unique_id.partition(".")
    known = {"materialized": "", "finished": "2026-11-22T05:01:00.5Z", "invocation_id": INVOCATION, **fields}
    return NodeResult(unique_id, name.rpartition(".")[2], kind, status=status, **known)
