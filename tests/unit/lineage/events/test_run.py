"""The chain of runs, the product's event and Python assets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from floe_orchestrator_dagster.lineage.datasets.names import DatasetName
from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset, asset_event, product_event
from floe_orchestrator_dagster.lineage.events.run import RunReference, event_time, read_parent_id
from openlineage_schemas import as_json, assert_valid
from processes import run_python
from unit.lineage.sample_run import CREATED_AT, FCT_ORDERS, PRODUCER, lineage_run, new_events, node_start

INCOMING = "0197a1b2-3c4d-7e5f-8a6b-7c8d9e0f1a2b"
ASSET = PythonAsset(
    ("exports", "orders"),
    reads=(("marts", "fct_orders"), ("raw", "rates")),
    description="Orders in dollars",
    owners=("team:data",),
    tags={"pii": ""},
    columns={"order_id": "INTEGER"},
)


def test_a_node_is_below_the_product_and_the_product_below_the_dagster_run() -> None:
    run = lineage_run()
    node = as_json(new_events().start(node_start())[0])
    product = as_json(product_event(run, "START", CREATED_AT))

    assert node["run"]["facets"]["parent"]["run"]["runId"] == product["run"]["runId"]
    assert node["run"]["facets"]["parent"]["job"]["name"] == product["job"]["name"] == "retail-orders"
    assert node["run"]["facets"]["parent"]["root"] == product["run"]["facets"]["parent"]["root"]
    assert product["run"]["facets"]["parent"]["run"]["runId"] == run.starter.run_id
    assert product["run"]["facets"]["parent"]["root"]["job"]["name"] == "retail_orders_job"
    assert UUID(run.starter.run_id).version == 7


def test_an_incoming_parent_takes_the_dagster_runs_place() -> None:
    parent = read_parent_id(f"airflow://prod/main/daily.floe/{INCOMING}")
    root = read_parent_id(f"airflow/daily/{INCOMING}")
    run = lineage_run(parent=parent, root=root)

    facet = as_json(product_event(run, "START", CREATED_AT))["run"]["facets"]["parent"]
    node_facet = as_json(new_events(parent=parent).start(node_start())[0])["run"]["facets"]["parent"]

    assert parent == RunReference("airflow://prod/main", "daily.floe", INCOMING)
    assert facet["job"] == {"namespace": "airflow://prod/main", "name": "daily.floe", "facets": {}}
    assert facet["root"]["job"]["name"] == "daily"
    assert node_facet["job"]["name"] == "retail-orders"
    assert node_facet["root"]["job"]["name"] == "daily.floe"


@pytest.mark.parametrize("text", ["", "a/b", "a/b/no-uuid", f"/b/{INCOMING}", f"a//{INCOMING}", "///", INCOMING])
def test_invalid_parent_is_none(text: str) -> None:
    assert read_parent_id(text) is None


def test_a_partition_is_the_nominal_time() -> None:
    window = (CREATED_AT - timedelta(days=1), CREATED_AT)

    nominal = as_json(product_event(lineage_run(window=window), "START", CREATED_AT))["run"]["facets"]["nominalTime"]

    assert nominal["nominalStartTime"] == "2026-11-21T05:00:00Z"
    assert nominal["nominalEndTime"] == "2026-11-22T05:00:00Z"


def test_the_trace_of_a_build_is_a_tag_of_its_runs() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = new_events(traceparent=traceparent).start(node_start())[0]

    tags = as_json(event)["run"]["facets"]["tags"]["tags"]
    assert {"key": "traceparent", "value": traceparent, "source": "OPENTELEMETRY"} in tags
    assert_valid([event])


def test_product_event_describes_the_product() -> None:
    event = product_event(lineage_run(), "FAIL", CREATED_AT, "step retail_orders_dbt failed")

    content = as_json(event)
    facets = content["job"]["facets"]
    assert content["eventType"] == "FAIL"
    assert content["producer"] == facets["jobType"]["_producer"] == PRODUCER
    assert content["run"]["facets"]["errorMessage"]["message"] == "step retail_orders_dbt failed"
    assert content["run"]["facets"]["processing_engine"]["name"] == "dagster"
    assert facets["documentation"]["description"] == "Orders of a small shop chain"
    assert facets["ownership"]["owners"] == [{"name": "retail-data@example.com"}]
    assert {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]} == {
        "product_version": "1.2.0",
        "domain": "retail",
    }
    assert_valid([event])


def test_what_is_not_known_is_left_out() -> None:
    run = lineage_run(dagster_version="", dbt_version="", adapter="", step_key="")
    bare = replace(run, product=replace(run.product, spec=type(run.product.spec)()))

    event = product_event(bare, "START", CREATED_AT)

    assert as_json(event)["run"]["facets"].keys() == {"parent", "tags"}
    assert as_json(event)["job"]["facets"].keys() == {"jobType", "tags"}
    assert_valid([event])


def test_a_product_event_can_carry_datasets() -> None:
    inputs, outputs = new_events().boundary([FCT_ORDERS])

    event = product_event(lineage_run(), "COMPLETE", CREATED_AT, inputs=inputs, outputs=outputs)

    assert [dataset["name"] for dataset in as_json(event)["outputs"]] == ["retail_orders.main.fct_orders"]
    assert_valid([event])


def test_a_python_asset_is_a_job_over_datasets_named_by_asset_keys() -> None:
    run = lineage_run()
    known: dict[tuple[str, ...], DatasetName] = {
        ("marts", "fct_orders"): DatasetName("duckdb:///w.duckdb", "w.main.fct_orders")
    }

    start = asset_event(run, ASSET, "START", CREATED_AT, known=known)
    end = asset_event(run, ASSET, "COMPLETE", CREATED_AT, known=known, rows=3)

    content = as_json(end)
    assert content["job"]["name"] == "exports/orders"
    assert content["run"]["runId"] == as_json(start)["run"]["runId"] == run.job_run("exports/orders").run_id
    assert [(each["namespace"], each["name"]) for each in content["inputs"]] == [
        ("duckdb:///w.duckdb", "w.main.fct_orders"),
        ("dagster://retail-orders", "raw/rates"),
    ]
    (output,) = content["outputs"]
    assert (output["namespace"], output["name"]) == ("dagster://retail-orders", "exports/orders")
    assert output["facets"]["schema"]["fields"][0]["type"] == "INTEGER"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert content["job"]["facets"]["tags"]["tags"][0]["value"] == "true"
    assert_valid([start, end])


def test_a_failed_asset_says_why() -> None:
    event = asset_event(lineage_run(), ASSET, "FAIL", CREATED_AT, "KeyError: 'rates'")

    assert as_json(event)["run"]["facets"]["errorMessage"]["programmingLanguage"] == "PYTHON"
    assert_valid([event])


def test_times_are_utc() -> None:
    there = timezone(timedelta(hours=2))

    assert event_time(datetime(2026, 7, 1, 8, tzinfo=there)) == "2026-07-01T06:00:00Z"
    assert event_time(datetime(2026, 7, 1, 8, 0, 0, 500, tzinfo=timezone.utc)) == "2026-07-01T08:00:00.000500Z"
    assert event_time(datetime(2026, 7, 1, 8)) == "2026-07-01T08:00:00Z"  # noqa: DTZ001  # as dbt writes times


def test_names_and_columns_need_neither_dagster_nor_openlineage() -> None:
    modules = ("columns", "datasets")
    imports = "; ".join(f"import floe_orchestrator_dagster.lineage.{module}" for module in modules)

    loaded = run_python("-c", f"{imports}; import sys; print(*sys.modules)").stdout.split()

    assert {"dagster", "dbt", "openlineage.client"}.isdisjoint(loaded)
