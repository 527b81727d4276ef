"""OpenLineage events of dbt's nodes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.dbt.node_result import (
    NodeRelation,
    NodeResult,
    NodeStart,
    read_source_result,
)
from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents
from floe_orchestrator_dagster.product.manifest import Manifest
from openlineage_schemas import as_json, assert_valid
from unit.lineage.sample_run import (
    CREATED_AT,
    FCT_ORDERS,
    STG_ORDERS,
    WAREHOUSE,
    lineage_run,
    new_events,
    node_result,
    node_start,
    observed,
    sample_events,
    sample_manifest,
    sample_values,
)
from unit.odd_products import reads
from unit.samples import manifest as manifest_of
from unit.samples import node, product, source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openlineage.client.event_v2 import RunEvent

    Json = dict[str, Any]

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=timezone.utc)
DATABASE = "duckdb:///warehouse/retail_orders.duckdb"
UNIQUE_TEST = "test.retail_orders.unique_fct_orders_order_id.523ddb6ce5"
PAYMENTS_TEST = "test.retail_orders.assert_payments_match_orders"
UNIT_TEST = "unit_test.retail_orders.int_order_payments.payments_and_refunds_are_summed_per_order"


def states(events: Iterable[RunEvent]) -> list[tuple[str, str]]:
    return [(event.job.name, event.eventType.value) for event in events if event.eventType]


def end_of(unique_id: str) -> Json:
    return next(as_json(event) for event in reversed(sample_events()) if event.job.name == unique_id)


def names(datasets: list[Json]) -> list[str]:
    assert {dataset["namespace"] for dataset in datasets} <= {DATABASE}
    return [dataset["name"] for dataset in datasets]


def test_every_node_starts_and_ends_once_in_the_order_of_the_log() -> None:
    reported = [(value.unique_id, "START" if isinstance(value, NodeStart) else "COMPLETE") for value in sample_values()]

    assert len(reported) == 24
    assert states(sample_events()) == reported


def test_all_events_satisfy_openlineages_schemas() -> None:
    assert_valid(sample_events())


def test_start_and_end_have_the_same_run_inputs_and_outputs_with_schemas() -> None:
    events = [as_json(event) for event in sample_events()]
    for end in (event for event in events if event["eventType"] == "COMPLETE"):
        start = next(event for event in events if event["job"]["name"] == end["job"]["name"])

        assert start["eventType"] == "START"
        assert start["run"]["runId"] == end["run"]["runId"]
        for side in ("inputs", "outputs"):
            assert names(start[side]) == names(end[side])
            assert all("schema" in dataset["facets"] for dataset in start[side] + end[side])


def test_a_run_id_is_of_one_job_and_of_version_7() -> None:
    events = [as_json(event) for event in sample_events()]
    jobs = {event["run"]["runId"]: event["job"]["name"] for event in events}

    assert len(jobs) == len({event["job"]["name"] for event in events})
    assert {UUID(run_id).version for run_id in jobs} == {7}


def test_an_ephemeral_model_is_read_through() -> None:
    end = end_of(FCT_ORDERS)

    assert names(end["inputs"]) == [
        f"retail_orders.main.{name}"
        for name in ("int_order_payments", "stg_order_items", "stg_orders", "stg_products", "stg_stores")
    ]
    assert names(end["outputs"]) == ["retail_orders.main.fct_orders"]


def test_columns_refer_to_columns_that_the_schemas_have() -> None:
    end = end_of(FCT_ORDERS)
    lineage = end["outputs"][0]["facets"]["columnLineage"]
    columns = {
        (dataset["name"], field["name"])
        for dataset in end["inputs"] + end["outputs"]
        for field in dataset["facets"]["schema"]["fields"]
    }
    used = [used for field in lineage["fields"].values() for used in field["inputFields"]] + lineage["dataset"]

    assert {("retail_orders.main.fct_orders", name) for name in lineage["fields"]} <= columns
    assert {(each["name"], each["field"]) for each in used} <= columns
    assert lineage["fields"]["order_total"]["inputFields"] == [
        {
            "namespace": DATABASE,
            "name": "retail_orders.main.stg_order_items",
            "field": "line_amount",
            "transformations": [{"type": "DIRECT", "subtype": "AGGREGATION", "masking": False}],
        },
        {
            "namespace": DATABASE,
            "name": "retail_orders.main.stg_orders",
            "field": "shipping_fee",
            "transformations": [{"type": "DIRECT", "subtype": "TRANSFORMATION", "masking": False}],
        },
    ]


def test_column_lineage_is_there_for_dagster_too() -> None:
    events = new_events()
    observed(events)
    lineage = events.column_lineage(FCT_ORDERS)

    assert lineage is not None
    assert lineage.direct["sales_channel"] == [("model.retail_orders.stg_stores", "channel")]
    assert events.column_lineage(UNIQUE_TEST) is None
    assert events.identity(FCT_ORDERS).dataset.name == "retail_orders.main.fct_orders"


def test_types_are_those_after_the_run() -> None:
    fields = end_of(FCT_ORDERS)["outputs"][0]["facets"]["schema"]["fields"]

    assert fields[0] == {"name": "order_id", "type": "INTEGER", "description": "Number of the order.", "fields": []}


def test_rows_that_were_written_are_counted() -> None:
    output = end_of("seed.retail_orders.stores")["outputs"][0]

    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 12


def test_a_snapshot_has_lineage_for_the_columns_that_it_copies() -> None:
    facets = end_of("snapshot.retail_orders.customers_snapshot")["outputs"][0]["facets"]

    assert "email" in facets["columnLineage"]["fields"]
    assert "dbt_scd_id" not in facets["columnLineage"]["fields"]
    assert "dbt_scd_id" in {field["name"] for field in facets["schema"]["fields"]}


def test_the_result_of_a_test_is_on_the_column_that_it_is_about() -> None:
    end = end_of(UNIQUE_TEST)
    (dataset,) = end["inputs"]
    (assertion,) = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]

    assert end["outputs"] == []
    assert dataset["name"] == "retail_orders.main.fct_orders"
    assert assertion == {
        "assertion": "unique",
        "success": True,
        "column": "order_id",
        "severity": "error",
        "name": "unique_fct_orders_order_id",
        "expected": "0",
        "actual": "0",
    }
    assert end["run"]["facets"]["test"]["tests"][0]["status"] == "pass"


def test_a_test_over_several_tables_is_about_each_of_them_as_a_whole() -> None:
    inputs = end_of(PAYMENTS_TEST)["inputs"]

    assert len(inputs) > 1
    for dataset in inputs:
        (assertion,) = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
        assert assertion["assertion"] == "assert_payments_match_orders"
        assert "column" not in assertion


def test_a_unit_test_is_about_the_model_that_it_tests() -> None:
    end = end_of(UNIT_TEST)

    assert names(end["inputs"]) == ["retail_orders.main.int_order_payments"]
    assert end["job"]["facets"]["jobType"]["jobType"] == "TEST"


def test_a_source_over_a_file_carries_the_file() -> None:
    (dataset,) = end_of(STG_ORDERS)["inputs"]

    assert dataset["name"] == "retail_orders.shop.orders"
    assert dataset["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "file", "name": "/project/data/orders.csv", "type": "LOCATION"}
    ]
    assert dataset["facets"]["datasetType"] == dataset["facets"]["datasetType"] | {
        "datasetType": "TABLE",
        "subType": "EXTERNAL",
    }


def test_job_facets_contain_type_sql_owners_and_description() -> None:
    facets = end_of(FCT_ORDERS)["job"]["facets"]
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}

    assert {name: facets["jobType"][name] for name in ("processingType", "integration", "jobType")} == {
        "processingType": "BATCH",
        "integration": "DBT",
        "jobType": "MODEL",
    }
    assert facets["sql"]["query"] == next(
        value.compiled_code
        for value in sample_values()
        if isinstance(value, NodeResult) and value.unique_id == FCT_ORDERS
    )
    assert facets["sql"]["dialect"] == "duckdb"
    assert facets["ownership"]["owners"] == [{"name": "retail-data@example.com"}]
    assert facets["documentation"]["description"].startswith("One row per order")
    assert tags == {
        "marts": "true",
        "daily": "true",
        "materialized": "incremental",
        "quality_tier": "gold",
        "compute": "duckdb",
    }


def test_facets_name_the_engine_and_the_dagster_run() -> None:
    facets = end_of(FCT_ORDERS)["run"]["facets"]
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}

    assert facets["processing_engine"]["name"] == "dbt"
    assert facets["processing_engine"]["version"] == "1.11.16"
    assert tags == {
        "dagster_run_id": lineage_run().dagster_run_id,
        "dagster_job": "retail_orders_job",
        "dagster_step": "retail_orders_dbt",
        "dbt_invocation_id": "a8167bf9-4725-462a-bd38-2e2c383fa1b1",
        "dbt_adapter": "duckdb 1.11.1",
    }


# dbt's status and the level of its event → how the run ended.
STATUSES = [
    ("success", "info", "COMPLETE"),
    ("no-op", "info", "COMPLETE"),
    ("reused", "info", "COMPLETE"),
    ("warn", "warn", "COMPLETE"),
    ("error", "error", "FAIL"),
    ("fail", "error", "FAIL"),
    ("runtime error", "error", "FAIL"),
    ("partial success", "error", "FAIL"),
    ("skipped", "info", "ABORT"),
    ("a status of the future", "info", "COMPLETE"),
    ("a status of the future", "error", "FAIL"),
    ("", "info", "COMPLETE"),
]


@pytest.mark.parametrize(("status", "level", "state"), STATUSES)
def test_a_status_says_how_a_node_ended(status: str, level: str, state: str) -> None:
    made = new_events().end(node_result(status, is_error=level == "error"))

    assert states(made) == [(FCT_ORDERS, "START"), (FCT_ORDERS, state)]
    assert_valid(made)


@pytest.mark.parametrize(
    ("message", "reported"),
    [
        ("\x1b[31mno such table\x1b[0m\n", "no such table"),
        ("cannot reach postgres://dbt:s3cret@pg/shop", "cannot reach postgres://***@pg/shop"),
        ("https://u:s3/cr@et@host/x, again", "https://***@host/x, again"),
        ("host=pg password=s3cret dbname=x", "host=pg password=*** dbname=x"),
        ("{\"token\": \"s3 cret\", 'api_key': 's3cret'}", "{\"token\": ***, 'api_key': ***}"),
        ("PASSWORD: s3cret", "PASSWORD: ***"),
        ('password authentication failed for user "dbt"', 'password authentication failed for user "dbt"'),
        ("Done. PASS=54 ERROR=1", "Done. PASS=54 ERROR=1"),
    ],
)
def test_a_failure_has_dbts_message_without_credentials(message: str, reported: str) -> None:
    *_, end = new_events().end(node_result("error", message=message))

    error = as_json(end)["run"]["facets"]["errorMessage"]
    assert error["message"] == reported
    assert error["programmingLanguage"] == "SQL"


def test_a_failure_without_a_message_has_dbts_status() -> None:
    *_, end = new_events().end(node_result("error"))

    assert as_json(end)["run"]["facets"]["errorMessage"]["message"] == "error"


def test_a_failing_test_fails_and_says_what_it_found() -> None:
    *_, end = new_events().end(node_result("fail", UNIQUE_TEST, failed_rows=3))

    content = as_json(end)
    (assertion,) = content["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert content["eventType"] == "FAIL"
    assert (assertion["success"], assertion["actual"]) == (False, "3")
    assert content["run"]["facets"]["test"]["tests"][0]["status"] == "fail"


def test_a_skipped_node_is_aborted_with_the_cause_that_its_message_names() -> None:
    skipped = new_events().end(node_result("skipped", message=f"dbt skipped it because of {STG_ORDERS}"))
    *_, unexplained = new_events().end(node_result("skipped"))

    content = as_json(skipped[-1])
    assert states(skipped) == [(FCT_ORDERS, "START"), (FCT_ORDERS, "ABORT")]
    assert content["run"]["facets"]["errorMessage"]["message"] == f"dbt skipped it because of {STG_ORDERS}"
    assert names(content["outputs"]) == ["retail_orders.main.fct_orders"]
    assert as_json(unexplained)["run"]["facets"]["errorMessage"]["message"] == "dbt skipped it"
    assert_valid(skipped)


def test_a_skipped_test_asserts_nothing() -> None:
    *_, end = new_events().end(node_result("skipped", UNIQUE_TEST))

    content = as_json(end)
    assert content["eventType"] == "ABORT"
    assert content["inputs"][0]["inputFacets"] == {}
    assert content["run"]["facets"]["test"]["tests"][0]["status"] == "skip"


def test_a_start_or_an_end_that_is_reported_again_makes_no_event() -> None:
    events = new_events()
    reported = [
        *(events.start(node_start()), events.start(node_start())),
        *(events.end(node_result()), events.end(node_result()), events.start(node_start())),
    ]

    assert [states(made) for made in reported] == [[(FCT_ORDERS, "START")], [], [(FCT_ORDERS, "COMPLETE")], [], []]


def test_message_query_and_rows_of_a_result_are_in_its_event() -> None:
    response = {"rows_affected": 7, "query_id": "q1"}

    *_, end = new_events().end(node_result("error", message="boom", adapter_response=response))

    content = as_json(end)
    assert content["run"]["facets"]["errorMessage"]["message"] == "boom"
    assert content["run"]["facets"]["externalQuery"]["externalQueryId"] == "q1"
    assert content["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 7


def test_a_node_that_another_invocation_runs_again_is_a_run_of_its_own() -> None:
    events = new_events()
    first = events.end(node_result("error"))
    again = [
        *events.start(node_start(invocation_id="another")),
        *events.end(node_result("success", invocation_id="another")),
    ]

    assert states(again) == [(FCT_ORDERS, "START"), (FCT_ORDERS, "COMPLETE")]
    assert again[0].run.runId == again[1].run.runId != first[0].run.runId


def test_a_node_that_another_invocation_skips_has_events_too() -> None:
    events = new_events()
    events.end(node_result())

    skipped = events.end(node_result("skipped", invocation_id="another"))

    assert states(skipped) == [(FCT_ORDERS, "START"), (FCT_ORDERS, "ABORT")]


def test_what_is_open_is_ended() -> None:
    events = new_events()
    events.start(node_start())
    events.start(node_start(STG_ORDERS))
    events.end(node_result("success", STG_ORDERS))
    assert events.open == [FCT_ORDERS]

    aborted = events.abort("dbt was interrupted", NOW)

    content = as_json(aborted[0])
    assert states(aborted) == [(FCT_ORDERS, "ABORT")]
    assert content["eventTime"] == "2026-11-22T06:00:00Z"
    assert content["run"]["facets"]["errorMessage"]["message"] == "dbt was interrupted"
    assert events.open == []
    assert events.abort("again", NOW) == []
    assert_valid(aborted)


def test_another_process_ends_the_same_run() -> None:
    (start,) = new_events().start(node_start())

    aborted = new_events().abort("the worker is gone", NOW, [FCT_ORDERS, FCT_ORDERS])

    assert states(aborted) == [(FCT_ORDERS, "ABORT")]
    assert aborted[0].run.runId == start.run.runId


def freshness(entries: Iterable[Json], events: DbtEvents | None = None) -> list[RunEvent]:
    results = [result for entry in entries if (result := read_source_result(entry)) is not None]
    return (events or new_events()).freshness(results)


FRESHNESS: list[Json] = [
    {
        "unique_id": "source.retail_orders.shop.orders",
        "max_loaded_at_time_ago_in_s": 1834312.5,
        "status": "warn",
        "snapshotted_at": "2026-11-22T05:01:52.95+00:00",
        "timing": [
            {"name": "compile", "started_at": "2026-11-22T05:01:52Z", "completed_at": "2026-11-22T05:01:52Z"},
            {"name": "execute", "started_at": "2026-11-22T05:01:53Z", "completed_at": "2026-11-22T05:01:54Z"},
        ],
    },
    {"unique_id": "source.retail_orders.shop.payments", "status": "runtime error", "error": "no such file"},
    {"unique_id": "source.retail_orders.shop.gone", "status": "pass", "snapshotted_at": "2026-11-22T05:02:00+00:00"},
]


def test_freshness_results_are_runs_that_assert_on_the_source() -> None:
    made = freshness(FRESHNESS)

    start, warned, _, failed, _, passed = map(as_json, made)
    (assertion,) = warned["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (start["eventTime"], warned["eventTime"]) == ("2026-11-22T05:01:53Z", "2026-11-22T05:01:54Z")
    assert [event["eventType"] for event in (warned, failed, passed)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert names(warned["inputs"]) == ["retail_orders.shop.orders"]
    assert warned["outputs"] == []
    assert {key: assertion[key] for key in ("assertion", "success", "severity", "expected", "actual")} == {
        "assertion": "freshness",
        "success": False,
        "severity": "warn",
        "expected": "warn_after 36 hours",
        "actual": "1834312.5",
    }
    assert failed["run"]["facets"]["errorMessage"]["message"] == "no such file"
    assert_valid(made)


def test_a_source_that_has_its_events_makes_no_more() -> None:
    events = new_events()
    orders = "source.retail_orders.shop.orders"
    reported = events.end(node_result("warn", orders))

    assert states(reported) == [(orders, "START"), (orders, "COMPLETE")]
    assert freshness(FRESHNESS[:1], events) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(results=st.lists(st.dictionaries(st.sampled_from(list(FRESHNESS[0])), JSON, max_size=5), max_size=2))
@settings(max_examples=15, deadline=None)
def test_no_freshness_result_is_an_error(results: list[Json]) -> None:
    assert_valid(freshness(results))


@pytest.mark.parametrize(
    "start",
    [
        node_start("exposure.retail_orders.dashboard"),
        node_start("operation.retail_orders.on_run_end"),
        node_start("model.retail_orders.int_order_amounts"),  # which the manifest has as ephemeral
        node_start("model.retail_orders.new", materialized="ephemeral"),
    ],
)
def test_ephemeral_models_and_other_resources_are_no_runs(start: NodeStart) -> None:
    assert new_events().start(start) == []
    assert new_events().end(node_result("success", start.unique_id, materialized=start.materialized)) == []


def test_a_node_that_the_manifest_lacks_has_the_name_that_dbt_reports() -> None:
    relation = NodeRelation("retail_orders", "dev", "new", '"retail_orders"."dev"."new"')

    made = new_events().end(node_result("success", "model.retail_orders.new", relation=relation))

    assert names(as_json(made[-1])["outputs"]) == ["retail_orders.dev.new"]
    assert_valid(made)


def test_an_event_without_a_time_has_the_runs() -> None:
    (start,) = new_events().start(node_start(time=""))

    assert start.eventTime == "2026-11-22T05:00:00Z"


@pytest.mark.parametrize("sql", [None, "this is ( no sql"])
def test_without_sql_that_can_be_understood_there_is_an_event_without_column_lineage(sql: str | None) -> None:
    *_, end = new_events().end(node_result(compiled_code=sql))

    facets = as_json(end)["outputs"][0]["facets"]
    assert "columnLineage" not in facets
    assert "schema" in facets


def test_names_with_dots_quotes_and_other_letters_stay_as_they_are() -> None:
    odd = node("Größe", alias='s.t "x"', schema="我", database="d b", relation_name='"d b"."我"."s.t ""x"""')
    reader = node("reader", depends_on={"nodes": ["model.shop.Größe"], "macros": []})
    content = manifest_of(odd, reader)
    events = DbtEvents(lineage_run(), Manifest(sample_manifest().path, content), WAREHOUSE)
    sql = 'select "ä b" as c from "d b"."我"."s.t ""x"""'

    *_, end = events.end(node_result("success", "model.shop.reader", compiled_code=sql))

    (dataset,) = as_json(end)["inputs"]
    assert dataset["name"] == 'd b.我.s.t "x"'
    assert [field["name"] for field in dataset["facets"]["schema"]["fields"]] == ["ä b"]
    assert_valid([end])


