"""Spans around operations, called ``floe.orchestrator.dagster.<operation>``.

OpenTelemetry is used when somebody else has imported it already. Who has not cannot have set a tracer provider, so
there is nobody to record for, and importing it would cost more than all that is measured here.
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

# As floe-core cuts the messages of its own spans.
_LONGEST_MESSAGE = 500
TRACER_NAME = "floe.orchestrator.dagster"

NAMESPACE = "floe.namespace"
NO_NAMESPACE = "default"  # as floe's compiler calls it
_MODE = "floe.mode"
_PRODUCT_KEYS = (NAMESPACE, "floe.product.name", "floe.product.version", _MODE)
_MODES = {"dev": "dev", "development": "dev", "staging": "staging", "prod": "prod", "production": "prod"}
_CARRIED = ("traceparent", "tracestate", "baggage")


class Operation:
    """What is being done; takes notes for its span, which is not there when nobody records."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def describe(self, attributes: Attributes) -> None:
        """Add attributes to the span."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def failed(self, message: str, error: str = "") -> None:
        """Say that it did not succeed, in floe's way: status, type and message, without secrets or stack."""
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
def operation(name: str, attributes: Attributes | None = None, began: int | None = None) -> Iterator[Operation]:
    """Trace what is done inside; an error that leaves it is recorded.

    Args:
        name: Name of the operation, such as ``connection.check``.
        attributes: Attributes of the span; :func:`product_attributes` where a product is known.
        began: When it began, in nanoseconds since the epoch; now when left out.
    """
    tracer = current_tracer()
    if tracer is None:
        yield _UNRECORDED
        return
    with tracer.start_as_current_span(
        f"{TRACER_NAME}.{name}",
        context=parent_context(),
        attributes={NAMESPACE: NO_NAMESPACE, **(attributes or {})},
        start_time=began,
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
    """Trace the load of a product, of which the beginning is over before it is known where spans go.

    Args:
        export: Prepares the export; called with the product's settings, or with None when the product cannot be read.

    Yields:
        To be called with the product's settings, once they are known.
    """
    began = time.time_ns()
    known: list[TelemetryConfig | None] = []
    with ExitStack() as stack:

        def is_of(config: TelemetryConfig | None) -> None:
            known.append(config)
            if export is not None:
                export(config)
            stack.enter_context(operation("load", product_attributes(config), began))

        try:
            yield is_of
        except Exception:
            if not known:
                is_of(None)
            raise


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Trace every call of a function as the operation ``name``."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with operation(name):
                return function(*args, **kwargs)

        return call

    return decorate


def product_attributes(config: TelemetryConfig | None) -> dict[str, str]:
    """Make the attributes that floe wants on every span: namespace, product, version and mode.

    The compiler writes the mode ``dev`` always; ``FLOE_ENV`` says what it is at run time.
    """
    if config is None:
        return {}
    declared = config.resource_attributes.to_otel_dict()
    attributes = {key: declared[key] for key in _PRODUCT_KEYS}
    return {**attributes, _MODE: _MODES.get(os.environ.get("FLOE_ENV", "").lower(), attributes[_MODE])}


def trace_environment(span: Span | None = None) -> dict[str, str]:
    """Make the variables that carry the trace to a process: ``TRACEPARENT`` and others; empty without a trace.

    https://opentelemetry.io/docs/specs/otel/context/env-carriers/
    """
    if current_tracer() is None:
        return {}
    from opentelemetry import propagate
    from opentelemetry.trace import set_span_in_context

    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=set_span_in_context(span) if span else None)
    return {key.replace("-", "_").upper(): value for key, value in carrier.items()}


def current_tracer() -> Tracer | None:
    """Find the tracer; None when nobody can be recording."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    return trace.get_tracer(TRACER_NAME)


def parent_context() -> Context | None:
    """Find what a span belongs to: the current span (None says so), else the trace of whoever started this process."""
    from opentelemetry import propagate, trace

    if trace.get_current_span().get_span_context().is_valid or "TRACEPARENT" not in os.environ:
        return None
    return propagate.extract({key: os.environ[key.upper()] for key in _CARRIED if key.upper() in os.environ})
