"""Batched storage of Dagster's events in PostgreSQL while dbt runs.

Dagster's storage writes an event with two to five statements, each in a separate transaction. This module passes the
events to a thread, which collects them for a tenth of a second and writes them with one statement for their rows, and
one for the results of checks.

Any other use of the instance's event log waits until all earlier events are written. Starts and ends of steps and runs
are not batched: Dagster changes the status of a run as soon as it has stored the run's end.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

_BATCH_SECONDS = 0.1
_BATCH_SIZE = 200
# Methods of Dagster's storage that are replaced.
_STORE, _CONNECT = "store_event", "_connect"
# Lookups of tables and columns, which Dagster repeats for each read of a materialization. Their results are cached.
_LOOKUPS = ("has_table", "has_asset_key_col")
# Methods that this module calls.
_USED = ("_event_to_row", "store_asset_event", "store_asset_event_tags", "store_asset_check_event")
# Methods that `store_event` calls in the known versions of Dagster. If it calls another one, it does more than this
# module and is not replaced.
_KNOWN_CALLS = {
    *("prepare_insert_event", "_connect", "index_transaction", "_store_asset_event", "_store_asset_event_tags"),
    *("store_asset_event", "store_asset_event_tags", "store_asset_check_event"),
}
# Each event is notified, as in Dagster's `store_event`. Watchers of old versions of Dagster receive the notification.
_INSERT_EVENTS = """
with stored as (insert into event_logs ({columns}) values {rows} returning run_id, id)
select id, pg_notify('run_events', run_id || '_' || id) from stored
"""
# As in Dagster's `store_asset_check_event`, for results without a partition.
_UPDATE_CHECKS = """
update asset_check_executions as stored
set execution_status = result.status, evaluation_event = result.event, evaluation_event_timestamp = result.at,
    evaluation_event_storage_id = result.id, materialization_event_storage_id = result.target
from (values {rows}) as result (asset_key, check_name, run_id, status, event, at, id, target)
where stored.asset_key = result.asset_key and stored.check_name = result.check_name
    and stored.run_id = result.run_id and stored.partition is null
