"""Spans of operations, with names such as ``floe.orchestrator.dagster.<operation>``.

Spans are created only if the process has already imported OpenTelemetry. Otherwise there is no tracer provider, and the
import would take longer than the operations.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from floe_core.schemas.telemetry import TelemetryConfig
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    Attribute = str | bool | int | float
    Attributes = Mapping[str, Attribute]

P = ParamSpec("P")
T = TypeVar("T")

# The same limit as in floe-core's spans.
_LONGEST_MESSAGE = 500
TRACER_NAME = "floe.orchestrator.dagster"

NAMESPACE = "floe.namespace"
NO_NAMESPACE = "default"  # the default of floe's compiler
_MODE = "floe.mode"
_PRODUCT_KEYS = (NAMESPACE, "floe.product.name", "floe.product.version", _MODE)
_MODES = {"dev": "dev", "development": "dev", "staging": "staging", "prod": "prod", "production": "prod"}
_CARRIED = ("traceparent", "tracestate", "baggage")


class Operation:
    """The current operation, with methods that add to its span, if it has one."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def describe(self, attributes: Attributes) -> None:
        """Add attributes to the span."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def failed(self, message: str, error: str = "") -> None:
        """Record a failure as floe-core does: status, type and message, without secrets and stack trace."""
        if self._span is None or not self._span.is_recording():
            return
        from opentelemetry.trace import Status, StatusCode

        shown = redact(message)[:_LONGEST_MESSAGE]
        self._span.set_status(Status(StatusCode.ERROR, shown))
        self._span.set_attribute("exception.message", shown)
        if error:
            self._span.set_attribute("exception.type", error)


_UNRECORDED = Operation(None)


@contextmanager
def operation(name: str, attributes: Attributes | None = None, started: int | None = None) -> Iterator[Operation]:
    """Create a span around the ``with`` block, and record an exception from it.

    Args:
        name: Name of the operation, such as ``connection.check``.
        attributes: Attributes of the span, such as :func:`product_attributes`.
        started: Start time in nanoseconds since the epoch; None for now.
    """
    tracer = current_tracer()
    if tracer is None:
        yield _UNRECORDED
        return
    with tracer.start_as_current_span(
        f"{TRACER_NAME}.{name}",
        context=parent_context(),
        attributes={NAMESPACE: NO_NAMESPACE, **(attributes or {})},
        start_time=started,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        traced_operation = Operation(span)
        try:
            yield traced_operation
        except Exception as error:
            traced_operation.failed(str(error), type(error).__name__)
            raise


@contextmanager
def load(export: Callable[[TelemetryConfig | None], None] | None = None) -> Iterator[Callable[[TelemetryConfig], None]]:
    """Create a span around the load of a product, whose telemetry settings become known during the load.

    Args:
        export: Sets up the export. It is called with the product's settings, or with None if the load fails before.

    Yields:
        A function to call with the product's settings as soon as they are known.
    """
    started = time.time_ns()
    known: list[TelemetryConfig | None] = []
    with ExitStack() as stack:

        def set_product(config: TelemetryConfig | None) -> None:
            known.append(config)
            if export is not None:
                export(config)
            stack.enter_context(operation("load", product_attributes(config), started))

        try:
            yield set_product
        except Exception:
            if not known:
                set_product(None)
            raise


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that each call has a span of the operation ``name``."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with operation(name):
                return function(*args, **kwargs)

        return call

    return decorate


def product_attributes(config: TelemetryConfig | None) -> dict[str, str]:
    """Return the attributes that floe requires on each span: namespace, product, version and mode.

    The mode comes from ``FLOE_ENV``, because the compiler always writes ``dev``.
    """
    if config is None:
        return {}
    declared = config.resource_attributes.to_otel_dict()
    attributes = {key: declared[key] for key in _PRODUCT_KEYS}
    return {**attributes, _MODE: _MODES.get(os.environ.get("FLOE_ENV", "").lower(), attributes[_MODE])}


def trace_environment(span: Span | None = None) -> dict[str, str]:
    """Return the environment variables that propagate the trace to a process, such as ``TRACEPARENT``.

    Empty without a trace. Specification: https://opentelemetry.io/docs/specs/otel/context/env-carriers/
    """
    if current_tracer() is None:
        return {}
    from opentelemetry import propagate
    from opentelemetry.trace import set_span_in_context

    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=set_span_in_context(span) if span else None)
    return {key.replace("-", "_").upper(): value for key, value in carrier.items()}


def current_tracer() -> Tracer | None:
    """Return the tracer; None when OpenTelemetry is not imported."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    return trace.get_tracer(TRACER_NAME)


def parent_context() -> Context | None:
    """Return the context with the trace in ``TRACEPARENT``; None if the current span, if any, is to be the parent."""
    from opentelemetry import propagate, trace

    if trace.get_current_span().get_span_context().is_valid or "TRACEPARENT" not in os.environ:
        return None
    return propagate.extract({key: os.environ[key.upper()] for key in _CARRIED if key.upper() in os.environ})
