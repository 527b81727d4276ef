"""Batched storage of Dagster's events in PostgreSQL while dbt runs.

Dagster's storage writes an event with two to five statements, each in a separate transaction. This module passes the
events to a thread, which collects them for a tenth of a second and writes them with one statement for their rows, and
one each for the results of checks and for observed assets (``dagster_postgres_rows.py``).

Any other use of the instance's event log waits until all earlier events are written. Starts and ends of steps and runs
are not batched: Dagster changes the status of a run as soon as it has stored the run's end.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches
from floe_orchestrator_dagster.upstream.dagster_postgres_rows import (
    USED_METHODS,
    EventStatements,
    QueuedEvent,
    can_be_batched,
    is_refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

_MATERIALIZATION, _OBSERVATION = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION
_BATCH_SECONDS = 0.1
_BATCH_SIZE = 200
# Methods of Dagster's storage that are replaced.
_STORE, _CONNECT = "store_event", "_connect"
# Lookups of tables and columns, which Dagster repeats for each read of a materialization. Their results are cached.
_LOOKUPS = ("has_table", "has_asset_key_col")
# Methods that this module calls.
_USED = (*USED_METHODS, "store_asset_event", "store_asset_event_tags", "store_asset_check_event")
# Methods that `store_event` calls in the known versions of Dagster. If it calls another one, it does more than this
# module and is not replaced.
_KNOWN_CALLS = {
    *("prepare_insert_event", "_connect", "index_transaction", "_store_asset_event", "_store_asset_event_tags"),
    *("store_asset_event", "store_asset_event_tags", "store_asset_check_event"),
}


@contextmanager
def batched_events(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """Store the events of an instance in batches inside the block, and yield a function that waits for their storage.

    Without effect for event logs other than PostgreSQL's, for one that stores batches already, and when the patch is
    not active.

    Raises:
        Exception: An event could not be written. The yielded function raises it, and so does the end of the block.
            Messages that cannot be written raise no exception, as in Dagster.
    """
    storage: Any = instance.event_log_storage  # the classes of storages are not public
    if not _is_known(storage):
        yield _do_nothing
        return
    writer = _Writer(storage)
    lookups = {name: cache(getattr(storage, name)) for name in _LOOKUPS}
    replaced = {_STORE: writer.store, _CONNECT: writer.connect, **lookups}
    vars(storage).update(replaced)
    try:
        yield writer.flush
    finally:
        try:
            writer.close()
        finally:
            # `store_event` last: while it is replaced, no other block replaces functions.
            for name in reversed(replaced):
                del vars(storage)[name]


def find_problem() -> str | None:
    """Return the reason why Dagster's functions cannot be replaced; None when they can, or without dagster-postgres."""
    from importlib.util import find_spec

    if find_spec("dagster_postgres") is None:
        return None
    from dagster_postgres.event_log import PostgresEventLogStorage

    missing = [name for name in (_STORE, _CONNECT, *_USED, *_LOOKUPS) if not hasattr(PostgresEventLogStorage, name)]
    if missing:
        return f"PostgresEventLogStorage has no {', '.join(missing)}"
    names = {*PostgresEventLogStorage.store_event.__code__.co_names} - _KNOWN_CALLS
    unknown = sorted(name for name in names if hasattr(PostgresEventLogStorage, name))
    return f"PostgresEventLogStorage.store_event calls {', '.join(unknown)}" if unknown else None


def _is_known(storage: object) -> bool:
    """Return whether the storage is PostgreSQL's and stores no batches yet, and the patch is active."""
    if type(storage).__module__.partition(".")[0] != "dagster_postgres" or _STORE in vars(storage):
        return False
    return patches.is_active(patches.POSTGRES_BATCHES)


def _do_nothing() -> None:
    """Do nothing: Dagster has written all events."""


