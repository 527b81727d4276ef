"""Spans of a dbt build and of its nodes, and metrics of the nodes' duration and status.

dbt runs in another process. Therefore a node's span is created afterwards, from its result.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.telemetry.sending import flush
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

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.telemetry.spans import Attributes


class BuildTrace:
    """The trace of a dbt build. It records nothing without a tracer."""

    def __init__(self, tracer: Tracer | None, span: Span | None, attributes: Attributes) -> None:
        self._tracer, self._span, self._attributes = tracer, span, attributes

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for dbt's process, such as ``TRACEPARENT``; empty without a trace."""
        return trace_environment(self._span) if self._span else {}

    @property
    def traceparent(self) -> str | None:
        """The build's trace in W3C's format, for lineage; None without a trace."""
        return self.environment.get("TRACEPARENT")

    def record(self, result: NodeResult) -> None:
        """Record the span and the metrics of a node's result."""
        if self._tracer is not None:
            self._trace(self._tracer, result)
            _count(result, self._attributes)

    def _trace(self, tracer: Tracer, result: NodeResult) -> None:
        from opentelemetry.trace import set_span_in_context

        ended = _nanoseconds(result.finished)
        span = tracer.start_span(
            f"{TRACER_NAME}.node",
            context=set_span_in_context(self._span) if self._span else None,
            start_time=ended - int(result.seconds * 1e9),
            attributes={
                **self._attributes,
                "floe.dbt.model": result.name,
                "dbt.unique_id": result.unique_id,
                "dbt.resource_type": result.resource_type,
                "dbt.materialization": result.materialized,
                "dbt.status": result.status,
            },
        )
        if result.has_failed:
            Operation(span).failed(result.message or f"dbt says {result.status}", "DbtNodeError")
        span.end(ended)


@contextmanager
def dbt_build(product: Attributes, run_id: str, attributes: Attributes | None = None) -> Iterator[BuildTrace]:
    """Trace a dbt build. Spans and metrics are sent at its end, because a step's process can end abruptly.

    The span does not become OpenTelemetry's current span. The ``with`` block yields each result to its caller, whose
    code must not run inside the span.

    Args:
        product: The attributes from :func:`product_attributes`.
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


def _nanoseconds(time: str) -> int:
    """Parse a time from dbt; the current time if there is none."""
    try:
        moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        moment = datetime.now(tz=timezone.utc)
    return int(moment.timestamp() * 1e6) * 1000


def _count(result: NodeResult, attributes: Attributes) -> None:
    from opentelemetry import metrics

    # Run and node are not attributes, because a backend stores a time series for each combination of attributes.
    labels = {key: value for key, value in attributes.items() if key.startswith("floe.") and key != "floe.pipeline.id"}
    labels = {**labels, "dbt.resource_type": result.resource_type, "dbt.status": result.status}
    counter, histogram = _instruments(metrics.get_meter_provider())
    counter.add(1, labels)
    histogram.record(result.seconds, labels)


@lru_cache(maxsize=1)
def _instruments(provider: MeterProvider) -> tuple[Counter, Histogram]:
    meter = provider.get_meter(TRACER_NAME)
    return (
        meter.create_counter(f"{TRACER_NAME}.nodes", unit="{node}", description="dbt nodes that ended"),
        meter.create_histogram(f"{TRACER_NAME}.node.duration", unit="s", description="duration of dbt nodes"),
    )
