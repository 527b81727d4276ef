"""Flushing of spans and metrics with time limits, and a single warning when the collector does not respond.

OpenTelemetry's flush and shutdown exceed their timeouts, because they wait for all batches with all retries. Here they
run in threads that are abandoned at the time limit.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from floe_orchestrator_dagster.redaction import Redactor, secrets_in_header, secrets_in_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

# Total time that a process waits for a collector that does not respond, reset by each successful request.
_UNANSWERED_SECONDS = 1.5
# Maximum time of one wait for a collector that responds.
_LONGEST_WAIT_SECONDS = 10.0
_LONGEST_REASON = 300
_EXPORTERS = "opentelemetry.exporter"


@dataclass
class Destination:
    """State of the export of one kind of signal.

    Attributes:
        answered: Time (``time.monotonic``) of the last successful request.
        waited: Seconds that this process has waited since then.
        is_ours: Whether this package has set up the export. Otherwise it is unknown whether the collector responds.
    """

    answered: float = float("-inf")
    waited: float = 0.0
    is_ours: bool = True

    def record(self, *, success: bool) -> None:
        """Record the result of a request."""
        if success:
            self.answered, self.waited = time.monotonic(), 0.0

    def wait(self, thread: threading.Thread, started: float) -> None:
        """Wait for a thread that has been sending since ``started``, within the time limits."""
        while thread.is_alive() and (left := self._left(started)) > 0:
            thread.join(left)
        if self.answered < started:
            self.waited += time.monotonic() - started

    @property
    def may_wait(self) -> bool:
        """Whether the process may still wait for this collector."""
        return self.waited < _UNANSWERED_SECONDS

    def _left(self, started: float) -> float:
        now = time.monotonic()
        remaining = _UNANSWERED_SECONDS - self.waited - (now - max(started, self.answered))
        return min(remaining, started + _LONGEST_WAIT_SECONDS - now)


@dataclass
class Sending:
    """State of all exports of this process.

    Attributes:
        destinations: The destination of each signal that this package exports.
        reason: Why the last request failed or is retried; empty when none has failed.
        has_warned: Whether the warning was logged.
    """

    destinations: dict[str, Destination] = field(default_factory=dict)
    reason: str = ""
    has_warned: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def destination(self, signal: str) -> Destination:
        """Return the destination of a signal, and create it at the first call."""
        return self.destinations.setdefault(signal, Destination())

    def warn(self) -> None:
        """Log once per process that the collector does not accept signals."""
        with self._lock:
            if self.has_warned:
                return
            self.has_warned = True
        reason = " ".join(_redactor().redact(self.reason).split())[:_LONGEST_REASON] or "no answer"
        logger.warning(
            "OpenTelemetry: the collector does not accept spans and metrics (%s). They are dropped until it does; the "
            "run continues. Correct the endpoint, or set OTEL_SDK_DISABLED=true.",
            reason,
        )


sending = Sending()


class MonitoredExporter:
    """Mixin for an OpenTelemetry exporter that records the result of each request and logs the first failure."""

    signal: str
    failure: Any

    def export(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # the exporter's parameters
        """Export, and return a failure for an exception, because the SDK logs a traceback for each exception."""
        try:
            result = super().export(*arguments, **options)  # type: ignore[misc]  # the exporter's, after this mixin
        except Exception as error:  # noqa: BLE001  # any exception is a failure
            result, sending.reason = self.failure, f"{type(error).__name__}: {error}"
        success = result is not self.failure
        sending.destination(self.signal).record(success=success)
        if not success:
            sending.warn()
        return result


class _Reasons(logging.Handler):
    """Keeps the last message of an exporter as the reason of its failure."""

    def emit(self, record: logging.LogRecord) -> None:
        sending.reason = record.getMessage()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", _redactor().redact(sending.reason))


def _redactor() -> Redactor:
    """Return a redactor of the collector's headers and logins, which its response may repeat."""
    variables = [(name, text) for name, text in os.environ.items() if name.startswith("OTEL_EXPORTER_OTLP_")]
    headers = ",".join(text for name, text in variables if name.endswith("HEADERS")).split(",")
    in_headers = (secret for pair in headers for secret in secrets_in_header(unquote(pair.partition("=")[2])))
    in_urls = (secret for name, text in variables if name.endswith("ENDPOINT") for secret in secrets_in_url(text))
    return Redactor([*in_headers, *in_urls])


def keep_exporters_quiet() -> None:
    """Keep the messages of OpenTelemetry's exporters, several per failed request, out of this process's log."""
    exporters = logging.getLogger(_EXPORTERS)
    if not any(isinstance(handler, _Reasons) for handler in exporters.handlers):
        exporters.addHandler(_Reasons())
        exporters.propagate = False


def shut_down_at_exit(signal: str, shutdown: Callable[[], None]) -> None:
    """Shut a provider down when this process exits, within the time limits.

    Args:
        signal: ``traces`` or ``metrics``.
        shutdown: The provider's ``shutdown``.
    """
    exiting, destination = threading.Event(), sending.destination(signal)

    def run() -> None:
        exiting.wait()
        shutdown()

    # Started now, because an exiting interpreter cannot start threads.
    thread = threading.Thread(target=run, name=f"telemetry-{signal}", daemon=True)
    thread.start()

    def close() -> None:
        if destination.may_wait:
            started = time.monotonic()
            exiting.set()
            _wait(destination, thread, started)

    atexit.register(close)


def wait_for(flushes: Mapping[str, Callable[[], object]]) -> None:
    """Run the flushes of all signals concurrently, and wait for them within the time limits."""
    started = time.monotonic()
    threads = {
        signal: threading.Thread(target=flush, name=f"telemetry-{signal}", daemon=True)
        for signal, flush in flushes.items()
        if signal not in sending.destinations or sending.destination(signal).may_wait
    }
    for thread in threads.values():
        thread.start()
    for signal, thread in threads.items():
        # For a provider of another package, it is unknown whether the collector responds.
        _wait(sending.destinations.get(signal) or Destination(is_ours=False), thread, started)


def flush() -> None:
    """Send pending spans and metrics. A process waits only once, and briefly, for a collector that does not respond."""
    if "opentelemetry.sdk" not in sys.modules:
        return
    from opentelemetry import metrics, trace

    providers = {"traces": trace.get_tracer_provider(), "metrics": metrics.get_meter_provider()}
    wait_for(
        {signal: provider.force_flush for signal, provider in providers.items() if hasattr(provider, "force_flush")}
    )


def _wait(destination: Destination, thread: threading.Thread, started: float) -> None:
    destination.wait(thread, started)
    if destination.is_ours and thread.is_alive():
        sending.warn()