class _Writer:
    """A thread that writes events in their order.

    An interrupt of the main thread does not interrupt a statement here. Therefore no event is written twice.
    """

    def __init__(self, storage: Any) -> None:  # noqa: ANN401  # its class is not public
        self._storage = storage
        self._stock_store, self._stock_connect = storage.store_event, getattr(storage, _CONNECT)
        self._statements = EventStatements(storage, self._stock_connect)
        self._changed = threading.Condition()
        self._waiting: list[QueuedEvent] = []
        self._is_writing = False
        self._is_awaited = False  # a thread waits for the events, so that the batch is written at once
        self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, name="events of dbt", daemon=True)
        self._thread.start()

    def store(self, event: dg.EventLogEntry) -> None:
        """Pass an event to the thread, or store it as Dagster does when all earlier events are written."""
        if can_be_batched(event) and self._add(QueuedEvent(event, self._storage._event_to_row(event))):  # noqa: SLF001
            return
        self._wait()
        self._stock_store(event)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection as Dagster does when all earlier events are written."""
        self._wait()
        with self._stock_connect() as connection:
            yield connection

    def flush(self) -> None:
        """Wait until all events are written.

        Raises:
            Exception: An event could not be written.
        """
        self._wait()
        self._raise_error()

    def close(self) -> None:
        """Write all events, and end the thread.

        Raises:
            Exception: An event could not be written, also if ``flush`` has raised the error.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        try:
            self._thread.join()
        finally:
            self._thread.join()  # again, because an interrupt ends the first wait
        self._raise_error()

    def _add(self, queued: QueuedEvent) -> bool:
        """Add an event to the next batch. Return False if the writer is closed."""
        with self._changed:
            if self._is_closed:
                return False
            self._waiting.append(queued)
            if len(self._waiting) in {1, _BATCH_SIZE}:
                self._changed.notify_all()
            return True

    def _wait(self) -> None:
        """Wait until all events are written. The thread itself does not wait when it opens a connection to write."""
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            self._is_awaited = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing))
            self._is_awaited = False

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _write_all(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001, PERF203  # errors of a database; raised by `flush`, `close`
                self._error = self._error or error
            finally:
                with self._changed:
                    self._is_writing = False
                    self._changed.notify_all()

    def _next_batch(self) -> Sequence[QueuedEvent]:
        """Wait for an event, and then a tenth of a second for more. Return none when the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(self._is_batch_complete, _BATCH_SECONDS)
            batch, self._waiting = self._waiting, []
            self._is_writing = bool(batch)
        return batch

    def _is_batch_complete(self) -> bool:
        return self._is_awaited or self._is_closed or len(self._waiting) >= _BATCH_SIZE

    def _write(self, batch: Sequence[QueuedEvent]) -> None:
        """Write events at once, or one by one if that fails; then the materializations and results among them."""
        ids = self._insert_batch(batch)
        for queued in batch:
            if queued not in ids:
                self._attempt(self._stock_store, queued.event)
        for queued, event_id in ids.items():
            if queued.kind is _MATERIALIZATION:
                self._attempt(self._store_asset, queued.event, event_id)
        self._store_observed(ids)
        self._update_checks(
            {
                queued.check: (queued, event_id)
                for queued, event_id in ids.items()
                if queued.kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION
            }
        )

    def _insert_batch(self, batch: Sequence[QueuedEvent]) -> Mapping[QueuedEvent, int]:
        """Insert events in one statement, and return the ids of those that the server has stored."""
        try:
            ids = self._statements.insert([queued.row for queued in batch])
        except Exception as error:  # noqa: BLE001  # as Dagster does when it cannot write a batch
            sys.stderr.write(f"Cannot write {len(batch)} events at once: {error}\n")
            return {} if is_refusal(error) else self._statements.find_stored(batch)
        return dict(zip(batch, sorted(ids), strict=True))

    def _attempt(self, function: Callable[..., None], event: dg.EventLogEntry, *arguments: object) -> None:
        """Call a function for an event. Keep the first error, and continue: other events are written nevertheless."""
        try:
            function(event, *arguments)
        except Exception as error:  # noqa: BLE001  # errors of a database
            if event.is_dagster_event:
                self._error = self._error or error
            else:  # as in Dagster
                sys.stderr.write(f"Cannot write a message to the event log: {error}\n")

    def _store_asset(self, event: dg.EventLogEntry, event_id: int) -> None:
        """Store a materialization as the latest one of its asset, and its tags."""
        self._storage.store_asset_event(event, event_id)
        self._storage.store_asset_event_tags([event], [event_id])

    def _update_checks(self, latest: Mapping[tuple[str, str, str], tuple[QueuedEvent, int]]) -> None:
        """Store the latest result of each check. Dagster's function stores those that do not match exactly one row."""
        if not latest:
            return
        updated: list[tuple[Any, ...]] = []
        try:
            updated = self._statements.update_checks(latest)
        except Exception as error:  # noqa: BLE001  # errors of a database; Dagster's function writes the same again
            sys.stderr.write(f"Cannot write {len(latest)} check results at once: {error}\n")
        for key, (queued, event_id) in latest.items():
            if updated.count(key) != 1:
                self._attempt(self._storage.store_asset_check_event, queued.event, event_id)

    def _store_observed(self, ids: Mapping[QueuedEvent, int]) -> None:
        """Store observations as the latest event of their assets, and their tags."""
        observed = {queued: event_id for queued, event_id in ids.items() if queued.kind is _OBSERVATION}
        if not observed:
            return
        latest = {queued.asset: queued for queued in ids if queued.kind in {_OBSERVATION, _MATERIALIZATION}}
        events = [queued.event for queued in observed]
        try:
            self._statements.store_observed({one: ids[one] for one in latest.values() if one.kind is _OBSERVATION})
            self._storage.store_asset_event_tags(events, [*observed.values()])
        except Exception as error:  # noqa: BLE001  # errors of a database
            self._error = self._error or error
