"""A collector that takes spans and metrics over OTLP/HTTP or OTLP/gRPC, on this machine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]  # it ships no types
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class Collector:
    """Requests that a collector has received.

    Attributes:
        url: Where it takes spans and metrics.
        requests: Every request, as OTLP's messages.
        headers: Headers of every request over HTTP, by lower-case name.
    """

    url: str = ""
    requests: list[Any] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def spans(self) -> dict[str, dict[str, Any]]:
        """Attributes of the spans by name; of several spans of one name, the last one's."""
        return {
            span.name: _values(span.attributes)
            for resource in self._resources("resource_spans")
            for scope in resource.scope_spans
            for span in scope.spans
        }

    @property
    def metrics(self) -> set[str]:
        """Names of the metrics."""
        return {
            metric.name
            for resource in self._resources("resource_metrics")
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def services(self) -> list[dict[str, Any]]:
        """The resource attributes of the received spans."""
        return [_values(resource.resource.attributes) for resource in self._resources("resource_spans")]

    def _resources(self, kind: str) -> list[Any]:
        return [resource for request in self.requests for resource in getattr(request, kind, ())]


def _values(attributes: Any) -> dict[str, Any]:  # noqa: ANN401  # generated messages have no types
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


_MESSAGES: dict[str, Any] = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}


@contextmanager
def collecting_over_http(port: int = 0) -> Iterator[Collector]:
    """Collect over OTLP/HTTP with protobuf."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = _MESSAGES[self.path]()
            message.ParseFromString(body)
            collector.requests.append(message)
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def collecting_over_grpc() -> Iterator[Collector]:
    """Collect over OTLP/gRPC."""
    collector = Collector()

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: ANN401, ARG002, N802  # generated interface
            collector.requests.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: ANN401, ARG002, N802  # generated interface
            collector.requests.append(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None).wait()