def test_a_python_model_has_no_sql() -> None:
    content = manifest_of(node("forecast", language="python"))
    events = DbtEvents(lineage_run(), Manifest(sample_manifest().path, content), WAREHOUSE)
    script = "def model(dbt, session): …"

    *_, end = events.end(node_result("error", "model.shop.forecast", compiled_code=script, message="boom"))

    content = as_json(end)
    assert "sql" not in content["job"]["facets"]
    assert content["run"]["facets"]["errorMessage"]["programmingLanguage"] == "PYTHON"


def test_columns_known_beforehand_are_used() -> None:
    known = {"source.retail_orders.shop.orders": {"order_id": "VARCHAR", "extra": "VARCHAR"}}
    events = DbtEvents(lineage_run(), sample_manifest(), WAREHOUSE, known)

    (start,) = events.start(node_start(STG_ORDERS))

    fields = as_json(start)["inputs"][0]["facets"]["schema"]["fields"]
    assert [(field["name"], field["type"]) for field in fields] == [("order_id", "VARCHAR"), ("extra", "VARCHAR")]


def test_the_products_event_has_what_comes_from_outside_and_what_is_made() -> None:
    made = [STG_ORDERS, FCT_ORDERS, UNIQUE_TEST]

    inputs, outputs = new_events().boundary(made)

    assert [dataset.name for dataset in outputs] == ["retail_orders.main.stg_orders", "retail_orders.main.fct_orders"]
    assert "retail_orders.main.stg_orders" not in {dataset.name for dataset in inputs}
    assert {"retail_orders.shop.orders", "retail_orders.main.stg_stores"} <= {dataset.name for dataset in inputs}


