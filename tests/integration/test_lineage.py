"""Lineage of a real dbt run of the sample, beside what OpenLineage's own dbt integration makes of its artifacts."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.lineage.datasets.names import read_warehouse
from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents
from floe_orchestrator_dagster.lineage.events.run import LineageRun
from floe_orchestrator_dagster.product import load_product
from openlineage_schemas import as_json, assert_valid
from processes import run_dbt
from unit.lineage.sample_run import events_of, with_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openlineage.client.event_v2 import RunEvent

    Datasets = set[tuple[str, str]]

# A chain through sources, seeds, views, an ephemeral and an incremental model, a snapshot, and tests of all kinds.
SELECTED = (
    "+fct_orders customers customers_snapshot stg_customers "
    "unique_fct_orders_order_id assert_payments_match_orders payments_and_refunds_are_summed_per_order"
)
NAMES = "plain_dbt.main."  # run_dbt's database
# Jobs whose datasets differ from the integration's: (job, inputs that only it has, inputs that only this package has).
DIFFERENCES = {
    # It invents a table for an ephemeral model, and does not see those behind it.
    "model.retail_orders.fct_orders": ({"int_order_amounts"}, {"stg_order_items", "stg_products"}),
    # It takes seeds for no inputs.
    "model.retail_orders.stg_customers": (set(), {"customers"}),
    "model.retail_orders.stg_products": (set(), {"products"}),
    "model.retail_orders.stg_stores": (set(), {"stores"}),
}
# It reports an ephemeral model as a run that makes a table.
ONLY_THEIRS = {"model.retail_orders.int_order_amounts"}


def test_real_dbt_has_the_lineage_that_openlineages_integration_finds(prepared_sample: Path, tmp_path: Path) -> None:
    local = pytest.importorskip("openlineage.common.provider.dbt.local", reason="openlineage-integration-common")
    selection = ["--select", SELECTED, "--indirect-selection", "empty"]
    run_dbt(prepared_sample, tmp_path, "build", *selection, "--log-format-file", "json")

    ours = _our_events(prepared_sample, tmp_path)
    integration = local.DbtLocalArtifactProcessor(
        project_dir=str(prepared_sample),
        target="dev",
        target_path=str(tmp_path / "plain"),
        producer="https://example.com",
        job_namespace="retail-orders",
    )
    theirs = integration.parse().completes

    assert_valid(ours)
    _assert_same_datasets(ours, theirs)
    _assert_complete(ours)


def _our_events(project: Path, scratch: Path) -> list[RunEvent]:
    product = load_product(project / "compiled_artifacts.json")
    assert product.dbt is not None
    run = LineageRun(product, "a-run", "job", datetime(2026, 11, 22, tzinfo=timezone.utc), "https://example.com")
    output = {"type": "duckdb", "path": str(scratch / "plain_dbt.duckdb")}
    content = json.loads((scratch / "plain" / "manifest.json").read_text(encoding="utf-8"))
    warehouse = read_warehouse(output, os.environ, PurePosixPath(project))
    events = DbtEvents(run, replace(product.dbt.manifest, content=content), warehouse)
    results = json.loads((scratch / "plain" / "run_results.json").read_text(encoding="utf-8"))["results"]
    log = map(json.loads, (scratch / "dbt.log").read_text(encoding="utf-8").splitlines())
    return events_of(with_files(log, results), events)


def _assert_same_datasets(ours: Iterable[RunEvent], theirs: Iterable[RunEvent]) -> None:
    inputs, outputs = _by_job(ours)
    their_inputs, their_outputs = _by_job(theirs)
    for job in their_outputs.keys() - ONLY_THEIRS:
        more, fewer = DIFFERENCES.get(job, (set(), set()))
        namespace = next(iter(their_outputs[job]))[0]
        expected = their_inputs[job] - {(namespace, NAMES + name) for name in more}

        assert outputs[job] == their_outputs[job], job
        assert inputs[job] == expected | {(namespace, NAMES + name) for name in fewer}, job
    assert ONLY_THEIRS.isdisjoint(outputs)


def _by_job(events: Iterable[RunEvent]) -> tuple[dict[str, Datasets], dict[str, Datasets]]:
    """Collect the datasets of models and snapshots; the integration names jobs otherwise, its facet has dbt's id."""
    inputs: dict[str, Datasets] = defaultdict(set)
    outputs: dict[str, Datasets] = {}
    for event in map(as_json, events):
        job = event["job"]["facets"].get("dbt_node", {}).get("unique_id", event["job"]["name"])
        if event["outputs"] and not job.startswith("seed."):
            inputs[job] |= {(dataset["namespace"], dataset["name"]) for dataset in event["inputs"]}
            outputs[job] = {(dataset["namespace"], dataset["name"]) for dataset in event["outputs"]}
    return inputs, outputs


def _assert_complete(ours: list[RunEvent]) -> None:
    """Every run ends, and every column of a query has its origin or is counted from nothing."""
    ends = [as_json(event) for event in ours if event.eventType and event.eventType.value == "COMPLETE"]
    assert len(ends) * 2 == len(ours)
    made = {
        (dataset["name"], column)
        for end in ends
        for dataset in end["outputs"]
        if not end["job"]["name"].startswith("seed.")
        for column in (field["name"] for field in dataset["facets"]["schema"]["fields"])
        if column not in dataset["facets"]["columnLineage"]["fields"]
    }
    assert made == {(f"{NAMES}fct_orders", "line_count")}
