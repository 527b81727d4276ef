"""Emitter of a step's lineage events: stores each event, sends it in a background thread, flushes within a time budget.

A failure is a warning, or with ``lineage.strict`` an error that fails the step.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import LineageError, Problem, ProjectError
from floe_orchestrator_dagster.lineage.delivery.attempts import AttemptResult, Deliveries, Delivery
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend
from floe_orchestrator_dagster.lineage.delivery.event_queue import EventQueue
from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line
from floe_orchestrator_dagster.lineage.delivery.spool import Spool
from floe_orchestrator_dagster.product.files import user_path
from floe_orchestrator_dagster.product.project import state_directory

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts
    from openlineage.client.event_v2 import RunEvent
    from typing_extensions import Self

    from floe_orchestrator_dagster.config.models import LineageConfig
    from floe_orchestrator_dagster.lineage.delivery.backends import Backend

_MEGABYTE = 1024 * 1024
# Part of the budget that is reserved for the end of the flush and for closing.
_RESERVE_SECONDS = 0.5
# Time for the current request to end when the emitter closes.
_LAST_REQUEST_SECONDS = 0.2


def emitter_for(
    artifacts: CompiledArtifacts, config: LineageConfig, *, run: str = "", log: logging.Logger | None = None
) -> LineageEmitter | None:
    """Create the emitter of a step; None when lineage is disabled.

    Without ``strict``, events are stored if the backend cannot be used, and dropped if the spool directory is unknown.

    Args:
        artifacts: The product's contract.
        config: The section ``lineage`` of its configuration.
        run: Id of the Dagster run. Pending events of its earlier steps are sent first.
        log: Logger for warnings.

    Raises:
        LineageError: With ``strict``: the configured backend cannot be used, or the spool directory is unknown.
    """
    if not config.enabled:
        return None
    try:
        directory = spool_directory(artifacts.metadata.product_name, config)
    except LineageError as error:
        if config.strict:
            raise
        (log or logging.getLogger(__name__)).warning("Lineage is not sent: %s", error)
        return None
    try:
        backend = find_backend(artifacts)
    except LineageError as error:
        if config.strict:
            raise
        return LineageEmitter(error, directory, config, run=run, log=log)
    return None if backend is None else LineageEmitter(backend, directory, config, run=run, log=log)


def spool_directory(product_name: str, config: LineageConfig) -> Path:
    """Return the directory for a product's undelivered events.

    Raises:
        LineageError: The home directory is unknown, as is common for users of containers.
    """
    try:
        if config.spool_dir is None:
            return state_directory(product_name) / "lineage"
        place = config_path("lineage", "spool_dir")
        return user_path(config.spool_dir, place, ProjectError, "Write the path without `~`.") / product_name
    except ProjectError as error:
        raise LineageError(error.origin, error.problems) from None


class LineageEmitter:
    """Delivers events. :meth:`emit` neither raises nor waits for the backend. Thread-safe.

    Use it as a context manager, and call :meth:`flush` at the end of the step.
    """

    def __init__(
        self,
        backend: Backend | LineageError,
        directory: Path,
        config: LineageConfig,
        *,
        run: str = "",
        log: logging.Logger | None = None,
    ) -> None:
        """Prepare the emitter. Files, connections and the thread are created with the first event.

        Args:
            backend: The backend, or the reason why it cannot be used.
            directory: The product's spool directory.
            config: The section ``lineage`` of its configuration.
            run: Id of the Dagster run.
            log: Logger for warnings.

        Raises:
            LineageError: With ``strict``: the backend cannot be used.
        """
        self.directory = directory
        self.address = "its backend" if isinstance(backend, LineageError) else backend.shown
        self._config = config
        self._log = log or logging.getLogger(__name__)
        self._queue = EventQueue(Spool(directory, config.spool_max_mb * _MEGABYTE, run), directory, run)
        self._backend_error = backend if isinstance(backend, LineageError) else None
        self._delivery: Delivery | None = None
        if not isinstance(backend, LineageError):
            try:
                self._sender = backend.open(config.timeout_seconds)
                self._delivery = Delivery(self._sender)
            except LineageError as error:
                if config.strict:
                    raise
                self._backend_error = error
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._emitted = self._sent = self._refused = self._dropped = 0
        self._seconds_spent = 0.0
        self._failure = ""
        self._closing = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def emit(self, event: RunEvent | bytes) -> bool:
        """Store an event for the background thread to send. Never raises, never waits for the backend.

        Args:
            event: openlineage's event object, or an event as JSON.

        Returns:
            Whether the event was stored, on disk or in memory.
        """
        started = time.monotonic()
        warnings: list[str] = []
        stored = False
        with self._changed:
            self._emitted += 1
            try:
                if self._closing:
                    raise ValueError("the emitter is closed")  # noqa: TRY301  # reported like other failures
                warnings += self._queue.append(as_json_line(event))
                stored = True
            except Exception as error:  # noqa: BLE001  # no event may fail the run
                self._dropped += 1
                self._failure = f"an event was not stored ({type(error).__name__}: {error})"
            self._start()
            self._changed.notify_all()
            self._seconds_spent += time.monotonic() - started
        for warning in warnings:
            self._log.warning("%s", warning)
        return stored

    def deliveries(self) -> Deliveries:
        """Count the events so far by their state of delivery."""
        with self._changed:
            pending = self._emitted - self._sent - self._refused - self._dropped
            spooled = max(0, pending - self._queue.in_memory)
            return Deliveries(self._emitted, self._sent, self._refused, pending, spooled, self._dropped)

    def flush(self) -> Deliveries:
        """Wait until every event is delivered, for at most ``flush_seconds``.

        The method returns earlier when the backend is down. The time that :meth:`emit` has spent reduces the budget, by
        at most half, so that lineage delays a step by ``flush_seconds`` in total.

        Raises:
            LineageError: With ``strict``: the backend has not accepted all events. Without it, a warning is logged.
        """
        budget = self._config.flush_seconds
        deadline = time.monotonic() + max(budget / 2, budget - self._seconds_spent - _RESERVE_SECONDS)
        with self._changed:
            if self._delivery is not None:
                self._delivery.try_now()
            attempts = self._delivery.attempts if self._delivery else 0
            if self._has_pending():
                self._start()
            self._changed.notify_all()
            while self._has_pending() and not self._cannot_finish(attempts, deadline):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        deliveries = self.deliveries()
        if not deliveries.complete:
            self._report(deliveries)
        return deliveries

    def close(self) -> None:
        """Stop sending; undelivered events stay in the spool. May be called several times."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LAST_REQUEST_SECONDS)
        with self._changed:
            lost = self._queue.close()
            self._dropped += lost
        if lost:
            self._log.error(
                "Lineage: %d events are lost: %s did not accept them and %s could not store them.",
                lost,
                self.address,
                self.directory,
            )

    def _start(self) -> None:
        """Start the background thread, also again after a fork of the process or an exception in a transport."""
        running = self._thread is not None and self._thread.is_alive()
        if not running and self._delivery is not None and not self._closing:
            self._thread = threading.Thread(target=self._send_all, name="lineage", daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        """Send pending events until the emitter closes; runs in the background thread."""
        delivery = self._delivery
        if delivery is None:
            return
        while True:
            with self._changed:
                while not self._closing and not self._due(delivery):
                    self._changed.wait(self._pause(delivery))
                if self._closing:
                    break
            self._attempt(delivery)
        self._sender.close()

    def _attempt(self, delivery: Delivery) -> None:
        try:
            result, own = self._queue.attempt(delivery)
        except Exception as error:  # noqa: BLE001  # an exception must not end the thread
            result, own = AttemptResult.FAILED, False
            delivery.postpone(f"the spool cannot be read or written ({type(error).__name__}: {error})")
        with self._changed:
            if own:
                self._sent += result in {AttemptResult.SENT, AttemptResult.REFUSED_AND_SENT}
                self._refused += result in {AttemptResult.REFUSED, AttemptResult.REFUSED_AND_SENT}
                self._dropped += result is AttemptResult.LOST
            self._changed.notify_all()
        if result is AttemptResult.FAILED:
            self._queue.sync()
        elif result is AttemptResult.QUEUE_EMPTY:
            delivery.postpone("pending events are missing from the spool")

    def _has_pending(self) -> bool:
        return self._emitted > self._sent + self._refused + self._dropped

    def _due(self, delivery: Delivery) -> bool:
        return self._has_pending() and time.monotonic() >= delivery.retry_at

    def _pause(self, delivery: Delivery) -> float | None:
        return max(0.0, delivery.retry_at - time.monotonic()) if self._has_pending() else None

    def _cannot_finish(self, attempts: int, deadline: float) -> bool:
        """Return whether a flush should give up: the backend is down, or requested a pause beyond the deadline."""
        delivery = self._delivery
        if delivery is None:
            return True
        return delivery.retry_at > deadline or (delivery.down and delivery.attempts > attempts)

    def _report(self, deliveries: Deliveries) -> None:
        """Report undelivered events: raise an error with ``strict``, else log a warning."""
        what = f"{deliveries.emitted - deliveries.sent} of {deliveries.emitted} events did not reach {self.address}"
        reasons = [self._delivery.reason if self._delivery else "", self._failure]
        reason = "; ".join(text for text in reasons if text)
        where = deliveries.locations(self.directory)
        problem = f"{what}: {where}" + (f" ({reason})" if reason else "")
        fix = "The code location's lineage sensor sends them later; `floe-dagster lineage replay` sends them now."
        problems = [Problem("", problem, fix), *(self._backend_error.problems if self._backend_error else ())]
        if self._config.strict:
            origin = f"OpenLineage ({config_path('lineage', 'strict')} is true)"
            raise LineageError(origin, problems)
        self._log.warning("Lineage: %s", "\n  ".join(str(found) for found in problems))
