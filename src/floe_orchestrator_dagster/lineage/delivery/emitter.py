"""Events of a run, on their way: stored first, sent by one background thread, waited for within a budget.

The one place that decides what a failure of lineage means: a warning, or with ``lineage.strict`` a failed step.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import LineageError, Problem, ProjectError
from floe_orchestrator_dagster.lineage.delivery.attempts import Delivery, Outcome
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend
from floe_orchestrator_dagster.lineage.delivery.delivery_log import Deliveries
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

    from floe_orchestrator_dagster.config.lineage import LineageConfig
    from floe_orchestrator_dagster.lineage.delivery.backends import Backend

_MEGABYTE = 1024 * 1024
# Left of the budget for noticing that it is over, and for closing.
_RESERVE_SECONDS = 0.5
# How long the request that is under way may still take when the emitter closes.
_LAST_REQUEST_SECONDS = 0.2


def emitter_for(
    artifacts: CompiledArtifacts, config: LineageConfig, *, run: str = "", log: logging.Logger | None = None
) -> LineageEmitter | None:
    """Make the emitter of a step; None when no lineage is to be sent.

    Args:
        artifacts: The product's contract.
        config: The section ``lineage`` of its configuration.
        run: Id of the Dagster run; what earlier steps of it left behind is sent first.
        log: Where warnings go.

    Raises:
        LineageError: With ``strict``, a configured backend that cannot be used, or no place for the spool. Otherwise
            events are stored for the day when the backend can be used; without a place for them nothing is sent.
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
    """Find where a product's events are kept.

    Raises:
        LineageError: It is below a home directory that is not known, as that of a container's user often is.
    """
    try:
        if config.spool_dir is None:
            return state_directory(product_name) / "lineage"
        place = config_path("lineage", "spool_dir")
        return user_path(config.spool_dir, place, ProjectError, "Write the path without `~`.") / product_name
    except ProjectError as error:
        raise LineageError(error.origin, error.problems) from None


