"""Spans of dbt builds and of their nodes, and metrics of results and durations."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
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


def _result(unique_id: str, status: str, seconds: float = 2.5, **fields: Any) -> NodeResult:  # noqa: ANN401
    resource_type, _, name = unique_id.partition(".shop.")
    return NodeResult(unique_id, name, resource_type, "table", status, seconds=seconds, finished=_ENDED, **fields)


def test_build_is_a_span_with_run_and_product(recorded: Recording) -> None:
    with dbt_build(_SHOP, "a-run", {"dbt.target": "dev"}) as build:
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
    with pytest.raises(RuntimeError), dbt_build(_SHOP, "a-run"):
        raise RuntimeError("dbt exited with 1")

    assert recorded.span("build").status.description == "dbt exited with 1"
    assert dict(recorded.span("build").attributes or {})["exception.type"] == "RuntimeError"


def test_abandoned_build_ends_its_span(recorded: Recording) -> None:
    def build() -> Iterator[int]:
        with dbt_build(_SHOP, "a-run"):
            yield 1
            yield 2

    events = build()
    next(events)
    events.close()  # type: ignore[attr-defined]  # a generator, which its annotation does not say

    assert recorded.span("build").status.status_code is StatusCode.UNSET


def test_span_of_a_build_is_not_current_in_its_caller(recorded: Recording) -> None:
    with dbt_build(_SHOP, "a-run"), telemetry.operation("lineage.flush"):
        pass

    assert recorded.span("lineage.flush").parent is None


def test_node_is_a_child_span_of_the_build_with_its_duration(recorded: Recording) -> None:
    with dbt_build(_SHOP, "a-run") as build:
        build.record(_result("model.shop.orders", "success"))

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
    ("result", "is_error"),
    [
        (_result("model.shop.a", "error", message="no table"), True),
        (_result("seed.shop.a", "success", message="INSERT 3"), False),
        (_result("snapshot.shop.a", "partial success", message="no table"), True),
        (_result("test.shop.a", "fail", message="no table"), True),
        (_result("test.shop.a", "warn", message="Got 1 result"), False),
        (_result("unit_test.shop.a", "pass"), False),
        (_result("source.shop.a", "runtime error", message="no table"), True),
        (_result("model.shop.a", "skipped"), False),
    ],
)
def test_a_failed_node_is_an_error_span_with_dbts_message(
    recorded: Recording,
    result: NodeResult,
    is_error: bool,  # noqa: FBT001  # a table's column
) -> None:
    with dbt_build(_SHOP, "a-run") as build:
        build.record(result)

    node = recorded.span("node")
    assert dict(node.attributes or {})["dbt.status"] == result.status
    assert (node.status.status_code is StatusCode.ERROR) == is_error
    assert dict(node.attributes or {}).get("exception.message") == ("no table" if is_error else None)


def test_metrics_count_nodes_and_their_seconds_by_outcome(recorded: Recording) -> None:
    with dbt_build(_SHOP, "a-run") as build:
        build.record(_result("model.shop.a", "success", 2))
        build.record(_result("model.shop.b", "success", 3))
        build.record(_result("test.shop.c", "fail", 1))

    labels = {**_SHOP, "floe.job.type": "dbt_build"}
    models = {**labels, "dbt.resource_type": "model", "dbt.status": "success"}
    tests = {**labels, "dbt.resource_type": "test", "dbt.status": "fail"}
    nodes, durations = recorded.points("nodes"), recorded.points("node.duration")
    assert [(dict(point.attributes), point.value) for point in nodes] == [(models, 2), (tests, 1)]
    assert [(dict(point.attributes), point.count, point.sum) for point in durations] == [(models, 2, 5), (tests, 1, 1)]


def test_a_node_without_a_time_ends_now(recorded: Recording) -> None:
    before = time.time_ns()
    with dbt_build(_SHOP, "a-run") as build:
        build.record(replace(_result("model.shop.a", "success"), finished=""))

    assert before // 1_000_000 <= (recorded.span("node").end_time or 0) // 1_000_000 <= time.time_ns() // 1_000_000