def with_exposures() -> DbtEvents:
    """Events of a model that a dashboard reads through a metric, and of one that two other exposures read."""
    sales = node("sales", "semantic_model", **reads("model.shop.orders"))
    revenue = node("revenue", "metric", **reads("semantic_model.shop.sales"))
    hidden = node("hidden", config={"materialized": "ephemeral"}, **reads("model.shop.refunds"))
    weekly = node(
        "weekly", "exposure", type="dashboard", url="https://bi.example.com/1", **reads("metric.shop.revenue")
    )
    audit = node("audit", "exposure", type="notebook", **reads("model.shop.hidden", "source.shop.erp.o"))
    everyone = node("everyone", "exposure", **reads("model.shop.refunds"))
    orders = node("orders", **reads("source.shop.erp.o"))
    refunds = node("refunds", **reads("model.shop.orders"))
    test = node("t", "test", **reads("model.shop.refunds"))
    content = manifest_of(orders, refunds, hidden, test, sources=(source("erp", "o"),))
    for collection, read in (
        ("semantic_models", [sales]),
        ("metrics", [revenue]),
        ("exposures", [weekly, audit, everyone]),
    ):
        content[collection] = {one["unique_id"]: one for one in read}
        content["parent_map"] |= {one["unique_id"]: one["depends_on"]["nodes"] for one in read}
    return DbtEvents(lineage_run(), Manifest(sample_manifest().path, content), WAREHOUSE)