returning stored.asset_key, stored.check_name, stored.run_id
"""
_CHECK_ROW = "(%s, %s, %s, %s, %s, %s::timestamp, %s::bigint, %s::bigint)"
# Run and text identify an event, because its text contains its time. The lock waits for a statement that the server
# still executes although its connection was lost.
_FIND_EVENTS = """
lock table event_logs in share mode;
select run_id, event, id from event_logs where (run_id, event) in ({keys})
"""
# Kinds of events that are batched; None for messages of the run log.
_BATCHED = {
    None,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.HANDLED_OUTPUT,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ENGINE_EVENT,
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
        self._changed = threading.Condition()
        self._waiting: list[_Queued] = []
        self._is_writing = False
        self._is_awaited = False  # a thread waits for the events, so that the batch is written at once
        self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, name="events of dbt", daemon=True)
        self._thread.start()

    def store(self, event: dg.EventLogEntry) -> None:
        """Pass an event to the thread, or store it as Dagster does when all earlier events are written."""
        if _can_be_batched(event) and self._add(_Queued(event, self._storage._event_to_row(event))):  # noqa: SLF001
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

    def _add(self, queued: _Queued) -> bool:
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

    def _next_batch(self) -> Sequence[_Queued]:
        """Wait for an event, and then a tenth of a second for more. Return none when the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(self._is_batch_complete, _BATCH_SECONDS)
            batch, self._waiting = self._waiting, []
            self._is_writing = bool(batch)
        return batch

    def _is_batch_complete(self) -> bool:
        return self._is_awaited or self._is_closed or len(self._waiting) >= _BATCH_SIZE

    def _write(self, batch: Sequence[_Queued]) -> None:
        """Write events at once, or one by one if that fails; then the materializations and results among them."""
        ids = self._insert_batch(batch)
        for queued in batch:
            if queued not in ids:
                self._attempt(self._stock_store, queued.event)
        for queued, event_id in ids.items():
            if queued.kind is dg.DagsterEventType.ASSET_MATERIALIZATION:
                self._attempt(self._store_asset, queued.event, event_id)
        self._update_checks(
            {
                queued.check: (queued, event_id)
                for queued, event_id in ids.items()
                if queued.kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION
            }
        )

    def _insert_batch(self, batch: Sequence[_Queued]) -> Mapping[_Queued, int]:
        """Insert events in one statement, and return the ids of those that the server has stored."""
        try:
            ids = self._insert([queued.row for queued in batch])
        except Exception as error:  # noqa: BLE001  # as Dagster does when it cannot write a batch
            sys.stderr.write(f"Cannot write {len(batch)} events at once: {error}\n")
            return {} if _is_refusal(error) else self._find_stored(batch)
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

    def _find_stored(self, batch: Sequence[_Queued]) -> Mapping[_Queued, int]:
        """Return the ids of the events that the server has stored although the connection was lost."""
        keys = [(queued.row["run_id"], queued.row["event"]) for queued in batch]
        statement = _FIND_EVENTS.format(keys=", ".join(["(%s, %s)"] * len(keys)))
        with self._stock_connect() as connection:
            found = connection.exec_driver_sql(statement, tuple(value for key in keys for value in key))
            ids = {(run_id, event): int(event_id) for run_id, event, event_id in found}
        return {queued: ids[key] for queued, key in zip(batch, keys, strict=True) if key in ids}

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert rows in one statement, and return their ids."""
        columns = [*rows[0]]
        row = f"({', '.join(['%s'] * len(columns))})"
        statement = _INSERT_EVENTS.format(columns=", ".join(columns), rows=", ".join([row] * len(rows)))
        values = tuple(row[column] for row in rows for column in columns)
        with self._stock_connect() as connection:
            return [int(found[0]) for found in connection.exec_driver_sql(statement, values)]

    def _update_checks(self, latest: Mapping[tuple[str, str, str], tuple[_Queued, int]]) -> None:
        """Store the latest result of each check in the row of the planned check.

        Dagster's function stores the results that do not match exactly one row.
        """
        if not latest:
            return
        values = tuple(value for queued, event_id in latest.values() for value in queued.result(event_id))
        statement = _UPDATE_CHECKS.format(rows=", ".join([_CHECK_ROW] * len(latest)))
        updated = []
        try:
            with self._stock_connect() as connection:
                updated = [tuple(found) for found in connection.exec_driver_sql(statement, values)]
        except Exception as error:  # noqa: BLE001  # errors of a database; Dagster's function writes the same again
            sys.stderr.write(f"Cannot write {len(latest)} check results at once: {error}\n")
        for key, (queued, event_id) in latest.items():
            if updated.count(key) != 1:
                self._attempt(self._storage.store_asset_check_event, queued.event, event_id)


@dataclass(frozen=True, eq=False)
class _Queued:
    """An event to write.

    Attributes:
        event: The event.
        row: Its columns in the event log.
    """

    event: dg.EventLogEntry
    row: Mapping[str, Any]

    @property
    def kind(self) -> dg.DagsterEventType | None:
        """Kind of the event; None for a message."""
        return self.event.dagster_event_type

    @property
    def _evaluation(self) -> Any:  # noqa: ANN401  # the data of an event have no common class
        event: Any = self.event.dagster_event
        return event.event_specific_data

    @property
    def check(self) -> tuple[str, str, str]:
        """Key of the result's row: asset key, name of the check, and run."""
        evaluation = self._evaluation
        return evaluation.asset_key.to_string(), evaluation.check_name, self.event.run_id

    def result(self, event_id: int) -> tuple[Any, ...]:
        """Return the columns of a check's result, which refers to the event by its id."""
        evaluation = self._evaluation
        target = evaluation.target_materialization_data
        status = "SUCCEEDED" if evaluation.passed else "FAILED"
        target_id = target.storage_id if target else None
        return (*self.check, status, self.row["event"], self.row["timestamp"], event_id, target_id)


def _can_be_batched(event: dg.EventLogEntry) -> bool:
    kind = event.dagster_event_type if event.is_dagster_event else None
    if kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        # The statement for results does not compare partitions.
        dagster_event: Any = event.dagster_event
        return bool(event.run_id) and getattr(dagster_event.event_specific_data, "partition", None) is None
    return kind in _BATCHED


def _is_refusal(error: Exception) -> bool:
    """Return whether the server or the driver has refused a statement. Any other statement may have been executed."""
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and getattr(error.orig, "pgcode", None) is not None
    return isinstance(error, ValueError)  # the driver refuses a NUL character, which PostgreSQL cannot store
