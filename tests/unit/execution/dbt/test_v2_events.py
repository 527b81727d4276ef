"""dbt v2's records become starts and results of nodes, failed hooks and messages, with secrets masked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.dbt.node_result import (
    NO_RELATION,
    DbtWarning,
    FailedHook,
    NodeCount,
    NodeError,
    NodeRelation,
    NodeResult,
    NodeStart,
    NothingMatched,
)
from floe_orchestrator_dagster.execution.dbt.v2_events import V2Events, may_be_of_use

Record = dict[str, Any]
ORDERS = {
    "unique_id": "model.shop.orders",
    "name": "orders",
    "database": "shop",
    "schema": "main",
    "identifier": "orders",
    "materialization": "NODE_MATERIALIZATION_TABLE",
    "in_selection": True,
}
TEST = {
    "unique_id": "test.shop.unique_id.0123456789",
    "name": "unique_id",
    "database": "shop",
    "schema": "main_dbt_test__audit",
    "identifier": "unique_id",
    "materialization": "NODE_MATERIALIZATION_TEST",
}
START = "1795966851375161406"
END = "1795966852875161406"


def record(kind: str, name: str, attributes: object, **fields: object) -> Record:
    return {"record_type": kind, "event_type": f"v1.public.events.fusion.{name}", "attributes": attributes, **fields}


def node_end(node: Record, outcome: str = "SUCCESS", **attributes: object) -> Record:
    ended = {**node, "node_outcome": f"NODE_OUTCOME_{outcome}", **attributes}
    return record("SpanEnd", "node.NodeProcessed", ended, start_time_unix_nano=START, end_time_unix_nano=END)


def error(text: str, **attributes: object) -> Record:
    return record("LogRecord", "log.LogMessage", attributes, severity_text="ERROR", body=text)


def reader(adapter: str = "duckdb") -> V2Events:
    return V2Events(adapter, lambda text: text.replace("hunter2", "***"))


def result(*records: Record, adapter: str = "duckdb") -> NodeResult:
    """Read records, the last of which is the end of a node."""
    events = reader(adapter)
    *_, last = [events.read(one) for one in records]
    assert isinstance(last, NodeResult)
    return last


def test_start_and_end_of_a_node_have_its_times_its_table_and_its_compiled_query() -> None:
    events = reader()
    invocation = record("SpanStart", "invocation.Invocation", {"invocation_id": "i-1"})
    compiled = record("LogRecord", "log.CompiledCode", {"unique_id": "model.shop.orders", "sql": "select 'hunter2'"})
    begun = record("SpanStart", "node.NodeProcessed", ORDERS, start_time_unix_nano=START)

    _, start, _, end = [events.read(one) for one in (invocation, begun, compiled, node_end(ORDERS, rows_affected="7"))]

    table = NodeRelation("shop", "main", "orders", '"shop"."main"."orders"')
    assert start == NodeStart("model.shop.orders", "model", "table", "2026-11-29T15:40:51.375161Z", "i-1", table)
    assert isinstance(end, NodeResult)
    assert end.start == start
    assert (end.status, end.seconds, end.finished) == ("success", 1.5, "2026-11-29T15:40:52.875161Z")
    assert (end.rows_affected, end.compiled_code, end.message) == (7, "select '***'", "")
    assert end.was_built


@pytest.mark.parametrize(
    ("adapter", "name"),
    [("bigquery", "`shop`.`main`.`orders`"), ("snowflake", "shop.main.orders"), ("redshift", '"shop"."main"."orders"')],
)
def test_a_tables_name_is_quoted_as_the_adapter_does(adapter: str, name: str) -> None:
    assert result(node_end(ORDERS), adapter=adapter).relation.name == name


@pytest.mark.parametrize(
    ("outcome", "attributes", "status"),
    [
        ("ERROR", {}, "error"),
        ("SKIPPED", {"node_skip_reason": "NODE_SKIP_REASON_UPSTREAM"}, "skipped"),
        ("SKIPPED", {"node_skip_reason": "NODE_SKIP_REASON_NO_OP"}, "no-op"),
        ("SKIPPED", {"node_skip_reason": "NODE_SKIP_REASON_CACHED"}, "reused"),
        ("SOMETHING_NEW", {}, "something_new"),
    ],
)
def test_an_outcome_has_the_status_of_dbt_core(outcome: str, attributes: Record, status: str) -> None:
    assert result(node_end(ORDERS, outcome, **attributes)).status == status


@pytest.mark.parametrize(
    ("detail", "status", "rows", "message"),
    [
        ({}, "pass", 0, ""),
        ({"test_outcome": "TEST_OUTCOME_WARNED", "failing_rows": 1}, "warn", 1, "Got 1 result"),
        ({"test_outcome": "TEST_OUTCOME_FAILED", "failing_rows": "2"}, "fail", 2, "Got 2 results"),
    ],
)
def test_a_tests_detail_and_not_its_outcome_says_what_it_found(
    detail: Record, status: str, rows: int, message: str
) -> None:
    found = result(node_end(TEST, node_test_detail=detail))

    assert (found.status, found.failed_rows, found.message, found.relation) == (status, rows, message, NO_RELATION)


def test_a_test_has_a_table_only_where_it_stores_the_rows_that_it_finds() -> None:
    stored = {"test_outcome": "TEST_OUTCOME_FAILED", "failing_rows": 1, "store_failures": True}

    relation = result(node_end(TEST, node_test_detail=stored)).relation

    assert relation.name == '"shop"."main_dbt_test__audit"."unique_id"'


def test_a_test_that_cannot_run_is_an_error_without_a_number_of_rows() -> None:
    text = "Error materializing test test.shop.unique_id.0123456789 (target/x.sql)\n  Binder Error: no\n  LINE 1"
    failed = {"test_outcome": "TEST_OUTCOME_FAILED", "failing_rows": 1}

    found = result(
        error(f"{text}. Treating as failing test.\n   0: <unknown>\n   1: start", unique_id=TEST["unique_id"]),
        node_end(TEST, node_test_detail=failed),
    )

    assert (found.status, found.failed_rows) == ("error", None)
    assert found.message == "Database Error: Binder Error: no\n  LINE 1"


def test_the_difference_that_a_unit_test_found_is_its_message() -> None:
    node = {**TEST, "unique_id": "unit_test.shop.orders.two"}
    detail = {"test_outcome": "TEST_OUTCOME_FAILED", "failing_rows": 1, "diff_table": "| hunter2 -> 3 |"}

    assert result(node_end(node, node_test_detail=detail)).message == "actual differs from expected:\n\n| *** -> 3 |"


def test_an_error_is_that_of_its_node_without_a_backtrace_and_without_secrets() -> None:
    events = reader()
    text = "Database Error in model orders (orders.sql)\n  no hunter2\n   0: <unknown>\n   1: clone3\n      at x.S:81"

    message = events.read(error(text, unique_id="model.shop.orders"))
    end = events.read(node_end(ORDERS, "ERROR"))

    said = "Database Error in model orders (orders.sql)\n  no ***"
    assert message == NodeError("model.shop.orders", said)
    assert isinstance(end, NodeResult)
    assert end.message == said
    assert events.errors == []


@pytest.mark.parametrize(
    ("outcome", "code", "status", "message"),
    [
        (None, 2, "error", ""),
        ("SOMETHING_NEW", 2, "error", ""),
        (None, 1, "no outcome", "dbt reported the end of the node with an unknown outcome: no outcome"),
        ("UNSPECIFIED", 0, "unspecified", "dbt reported the end of the node with an unknown outcome: unspecified"),
        (
            "SOMETHING_NEW",
            1,
            "something_new",
            "dbt reported the end of the node with an unknown outcome: something_new",
        ),
    ],
)
def test_a_node_with_an_unknown_outcome_has_not_succeeded(
    outcome: str | None, code: int, status: str, message: str
) -> None:
    end = node_end(ORDERS, outcome or "")
    if outcome is None:
        del end["attributes"]["node_outcome"]

    ended = result({**end, "status": {"code": code, "message": None}})

    assert (ended.status, ended.ending, ended.was_built, ended.message) == (status, "failed", False, message)


def test_a_test_with_an_unknown_result_has_not_passed() -> None:
    found = result(node_end(TEST, node_test_detail={"test_outcome": "TEST_OUTCOME_UNDECIDED"}))

    assert (found.ending, found.passed) == ("failed", False)


@pytest.mark.parametrize("kind", ["SpanStart", "SpanEnd"])
def test_an_ephemeral_model_without_a_mark_of_its_selection_is_not_selected(kind: str) -> None:
    unmarked = {name: value for name, value in ORDERS.items() if name != "in_selection"}
    ephemeral = {**unmarked, "materialization": "NODE_MATERIALIZATION_EPHEMERAL"}
    end = {"node_outcome": "NODE_OUTCOME_SKIPPED", "node_skip_reason": "NODE_SKIP_REASON_NO_OP"}

    values = [
        reader().read(record(kind, "node.NodeProcessed", {**node, **end}))
        for node in (ephemeral, {**ephemeral, "in_selection": True}, unmarked)
    ]

    assert [value is None for value in values] == [True, False, False]


def test_a_node_that_was_cancelled_and_one_that_was_not_selected_have_no_result() -> None:
    assert reader().read(node_end(ORDERS, "CANCELED")) is None
    assert reader().read(node_end({**ORDERS, "in_selection": False})) is None


def test_a_skipped_node_names_the_failure_because_of_which_dbt_skipped_it() -> None:
    skipped = node_end(
        ORDERS,
        "SKIPPED",
        node_skip_reason="NODE_SKIP_REASON_UPSTREAM",
        node_skip_upstream_detail={"upstream_unique_id": "model.shop.flaky"},
    )

    assert result(skipped).skipped_because_of == "model.shop.flaky"


def test_messages_counts_and_hooks_are_values() -> None:
    events = reader()
    warning = record("LogRecord", "log.LogMessage", {}, severity_text="WARN", body="old hunter2")
    unmatched = record(
        "LogRecord",
        "log.LogMessage",
        {"code_name": "NoNodesForSelectionCriteria"},
        severity_text="WARN",
        body="The selection criterion 'fqn:x,file:x' does not match any enabled nodes",
    )
    run = {"phase": "EXECUTION_PHASE_RUN", "node_count_total": "12"}
    hook = {
        "name": "shop-on-run-end-1",
        "package_name": "shop",
        "hook_type": "HOOK_TYPE_ON_RUN_END",
        "hook_outcome": "HOOK_OUTCOME_ERROR",
    }
    failed = record("SpanEnd", "node.HookProcessed", hook, status={"message": "no table\n   0: <unknown>", "code": 2})

    assert events.read(warning) == DbtWarning("old ***")
    assert events.read(unmatched) == NothingMatched("fqn:x,file:x")
    assert events.read(record("SpanStart", "phase.PhaseExecuted", run)) == NodeCount(12, has_all=True)
    assert events.read(failed) == FailedHook("shop.on-run-end.1", "dbt_project.yml", "no table")
    assert events.read(error("Ref 'x' not found", phase="EXECUTION_PHASE_PARSE")) is None
    assert (events.errors, events.error_type) == (["Ref 'x' not found"], "Parsing")


@pytest.mark.parametrize(("code", "succeeded"), [(1, True), (2, False)])
def test_the_end_of_the_invocation_is_that_of_dbt(code: int, *, succeeded: bool) -> None:
    events = reader()

    events.read(record("SpanEnd", "invocation.Invocation", {"invocation_id": "i"}, status={"code": code}))

    assert (events.has_ended, events.has_succeeded) == (True, succeeded)


def test_lines_without_a_value_need_no_parsing() -> None:
    assert may_be_of_use(b'{"event_type":"v1.public.events.fusion.node.NodeProcessed"}')
    assert not may_be_of_use(b'{"event_type":"v1.public.events.fusion.query.QueryExecuted"}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner)
        | (st.dictionaries(st.sampled_from(["unique_id", "node_outcome", "test_outcome", "message", "code"]), inner))
    ),
    max_leaves=6,
)
NAMES = ["node.NodeProcessed", "log.LogMessage", "log.CompiledCode", "node.HookProcessed", "phase.PhaseExecuted"]
KEYS = ["unique_id", "node_outcome", "node_test_detail", "rows_affected", "materialization", "phase", "sql", "name"]


@settings(max_examples=200)
@given(
    kind=st.sampled_from(["SpanStart", "SpanEnd", "LogRecord"]),
    name=st.sampled_from([*NAMES, "invocation.Invocation", "log.UserLogMessage"]),
    attributes=st.dictionaries(st.sampled_from(KEYS), JSON) | JSON,
    fields=st.dictionaries(
        st.sampled_from(["body", "status", "start_time_unix_nano", "end_time_unix_nano", "severity_text"]), JSON
    ),
)
def test_a_record_of_any_other_shape_raises_nothing(
    kind: str,
    name: str,
    attributes: object,
    fields: Record,
) -> None:
    reader().read(record(kind, name, attributes, **fields))