def exposures(datasets: list[Json]) -> list[list[Json]]:
    return [dataset["facets"].get("dbt_exposures", {}).get("exposures", []) for dataset in datasets]


def test_a_built_table_and_what_it_reads_name_the_exposures_that_read_them() -> None:
    weekly = {
        "unique_id": "exposure.shop.weekly",
        "name": "weekly",
        "type": "dashboard",
        "url": "https://bi.example.com/1",
    }
    audit = {"unique_id": "exposure.shop.audit", "name": "audit", "type": "notebook"}
    everyone = {"unique_id": "exposure.shop.everyone", "name": "everyone"}
    events = with_exposures()

    ended = [
        event for name in ("orders", "refunds") for event in events.end(node_result("success", f"model.shop.{name}"))
    ]

    assert_valid(ended)
    orders_start, orders, _, refunds = map(as_json, ended)
    assert exposures([*orders_start["inputs"], *orders_start["outputs"]]) == [[], []]
    assert exposures([*orders["inputs"], *orders["outputs"]]) == [[audit], [weekly]]
    assert exposures([*refunds["inputs"], *refunds["outputs"]]) == [[weekly], [audit, everyone]]


def test_only_built_tables_and_fresh_sources_name_exposures() -> None:
    events = with_exposures()

    *_, failed = events.end(node_result("error", "model.shop.refunds"))
    *_, tested = events.end(node_result("pass", "test.shop.t"))
    *_, fresh = events.end(node_result("pass", "source.shop.erp.o"))

    assert exposures(as_json(failed)["inputs"]) == [[]]
    assert exposures(as_json(tested)["inputs"]) == [[]]
    assert [[found["name"] for found in named] for named in exposures(as_json(fresh)["inputs"])] == [["audit"]]


