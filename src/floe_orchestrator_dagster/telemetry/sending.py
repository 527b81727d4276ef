"""Bounded waits for spans and metrics to be sent, and one warning when the collector cannot be reached.

OpenTelemetry's flush and shutdown take time limits and do not keep them: each waits for as many requests as there are
batches, with all retries. Here they run in threads that are left behind when the time is up.
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

# In all that a process is held up by a collector that takes nothing; it starts again once the collector answers.
_PATIENCE_SECONDS = 1.5
# One wait for a collector that does answer, batch by batch.
_LONGEST_WAIT_SECONDS = 10.0
_LONGEST_REASON = 300
_EXPORTERS = "opentelemetry.exporter"


@dataclass
class Destination:
    """How sending one kind of signal goes.

    Attributes:
        answered: The instant (``time.monotonic``) of the last request that succeeded.
        held_up: Seconds that this process has waited since then.
        is_ours: Whether this package has set up the export; else nobody knows whether the collector answers.
    """

    answered: float = float("-inf")
    held_up: float = 0.0
    is_ours: bool = True

    def note(self, *, success: bool) -> None:
        """Note how a request ended."""
        if success:
            self.answered, self.held_up = time.monotonic(), 0.0

    def wait(self, thread: threading.Thread, started: float) -> None:
        """Wait for what sends in a thread since ``started``, as long as the collector answers or is given time."""
        while thread.is_alive() and (left := self._left(started)) > 0:
            thread.join(left)
        if self.answered < started:
            self.held_up += time.monotonic() - started

    @property
    def has_patience(self) -> bool:
        """Whether waiting makes sense."""
        return self.held_up < _PATIENCE_SECONDS

    def _left(self, started: float) -> float:
        now = time.monotonic()
        patience = _PATIENCE_SECONDS - self.held_up - (now - max(started, self.answered))
        return min(patience, started + _LONGEST_WAIT_SECONDS - now)


@dataclass
class Sending:
    """What this process sends.

    Attributes:
        destinations: Of each signal that this package exports.
        reason: Why the last request failed, or is tried again; empty when none did.
        has_warned: Whether that was logged.
    """

    destinations: dict[str, Destination] = field(default_factory=dict)
    reason: str = ""
    has_warned: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def destination(self, signal: str) -> Destination:
        """Return the destination of a signal, which is known once something is exported there."""
        return self.destinations.setdefault(signal, Destination())

    def warn(self) -> None:
        """Log that the collector takes nothing; once in a process."""
        with self._lock:
            if self.has_warned:
                return
            self.has_warned = True
        reason = " ".join(_redactor().redact(self.reason).split())[:_LONGEST_REASON] or "no answer"
        logger.warning(
            "OpenTelemetry: the collector does not take spans and metrics (%s). They are dropped until it does; the "
            "run goes on. Correct the endpoint, or set OTEL_SDK_DISABLED=true.",
            reason,
        )


sending = Sending()


class Watched:
    """Mixin for an OpenTelemetry exporter: notes whether the collector answers, and logs the first failure."""

    signal: str
    failure: Any

    def export(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # the exporter's own
        """Export; an exception is returned as a failure, which the SDK would log with its traceback each time."""
        try:
            result = super().export(*arguments, **options)  # type: ignore[misc]  # the exporter's, after this mixin
        except Exception as error:  # noqa: BLE001  # as the docstring says
            result, sending.reason = self.failure, f"{type(error).__name__}: {error}"
        success = result is not self.failure
        sending.destination(self.signal).note(success=success)
        if not success:
            sending.warn()
        return result


class _Reasons(logging.Handler):
    """Keeps what an exporter logs, as the reason of the failure that it returns then."""

    def emit(self, record: logging.LogRecord) -> None:
        sending.reason = record.getMessage()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", _redactor().redact(sending.reason))


def _redactor() -> Redactor:
    """Mask the operator's headers and addresses of the collector, which may repeat them in its answer."""
    variables = [(name, text) for name, text in os.environ.items() if name.startswith("OTEL_EXPORTER_OTLP_")]
    headers = ",".join(text for name, text in variables if name.endswith("HEADERS")).split(",")
    in_headers = (secret for pair in headers for secret in secrets_in_header(unquote(pair.partition("=")[2])))
    in_urls = (secret for name, text in variables if name.endswith("ENDPOINT") for secret in secrets_in_url(text))
    return Redactor([*in_headers, *in_urls])


def keep_exporters_quiet() -> None:
    """Take what OpenTelemetry's exporters log out of this process's log: each failed request is a line or more."""
    exporters = logging.getLogger(_EXPORTERS)
    if not any(isinstance(handler, _Reasons) for handler in exporters.handlers):
        exporters.addHandler(_Reasons())
        exporters.propagate = False


def shut_down_at_exit(signal: str, shutdown: Callable[[], None]) -> None:
    """Shut a provider down when this process exits, within the time that the collector has left.

    Args:
        signal: ``traces`` or ``metrics``.
        shutdown: The provider's.
    """
    exiting, destination = threading.Event(), sending.destination(signal)

    def run() -> None:
        exiting.wait()
        shutdown()

    # Started now: an interpreter that exits starts no threads.
    thread = threading.Thread(target=run, name=f"telemetry-{signal}", daemon=True)
    thread.start()

    def close() -> None:
        if destination.has_patience:
            started = time.monotonic()
            exiting.set()
            _wait(destination, thread, started)

    atexit.register(close)


def wait_for(flushes: Mapping[str, Callable[[], object]]) -> None:
    """Run flushes at the same time, by signal, and wait for them within the time that their collector has left."""
    started = time.monotonic()
    threads = {
        signal: threading.Thread(target=flush, name=f"telemetry-{signal}", daemon=True)
        for signal, flush in flushes.items()
        if signal not in sending.destinations or sending.destination(signal).has_patience
    }
    for thread in threads.values():
        thread.start()
    for signal, thread in threads.items():
        # A provider that somebody else has set up: whether its collector answers is not known.
        _wait(sending.destinations.get(signal) or Destination(is_ours=False), thread, started)


def flush() -> None:
    """Send what was recorded; a process waits once, for a moment, for a collector that takes nothing."""
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
