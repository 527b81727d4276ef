"""Configuration of the export of spans and metrics, from ``OTEL_*`` variables or the product's artifacts.

It applies to this package's own processes: code locations, runs and the command line. Other processes use their own
OpenTelemetry configuration.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.telemetry.sending import MonitoredExporter, keep_exporters_quiet, shut_down_at_exit
from floe_orchestrator_dagster.telemetry.spans import product_attributes

if TYPE_CHECKING:
    from floe_core.schemas.telemetry import TelemetryConfig
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

# floe's compiler writes this endpoint when none is configured.
_NOT_CONFIGURED = "http://localhost:4317"
_TIMEOUT_SECONDS = 3
_BATCH_VARIABLES = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "max_queue_size",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "max_export_batch_size",
    "OTEL_BSP_SCHEDULE_DELAY": "schedule_delay_millis",
    "OTEL_BSP_EXPORT_TIMEOUT": "export_timeout_millis",
}


@dataclass(frozen=True)
class Destination:
    """The destination of one kind of signal.

    Attributes:
        signal: ``traces`` or ``metrics``.
        protocol: ``grpc`` or ``http/protobuf``.
        endpoint: The collector's address; None when an ``OTEL_*`` variable sets it.
    """

    signal: str
    protocol: str
    endpoint: str | None


def find_destination(signal: str, config: TelemetryConfig | None) -> Destination | None:
    """Return the destination of ``traces`` or ``metrics``; None when the export is disabled or not configured."""
    exporter = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").lower()
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or exporter not in ("", "otlp") or (config is not None and not config.enabled):
        return None
    has_variable = bool(_variable("ENDPOINT", signal)) or exporter == "otlp"
    declared = config.otlp_endpoint if config and config.otlp_endpoint != _NOT_CONFIGURED else None
    if not has_variable and declared is None:
        return None
    protocol = _variable("PROTOCOL", signal) or (config.otlp_protocol if config else "grpc")
    return Destination(signal, "grpc" if protocol == "grpc" else "http/protobuf", None if has_variable else declared)


def export_as_configured(config: TelemetryConfig | None) -> None:
    """Set up the configured export of spans and metrics, unless the process already has one.

    Args:
        config: The product's settings; None without a product.
    """
    traces, metrics = find_destination("traces", config), find_destination("metrics", config)
    if traces is None and metrics is None:
        return
    keep_exporters_quiet()
    resource = _resource(config)
    if traces is not None and not _is_set_up("opentelemetry.trace", "get_tracer_provider"):
        _send_traces(traces, resource, config)
    if metrics is not None and not _is_set_up("opentelemetry.metrics", "get_meter_provider"):
        _send_metrics(metrics, resource)


def _is_set_up(module: str, getter: str) -> bool:
    """Return whether this process has a provider from an SDK. The API's default providers have no ``force_flush``."""
    from importlib import import_module

    return hasattr(getattr(import_module(module), getter)(), "force_flush")


def _variable(name: str, signal: str) -> str:
    own, common = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return os.environ.get(own, "").strip() or os.environ.get(common, "").strip()


def _resource(config: TelemetryConfig | None) -> Resource:
    """Return the resource of this process, from ``OTEL_*`` variables or the product's artifacts."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    declared = {**config.resource_attributes.to_otel_dict(), **product_attributes(config)} if config else {}
    return Resource.create({"service.name": "floe-dagster", **declared}).merge(OTELResourceDetector().detect())


def _send_traces(destination: Destination, resource: Resource, config: TelemetryConfig | None) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    batch: dict[str, Any] = {}
    sampler = None  # the SDK reads OTEL_TRACES_SAMPLER
    if config is not None:
        batch = {
            field: getattr(config.batch_processor, field)
            for variable, field in _BATCH_VARIABLES.items()
            if variable not in os.environ
        }
        if "OTEL_TRACES_SAMPLER" not in os.environ:
            mode = product_attributes(config)["floe.mode"]
            sampler = ParentBased(TraceIdRatioBased(config.get_sampling_ratio(mode)))
    provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_span_exporter(destination), **batch))
    trace.set_tracer_provider(provider)
    shut_down_at_exit("traces", provider.shutdown)
    logger.debug("spans are sent to %s over %s", _shown(destination), destination.protocol)


def _send_metrics(destination: Destination, resource: Resource) -> None:
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(_metric_exporter(destination))
    provider = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    shut_down_at_exit("metrics", provider.shutdown)
    logger.debug("metrics are sent to %s over %s", _shown(destination), destination.protocol)


def _shown(destination: Destination) -> str:
    """Name the setting with the endpoint. The endpoint itself can contain credentials."""
    return "the endpoint of OTEL_EXPORTER_OTLP_*" if destination.endpoint is None else "the product's otlp_endpoint"


def _span_exporter(destination: Destination) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExportResult

    class MonitoredSpans(MonitoredExporter):
        signal = "traces"
        failure = SpanExportResult.FAILURE

    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        class GrpcSpans(MonitoredSpans, Grpc):
            """Exports spans over gRPC."""

        return GrpcSpans(**_settings(destination))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    class HttpSpans(MonitoredSpans, Http):
        """Exports spans over HTTP."""

    return HttpSpans(**_settings(destination))


def _metric_exporter(destination: Destination) -> MetricExporter:
    from opentelemetry.sdk.metrics.export import MetricExportResult

    class MonitoredMetrics(MonitoredExporter):
        signal = "metrics"
        failure = MetricExportResult.FAILURE

    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        class GrpcMetrics(MonitoredMetrics, Grpc):
            """Exports metrics over gRPC."""

        return GrpcMetrics(**_settings(destination))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

    class HttpMetrics(MonitoredMetrics, Http):
        """Exports metrics over HTTP."""

    return HttpMetrics(**_settings(destination))


def _settings(destination: Destination) -> dict[str, Any]:
    """Return the settings that no variable sets. The timeout of a request is 3 s instead of the SDK's 10 s."""
    settings: dict[str, Any] = {}
    if not _variable("TIMEOUT", destination.signal):
        settings["timeout"] = _TIMEOUT_SECONDS
    if destination.endpoint is not None:
        path = f"/v1/{destination.signal}"
        is_http = destination.protocol != "grpc"
        settings["endpoint"] = (
            f"{destination.endpoint.rstrip('/').removesuffix(path)}{path}" if is_http else destination.endpoint
        )
    return settings
