"""dbt-core's events become starts and results of nodes, failed hooks, names of tables and messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.node_result import (
    DbtWarning,
    FailedHook,
    NodeCount,
    NodeError,
    NodeRelation,
    NodeResult,
    NodeStart,
    NothingMatched,
    TableNames,
)
from unit.execution.dbt.events import event, finished, result_of, started


def test_start_and_end_of_a_node_have_the_times_the_relation_and_the_columns_that_dbt_reports() -> None:
    node = {
        "unique_id": "model.shop.orders",
        "node_name": "orders",
        "resource_type": "model",
        "materialized": "table",
        "node_started_at": "2026-11-22T05:00:41.5",
        "node_finished_at": "",
        "node_relation": {"database": "shop", "schema": "main", "alias": "orders", "relation_name": "shop.main.orders"},
    }
    info = {"invocation_id": "i-1", "level": "debug", "ts": "2026-11-22T05:00:41.6Z"}
    run_result = {"status": "SUCCESS", "execution_time": 1.5, "adapter_response": {"rows_affected": 7, "query_id": "q"}}
    ended = {"node_info": node | {"node_finished_at": "2026-11-22T05:00:43"}, "run_result": run_result}
    reader = CoreEvents()

    start = reader.read({"info": {**info, "name": "NodeStart"}, "data": {"node_info": node}})
    end = reader.read({"info": {**info, "name": "NodeFinished"}, "data": {**ended, "columns": [["id", "INTEGER"]]}})

    relation = NodeRelation("shop", "main", "orders", "shop.main.orders")
    assert start == NodeStart("model.shop.orders", "model", "table", "2026-11-22T05:00:41.5Z", "i-1", relation)
    assert isinstance(end, NodeResult)
    assert end.start == start
    assert (end.status, end.seconds, end.finished) == ("success", 1.5, "2026-11-22T05:00:43Z")
    assert (end.columns, end.rows_affected, end.query_id) == ({"id": "INTEGER"}, 7, "q")
    assert end.was_built


def test_a_result_has_dbts_words_without_colours() -> None:
    coloured = finished("orders", "ERROR", message="\x1b[31mBinder Error\x1b[0m: no column \n")

    result = result_of(coloured)

    assert (result.status, result.message, result.seconds) == ("error", "Binder Error: no column", 0.5)
    assert result.has_failed
    assert not result.was_built


@pytest.mark.parametrize(
    ("response", "rows"),
    [
        ({}, None),
        ({"rows_affected": "12"}, 12),
        ({"rows_affected": -1}, None),
        ({"rows_affected": True}, None),
        ({"rows_affected": "many"}, None),
        ({"rows_affected": "Infinity"}, None),
    ],
)
def test_rows_are_known_where_the_adapter_counts(response: dict[str, object], rows: int | None) -> None:
    result = result_of(finished("orders", adapter_response=response))

    assert result.rows_affected == rows


@pytest.mark.parametrize(
    ("status", "rows"), [("pass", 0), ("fail", 3), ("warn", 3), ("error", None), ("skipped", None)]
)
def test_failed_rows_are_those_of_tests_that_ran(status: str, rows: int | None) -> None:
    result = result_of(finished("unique", status, "test", num_failures=rows or 0))

    assert result.failed_rows == rows


def test_an_ephemeral_model_is_not_built() -> None:
    ephemeral = finished("through")
    ephemeral["data"]["node_info"]["materialized"] = "ephemeral"

    result = result_of(ephemeral)

    assert not result.was_built


def test_batches_of_a_microbatch_model_are_one_result_at_its_own_end() -> None:
    reader = CoreEvents()
    values = [
        reader.read(one)
        for one in (
            started("batched"),
            started("batched"),
            finished("batched"),
            started("batched"),
            finished("batched", "error"),
            finished("batched", "partial success"),
        )
    ]

    assert [type(value) for value in values if value is not None] == [NodeStart, NodeResult]
    assert isinstance(values[0], NodeStart)
    assert isinstance(values[-1], NodeResult)
    assert values[-1].status == "partial success"


def test_error_of_a_query_replaces_that_of_closing_its_connection() -> None:
    reader = CoreEvents()
    hidden = "Runtime Error\n  Connection lost while polling query status"
    crashed = event("GenericExceptionOnRun", "orders", "model", exc="unexpected exception", hidden_error=hidden)

    _, error, result = (
        reader.read(one)
        for one in (started("orders"), crashed, finished("orders", "error", message="unexpected exception"))
    )

    assert error == NodeError("model.shop.orders", hidden)
    assert isinstance(result, NodeResult)
    assert result.message == hidden


def in_thread(thread: str, one: dict[str, Any]) -> dict[str, Any]:
    one["info"]["thread"] = thread
    return one


def batch(day: int, status: str) -> dict[str, Any]:
    described = f"batch 2026-01-0{day} of main.batched"
    return event("LogBatchResult", "batched", "model", description=described, status=status)


def test_the_message_of_a_microbatch_model_names_the_batches_that_failed_and_why() -> None:
    def raised(exc: str) -> dict[str, Any]:
        return event("GenericExceptionOnRun", "batched", "model", exc=f"Exception on worker thread. {exc}")

    reader = CoreEvents()
    *_, result = [
        reader.read(in_thread(thread, one))
        for thread, one in (
            *(("main", started("batched")), ("t1", started("batched")), ("t2", started("batched"))),
            ("t1", raised("Runtime Error\n  no such day")),
            *(("t2", batch(2, "OK")), ("t2", finished("batched"))),
            *(("t1", batch(1, "error")), ("t1", finished("batched", "error", message="ERROR"))),
            *(("t2", started("batched")), ("t2", batch(3, "error"))),
            ("t2", finished("batched", "error", message="Compilation Error in model batched\n  no macro")),
            *(("main", started("batched")), ("main", batch(4, "skipped")), ("main", finished("batched", "skipped"))),
            ("main", finished("batched", "partial success", message="PARTIAL SUCCESS (1/4)")),
        )
    ]

    assert isinstance(result, NodeResult)
    assert result.message == (
        "PARTIAL SUCCESS (1/4)\n"
        "batch 2026-01-01 of main.batched: Runtime Error\n  no such day\n"
        "batch 2026-01-03 of main.batched: Compilation Error in model batched\n  no macro\n"
        "1 batches skipped because of these"
    )


def test_other_events_with_news_are_values_too() -> None:
    hook = "shop-on-run-end-1"
    reader = CoreEvents()

    def read(name: str, level: str = "info", msg: str = "", **data: object) -> object:
        return reader.read({"info": {"name": name, "level": level, "msg": msg}, "data": data})

    assert read("ConcurrencyLine", node_count=3) == NodeCount(3)
    assert read("FloeDbtRelations", relations={"model.shop.a": {"schema": "dev"}}) == TableNames(
        {"model.shop.a": {"schema": "dev"}}
    )
    assert read("NoNodesForSelectionCriteria", "warn", "matches nothing", spec_raw="a+") == NothingMatched("a+")
    assert read("UnusedTables", "warn", " \x1b[33ma warning\x1b[0m \n") == DbtWarning("a warning")
    assert read("RunResultError", "error", "gone", node_info={"unique_id": "source.shop.raw.a"}) == NodeError(
        "source.shop.raw.a", "gone"
    )
    assert reader.read(event("RunResultFailure", hook, "operation", path="./dbt_project.yml")) is None
    assert reader.read(
        event("RunResultError", hook, "operation", msg="shop.on-run-end.1 failed, error:\n no table")
    ) == (FailedHook("shop.on-run-end.1", "dbt_project.yml", "no table"))


# Events that are about no node, or about nothing at all.
NO_NODES: list[dict[str, Any]] = [
    {},
    {"info": {"name": "NodeFinished"}},
    {"info": {"name": "NodeStart"}, "data": {"node_info": None}},
    {"info": None, "data": []},
    event("SQLQuery", "orders", "model"),
    event("LogModelResult", "orders", "model", status="success"),
]


@pytest.mark.parametrize("one", NO_NODES)
def test_events_without_news_are_no_values(one: dict[str, Any]) -> None:
    assert CoreEvents().read(one) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NODE_FIELDS = ["node_name", "resource_type", "node_started_at", "node_finished_at", "node_relation", "materialized"]
RESULT_FIELDS = ["status", "message", "execution_time", "num_failures", "adapter_response"]


@settings(deadline=None)
@given(
    name=st.sampled_from(["NodeStart", "NodeFinished"]),
    info=st.dictionaries(st.sampled_from(["ts", "invocation_id", "level", "msg"]), JSON),
    node=st.dictionaries(st.sampled_from(NODE_FIELDS), JSON),
    result=st.dictionaries(st.sampled_from(RESULT_FIELDS), JSON),
)
def test_events_of_nodes_are_read_whatever_their_fields_hold(
    name: str, info: dict[str, Any], node: dict[str, Any], result: dict[str, Any]
) -> None:
    data = {"node_info": {**node, "unique_id": "test.shop.a"}, "run_result": result}

    value = CoreEvents().read({"info": {**info, "name": name}, "data": data})

    assert isinstance(value, (NodeStart, NodeResult))
    assert value.unique_id == "test.shop.a"
