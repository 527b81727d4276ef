"""OpenTelemetry: spans around what this package does, and metrics of the dbt nodes that it builds.

Where they go is configured in ``export``. Nothing configured: nothing is imported, recorded or sent.
"""

from __future__ import annotations

from floe_orchestrator_dagster.telemetry.builds import BuildTrace, dbt_build
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
    "BuildTrace",
    "Operation",
    "dbt_build",
    "load",
    "operation",
    "product_attributes",
    "trace_environment",
    "traced",
]