def test_credentials_in_the_address_of_an_exposure_are_masked() -> None:
    url = "https://me:hunter22@bi.example.com/1?tab=2&token=hunter23"
    weekly = node("weekly", "exposure", url=url, **reads("model.shop.orders"))
    content = manifest_of(node("orders"), exposures={"exposure.shop.weekly": weekly})
    content["parent_map"]["exposure.shop.weekly"] = ["model.shop.orders"]
    events = DbtEvents(lineage_run(), Manifest(sample_manifest().path, content), WAREHOUSE)

    *_, end = events.end(node_result("success", "model.shop.orders"))

    [[found]] = exposures(as_json(end)["outputs"])
    assert found["url"] == "https://***@bi.example.com/1?tab=2&token=***"


def test_exposures_that_the_configuration_leaves_out_are_not_named() -> None:
    run = lineage_run(product=product(config={"consumers": ["metrics"]}))
    everyone = node("everyone", "exposure", **reads("model.shop.orders"))
    content = manifest_of(node("orders"), exposures={"exposure.shop.everyone": everyone})
    content["parent_map"]["exposure.shop.everyone"] = ["model.shop.orders"]
    events = DbtEvents(run, Manifest(sample_manifest().path, content), WAREHOUSE)

    *_, end = events.end(node_result("success", "model.shop.orders"))

    assert exposures(as_json(end)["outputs"]) == [[]]


