"""Spans and metrics of the OpenTelemetry SDK in this process, kept in memory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_state
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan


@dataclass(frozen=True)
class Recording:
    """Spans and metrics, as they were recorded."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self.exporter.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        """The only span called ``floe.orchestrator.dagster.<name>``."""
        [found] = [span for span in self.spans if span.name == f"floe.orchestrator.dagster.{name}"]
        return found

    def points(self, name: str) -> list[Any]:
        """The data points of the metric ``floe.orchestrator.dagster.<name>``."""
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else []
        found = [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]
        [metric] = [metric for metric in found if metric.name == f"floe.orchestrator.dagster.{name}"]
        return list(metric.data.data_points)


@contextmanager
def recording() -> Iterator[Recording]:
    """Record what happens inside; the process-wide providers are as before afterwards."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        # The API has no door back: providers are set once per process.
        patch.setattr(trace, "_TRACER_PROVIDER", tracers)
        patch.setattr(metrics_state, "_METER_PROVIDER", meters)
        yield Recording(exporter, reader)
    tracers.shutdown()
    meters.shutdown()