class LineageEmitter:
    """Delivers events without ever failing or holding up whoever emits them; safe to use from several threads.

    Use it as a context manager, and :meth:`flush` at the step's end.
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
        """Prepare; files, connections and the thread are made with the first event.

        Args:
            backend: Where events go, or why they cannot go anywhere.
            directory: The product's spool directory.
            config: The section ``lineage`` of its configuration.
            run: Id of the Dagster run.
            log: Where warnings go.

        Raises:
            LineageError: With ``strict``, a backend that cannot be used.
        """
        self.directory = directory
        self.address = "its backend" if isinstance(backend, LineageError) else backend.shown
        self._config = config
        self._log = log or logging.getLogger(__name__)
        self._queue = EventQueue(Spool(directory, config.spool_max_mb * _MEGABYTE, run), directory, run)
        self._unusable = backend if isinstance(backend, LineageError) else None
        self._delivery: Delivery | None = None
        if not isinstance(backend, LineageError):
            try:
                self._sender = backend.open(config.timeout_seconds)
                self._delivery = Delivery(self._sender)
            except LineageError as error:
                if config.strict:
                    raise
                self._unusable = error
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._emitted = self._sent = self._refused = self._dropped = 0
        self._seconds_spent = 0.0
        self._trouble = ""
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
        """Store an event (or one that is JSON already) and have it sent; never raises, never waits for the backend.

        Returns:
            Whether it was stored: on disk, or in memory while the disk does not take it.
        """
        started = time.monotonic()
        warnings: list[str] = []
        stored = False
        with self._changed:
            self._emitted += 1
            try:
                if self._closing:
                    raise ValueError("the emitter is closed")  # noqa: TRY301  # told like every other fault
                warnings += self._queue.append(as_json_line(event))
                stored = True
            except Exception as error:  # noqa: BLE001  # whatever is wrong with an event, the run goes on
                self._dropped += 1
                self._trouble = f"an event was not stored ({type(error).__name__}: {error})"
            self._start()
            self._changed.notify_all()
            self._seconds_spent += time.monotonic() - started
        for warning in warnings:
            self._log.warning("%s", warning)
        return stored

    def deliveries(self) -> Deliveries:
        """Count what became of the events so far."""
        with self._changed:
            pending = self._emitted - self._sent - self._refused - self._dropped
            spooled = max(0, pending - self._queue.in_memory)
            return Deliveries(self._emitted, self._sent, self._refused, pending, spooled, self._dropped)

    def flush(self) -> Deliveries:
        """Wait until every event is delivered, at most for what is left of ``flush_seconds``.

        Returns earlier when the backend is down. What storing the events took is taken from the budget, half of it at
        most, so that a step is not held up for longer in all.

        Raises:
            LineageError: With ``strict``, when the backend has not accepted all events. Otherwise a warning says so.
        """
        budget = self._config.flush_seconds
        deadline = time.monotonic() + max(budget / 2, budget - self._seconds_spent - _RESERVE_SECONDS)
        with self._changed:
            if self._delivery is not None:
                self._delivery.try_now()
            attempts = self._delivery.attempts if self._delivery else 0
            if self._waits():
                self._start()
            self._changed.notify_all()
            while self._waits() and not self._hopeless(attempts, deadline):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        deliveries = self.deliveries()
        if not deliveries.complete:
            self._report(deliveries)
        return deliveries

    def close(self) -> None:
        """Stop sending; what is not delivered stays in the spool. May be called more than once."""
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
                "Lineage: %d events are lost: %s did not take them and %s could not keep them.",
                lost,
                self.address,
                self.directory,
            )

    def _start(self) -> None:
        """Start the background thread, or another one when it has died: a fork has none, a transport may end it."""
        running = self._thread is not None and self._thread.is_alive()
        if not running and self._delivery is not None and not self._closing:
            self._thread = threading.Thread(target=self._send_all, name="lineage", daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        """Send what waits until the emitter closes; runs in the background thread."""
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
            outcome, own = self._queue.attempt(delivery)
        except Exception as error:  # noqa: BLE001  # the thread has to go on, or nothing is sent any more
            outcome, own = Outcome.FAILED, False
            delivery.postpone(f"the spool cannot be read or written ({type(error).__name__}: {error})")
        with self._changed:
            if own:
                self._sent += outcome in {Outcome.SENT, Outcome.REFUSED_AND_SENT}
                self._refused += outcome in {Outcome.REFUSED, Outcome.REFUSED_AND_SENT}
                self._dropped += outcome is Outcome.LOST
            self._changed.notify_all()
        if outcome is Outcome.FAILED:
            self._queue.sync()
        elif outcome is Outcome.NOTHING_WAITS:
            delivery.postpone("events that should wait are not there")

    def _waits(self) -> bool:
        return self._emitted > self._sent + self._refused + self._dropped

    def _due(self, delivery: Delivery) -> bool:
        return self._waits() and time.monotonic() >= delivery.retry_at

    def _pause(self, delivery: Delivery) -> float | None:
        return max(0.0, delivery.retry_at - time.monotonic()) if self._waits() else None

    def _hopeless(self, attempts: int, deadline: float) -> bool:
        """Whether waiting makes no sense: the backend is down, or wants to be left alone for longer."""
        delivery = self._delivery
        if delivery is None:
            return True
        return delivery.retry_at > deadline or (delivery.down and delivery.attempts > attempts)

    def _report(self, deliveries: Deliveries) -> None:
        """Say what did not arrive: as an error with ``strict``, else as a warning."""
        what = f"{deliveries.emitted - deliveries.sent} of {deliveries.emitted} events did not reach {self.address}"
        reasons = [self._delivery.reason if self._delivery else "", self._trouble]
        reason = "; ".join(text for text in reasons if text)
        where = deliveries.whereabouts(self.directory)
        problem = f"{what}: {where}" + (f" ({reason})" if reason else "")
        fix = "The code location's lineage sensor sends what waits; `floe-dagster lineage replay` does it at once."
        problems = [Problem("", problem, fix), *(self._unusable.problems if self._unusable else ())]
        if self._config.strict:
            origin = f"OpenLineage ({config_path('lineage', 'strict')} is true)"
            raise LineageError(origin, problems)
        self._log.warning("Lineage: %s", "\n  ".join(str(found) for found in problems))
