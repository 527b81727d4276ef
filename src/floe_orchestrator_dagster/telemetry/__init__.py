"""OpenTelemetry: spans of what this package does, and where they are sent.

Where they go is configured in ``export``. Nothing configured: nothing is imported, recorded or sent.
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
