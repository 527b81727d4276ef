"""OpenTelemetry spans of this package's operations.

The module ``export`` configures their export. Without a configured collector, OpenTelemetry is not imported.
"""

from __future__ import annotations

from floe_orchestrator_dagster.telemetry.spans import (
    TRACER_NAME,
    Operation,
    load,
    operation,
    product_attributes,
    trace_environment,
    traced,
)

__all__ = [
    "TRACER_NAME",
    "Operation",
    "load",
    "operation",
    "product_attributes",
    "trace_environment",
    "traced",
]
