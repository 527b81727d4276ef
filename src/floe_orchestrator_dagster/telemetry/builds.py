"""A dbt build: one span for the build, one for each of its nodes, and metrics of how long nodes take and how they end.

dbt runs on its own, so a node's span is made when its end is reported. dbt's events:
https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.telemetry.sending import wait_for
from floe_orchestrator_dagster.telemetry.spans import (
    NAMESPACE,
    NO_NAMESPACE,
    TRACER_NAME,
    Operation,
    current_tracer,
    parent_context,
    trace_environment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.trace import Span, Tracer

    from floe_orchestrator_dagster.telemetry.spans import Attributes

_NODE_ENDS = (
    "LogModelResult",
    "LogSeedResult",
    "LogSnapshotResult",
    "LogTestResult",
    "LogNodeResult",
    "LogFunctionResult",
    "LogFreshnessResult",
)
_NODE_SKIPPED = "SkippingDetails"
_NODE_FINISHED = "NodeFinished"
_FAILED = ("error", "fail", "runtime error", "partial success")


@dataclass(frozen=True)
class NodeEnd:
    """The end of a dbt node.

    Attributes:
        unique_id: dbt's unique id, such as ``model.shop.orders``.
        name: Its name.
        resource_type: Such as ``model`` or ``test``.
        materialized: dbt's materialization; empty without.
        status: dbt's word for the end, in lower case, such as ``success``, ``error``, ``fail`` or ``skipped``.
        seconds: How long it took.
        ended: When it ended, in nanoseconds since the epoch.
        message: What dbt says of a failure; empty otherwise.
    """

    unique_id: str
    name: str
    resource_type: str
    materialized: str
    status: str
    seconds: float
    ended: int
    message: str

    @property
    def is_failure(self) -> bool:
        """Whether it failed, or only a part of it did not."""
        return self.status in _FAILED


class BuildTrace:
    """The trace of a dbt build; it takes notes only when somebody records."""

    def __init__(self, tracer: Tracer | None, span: Span | None, attributes: Attributes) -> None:
        self._tracer, self._span, self._attributes = tracer, span, attributes
        self._ended: set[str] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for dbt's process, such as ``TRACEPARENT``; empty without a trace."""
        return trace_environment(self._span) if self._span else {}

    @property
    def traceparent(self) -> str | None:
        """The build's trace in W3C's form, for lineage; None without a trace."""
        return self.environment.get("TRACEPARENT")

    def dbt_event(self, event: Mapping[str, Any]) -> None:
        """Trace and count a node, if dbt's event is its end; never raises because of an event's form."""
        if self._tracer is None:
            return
        end = read_node_end(event)
        if end is not None and end.unique_id not in self._ended:
            self._ended.add(end.unique_id)
            self._trace(self._tracer, end)
            _count(end, self._attributes)

    def _trace(self, tracer: Tracer, end: NodeEnd) -> None:
        from opentelemetry.trace import set_span_in_context

        span = tracer.start_span(
            f"{TRACER_NAME}.node",
            context=set_span_in_context(self._span) if self._span else None,
            start_time=end.ended - int(end.seconds * 1e9),
            attributes={
                **self._attributes,
                "floe.dbt.model": end.name,
                "dbt.unique_id": end.unique_id,
                "dbt.resource_type": end.resource_type,
                "dbt.materialization": end.materialized,
                "dbt.status": end.status,
            },
        )
        if end.is_failure:
            Operation(span).failed(end.message or f"dbt says {end.status}", "DbtNodeError")
        span.end(end.ended)


@contextmanager
def dbt_build(product: Attributes, run_id: str, attributes: Attributes | None = None) -> Iterator[BuildTrace]:
    """Trace a dbt build; sends what was recorded before it returns, because a step's process may end abruptly.

    The span is not made the current one: a build is a generator, whose caller runs in between.

    Args:
        product: What :func:`product_attributes` made.
        run_id: Id of the Dagster run.
        attributes: More attributes of the span, such as the dbt target.
    """
    tracer = current_tracer()
    if tracer is None:
        yield BuildTrace(None, None, {})
        return
    shared = {NAMESPACE: NO_NAMESPACE, **product, "floe.pipeline.id": run_id, "floe.job.type": "dbt_build"}
    span = tracer.start_span(
        f"{TRACER_NAME}.build", context=parent_context(), attributes={**shared, **(attributes or {})}
    )
    try:
        yield BuildTrace(tracer, span, shared)
    except Exception as error:
        Operation(span).failed(str(error), type(error).__name__)
        raise
    finally:
        span.end()
        flush()


def flush() -> None:
    """Send what was recorded; a process waits once, for a moment, for a collector that takes nothing."""
    if "opentelemetry.sdk" not in sys.modules:
        return
    from opentelemetry import metrics, trace

    providers = {"traces": trace.get_tracer_provider(), "metrics": metrics.get_meter_provider()}
    wait_for(
        {signal: provider.force_flush for signal, provider in providers.items() if hasattr(provider, "force_flush")}
    )


def read_node_end(event: Mapping[str, Any]) -> NodeEnd | None:
    """Read the end of a node from one of dbt's log events; None for all others."""
    info, data = _mapping(event.get("info")), _mapping(event.get("data"))
    is_skip = info.get("name") == _NODE_SKIPPED
    node = _mapping(data.get("node_info"))
    if not (is_skip or info.get("name") in (*_NODE_ENDS, _NODE_FINISHED)) or not node.get("unique_id"):
        return None
    message = str(info.get("msg") or "")
    if info.get("name") == _NODE_FINISHED:
        data = _mapping(data.get("run_result"))
        message = str(data.get("message") or "")
    status = "skipped" if is_skip else str(data.get("status") or "unknown").lower()
    # A table's status is what the database said, such as "CREATE TABLE (12 rows)"; the node's is dbt's own.
    settled = str(node.get("node_status") or status).lower()
    return NodeEnd(
        unique_id=str(node["unique_id"]),
        name=str(node.get("node_name") or node["unique_id"]),
        resource_type=str(node.get("resource_type") or "unknown"),
        materialized=str(node.get("materialized") or ""),
        status=_outcome(status, settled),
        seconds=0.0 if is_skip else _number(data.get("execution_time")),
        ended=_nanoseconds(info.get("ts")),
        message=message if status in _FAILED else "",
    )


def _outcome(status: str, node_status: str) -> str:
    if status in (*_FAILED, "pass", "warn", "skipped", "success"):
        return status
    return node_status if node_status in _FAILED else "success"


def _nanoseconds(timestamp: object) -> int:
    """Read dbt's timestamp, in UTC; now when there is none."""
    try:
        moment = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
    except ValueError:
        moment = datetime.now(tz=timezone.utc)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1e6) * 1000


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(end: NodeEnd, attributes: Attributes) -> None:
    from opentelemetry import metrics

    # Without run and node: a backend keeps one series for each combination.
    labels = {key: value for key, value in attributes.items() if key.startswith("floe.") and key != "floe.pipeline.id"}
    labels = {**labels, "dbt.resource_type": end.resource_type, "dbt.status": end.status}
    counter, histogram = _instruments(metrics.get_meter_provider())
    counter.add(1, labels)
    histogram.record(end.seconds, labels)


@lru_cache(maxsize=1)
def _instruments(provider: MeterProvider) -> tuple[Counter, Histogram]:
    meter = provider.get_meter(TRACER_NAME)
    return (
        meter.create_counter(f"{TRACER_NAME}.nodes", unit="{node}", description="dbt nodes that ended"),
        meter.create_histogram(f"{TRACER_NAME}.node.duration", unit="s", description="how long dbt nodes took"),
    )