def test_a_test_of_an_ephemeral_model_is_about_the_tables_behind_it() -> None:
    ephemeral = node(
        "e", depends_on={"nodes": ["source.shop.erp.o"], "macros": []}, config={"materialized": "ephemeral"}
    )
    reads = {"nodes": ["model.shop.e"], "macros": []}
    metadata = {"name": "not_null", "kwargs": {"column_name": "made_up"}}
    test = node(
        "t",
        "test",
        depends_on=reads,
        attached_node="model.shop.e",
        test_metadata=metadata,
        config={"warn_if": "> 10", "severity": "WARN"},
    )
    content = manifest_of(ephemeral, test, sources=(source("erp", "o"), source("erp", "p")))
    content["parent_map"]["model.shop.e"].append("source.shop.erp.p")
    events = DbtEvents(lineage_run(), Manifest(sample_manifest().path, content), WAREHOUSE)

    *_, end = events.end(node_result("warn", "test.shop.t", failed_rows=11))

    assertions = [
        dataset["inputFacets"]["dataQualityAssertions"]["assertions"][0] for dataset in as_json(end)["inputs"]
    ]
    assert len(assertions) == 2
    assert all("column" not in assertion for assertion in assertions)
    assert {(assertion["expected"], assertion["actual"], assertion["severity"]) for assertion in assertions} == {
        (">10", "11", "warn")
    }


def test_run_ids_differ_by_run_step_retry_and_node() -> None:
    first = lineage_run()
    others = [
        lineage_run(dagster_run_id="another").job_run(FCT_ORDERS),
        lineage_run(step_key="another").job_run(FCT_ORDERS),
        lineage_run(retry_number=1).job_run(FCT_ORDERS),
        lineage_run(created_at=NOW).job_run(FCT_ORDERS),
        first.job_run(STG_ORDERS),
        first.job_run(FCT_ORDERS, occurrence=1),
        first.product_run,
        first.starter,
    ]

    run_ids = {reference.run_id for reference in [*others, first.job_run(FCT_ORDERS)]}
    assert len(run_ids) == len(others) + 1
    assert lineage_run().job_run(FCT_ORDERS) == first.job_run(FCT_ORDERS)
    assert lineage_run(step_key="another", retry_number=3).product_run == first.product_run
    assert first.created_at == CREATED_AT
