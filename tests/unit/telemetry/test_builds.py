"""A dbt build is a span, each node that ends is a span below it; metrics count how nodes end and how long they take."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import StatusCode

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.telemetry.builds import read_node_end
from recording import Recording, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOP = {"floe.namespace": "sales", "floe.product.name": "shop-orders", "floe.mode": "dev"}
_ENDED = "2026-03-01T06:00:10.500000Z"
_NANOSECONDS = int(datetime(2026, 3, 1, 6, 0, 10, 500_000, tzinfo=timezone.utc).timestamp() * 1e9)


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as kept:
        yield kept


def _event(name: str, unique_id: str, status: str, seconds: float = 2.5, **info: object) -> dict[str, Any]:
    resource_type, _, node = unique_id.partition(".shop.")
    node_info = {
        "unique_id": unique_id,
        "node_name": node,
        "resource_type": resource_type,
        "materialized": "table",
        "node_status": "started",
    }
    return {
        "info": {"name": name, "ts": _ENDED, "msg": f"1 of 1 {status}", **info},
        "data": {"node_info": node_info, "status": status, "execution_time": seconds},
    }


def test_build_is_a_span_with_run_and_product(recorded: Recording) -> None:
    with telemetry.dbt_build(_SHOP, "a-run", {"dbt.target": "dev"}) as build:
        traceparent = build.traceparent

    span = recorded.span("build")
    assert dict(span.attributes or {}) == {
        **_SHOP,
        "floe.pipeline.id": "a-run",
        "floe.job.type": "dbt_build",
        "dbt.target": "dev",
    }
    assert traceparent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def test_build_that_fails_is_an_error_span(recorded: Recording) -> None:
    with pytest.raises(RuntimeError), telemetry.dbt_build(_SHOP, "a-run"):
        raise RuntimeError("dbt exited with 1")

    assert recorded.span("build").status.description == "dbt exited with 1"
    assert dict(recorded.span("build").attributes or {})["exception.type"] == "RuntimeError"


def test_build_that_is_let_go_of_ends_its_span(recorded: Recording) -> None:
    def build() -> Iterator[int]:
        with telemetry.dbt_build(_SHOP, "a-run"):
            yield 1
            yield 2

    events = build()
    next(events)
    events.close()  # type: ignore[attr-defined]  # a generator, which its annotation does not say

    assert recorded.span("build").status.status_code is StatusCode.UNSET


def test_build_is_nobodys_current_span_while_its_caller_runs(recorded: Recording) -> None:
    with telemetry.dbt_build(_SHOP, "a-run"), telemetry.operation("lineage.flush"):
        pass

    assert recorded.span("lineage.flush").parent is None


def test_node_is_a_span_below_the_build_as_long_as_it_took(recorded: Recording) -> None:
    with telemetry.dbt_build(_SHOP, "a-run") as build:
        build.dbt_event(_event("LogModelResult", "model.shop.orders", "CREATE TABLE (12.0 rows)"))

    node, parent = recorded.span("node"), recorded.span("build")
    assert node.parent is not None
    assert node.parent.span_id == parent.context.span_id
    assert (node.start_time, node.end_time) == (_NANOSECONDS - 2_500_000_000, _NANOSECONDS)
    assert dict(node.attributes or {}) == {
        **_SHOP,
        "floe.pipeline.id": "a-run",
        "floe.job.type": "dbt_build",
        "floe.dbt.model": "orders",
        "dbt.unique_id": "model.shop.orders",
        "dbt.resource_type": "model",
        "dbt.materialization": "table",
        "dbt.status": "success",
    }


@pytest.mark.parametrize(
    ("event", "status", "is_error"),
    [
        (_event("LogModelResult", "model.shop.a", "error"), "error", True),
        (_event("LogModelResult", "model.shop.a", "OK"), "success", False),
        (_event("LogSeedResult", "seed.shop.a", "success"), "success", False),
        (_event("LogSnapshotResult", "snapshot.shop.a", "error"), "error", True),
        (_event("LogTestResult", "test.shop.a", "fail"), "fail", True),
        (_event("LogTestResult", "test.shop.a", "warn"), "warn", False),
        (_event("LogTestResult", "unit_test.shop.a", "pass"), "pass", False),
        (_event("LogFreshnessResult", "source.shop.a", "runtime error"), "runtime error", True),
        (_event("SkippingDetails", "model.shop.a", ""), "skipped", False),
    ],
)
def test_outcome_is_dbts_word_for_it(
    recorded: Recording,
    event: dict[str, Any],
    status: str,
    is_error: bool,  # noqa: FBT001  # a table's column
) -> None:
    with telemetry.dbt_build(_SHOP, "a-run") as build:
        build.dbt_event(event)

    node = recorded.span("node")
    assert dict(node.attributes or {})["dbt.status"] == status
    assert (node.status.status_code is StatusCode.ERROR) == is_error
    assert dict(node.attributes or {}).get("exception.message") == (f"1 of 1 {status}" if is_error else None)


def test_metrics_count_nodes_and_their_seconds_by_outcome(recorded: Recording) -> None:
    with telemetry.dbt_build(_SHOP, "a-run") as build:
        build.dbt_event(_event("LogModelResult", "model.shop.a", "OK", 2))
        build.dbt_event(_event("LogModelResult", "model.shop.b", "OK", 3))
        build.dbt_event(_event("LogTestResult", "test.shop.c", "fail", 1))

    labels = {**_SHOP, "floe.job.type": "dbt_build"}
    models = {**labels, "dbt.resource_type": "model", "dbt.status": "success"}
    tests = {**labels, "dbt.resource_type": "test", "dbt.status": "fail"}
    nodes, durations = recorded.points("nodes"), recorded.points("node.duration")
    assert [(dict(point.attributes), point.value) for point in nodes] == [(models, 2), (tests, 1)]
    assert [(dict(point.attributes), point.count, point.sum) for point in durations] == [(models, 2, 5), (tests, 1, 1)]


def test_node_is_counted_once_however_often_dbt_tells(recorded: Recording) -> None:
    with telemetry.dbt_build(_SHOP, "a-run") as build:
        for _ in range(2):
            build.dbt_event(_event("LogModelResult", "model.shop.a", "OK"))

    assert [point.value for point in recorded.points("nodes")] == [1]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"info": None, "data": None},
        {"info": {"name": "LogModelResult"}, "data": {}},
        {"info": {"name": "LogModelResult"}, "data": {"node_info": {"unique_id": ""}}},
        {"info": {"name": "LogStartLine"}, "data": {"node_info": {"unique_id": "model.shop.a"}}},
    ],
)
def test_other_events_are_no_end_of_a_node(event: dict[str, Any]) -> None:
    assert read_node_end(event) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    ts=_JSON, status=_JSON, seconds=_JSON, node=st.fixed_dictionaries({"unique_id": st.just("a.b"), "node_name": _JSON})
)
def test_event_of_any_form_is_read_or_left(
    ts: object, status: object, seconds: object, node: dict[str, object]
) -> None:
    data = {"node_info": node, "status": status, "execution_time": seconds}

    end = read_node_end({"info": {"name": "LogModelResult", "ts": ts}, "data": data})

    assert end is not None
    assert end.unique_id == "a.b"
