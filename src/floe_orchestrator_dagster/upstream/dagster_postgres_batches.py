"""Storage of Dagster's events in PostgreSQL in batches while dbt runs.

Dagster's storage writes an event with two to five statements, each in a separate transaction. This module passes the
events to a thread, which collects them for a tenth of a second and writes them with one statement for their rows, and
one for the results of checks. Everything that uses the storage in this process waits until the events before it are
written.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

_STORE, _CONNECT = "store_event", "_connect"
_SECONDS = 0.1
_MAX_EVENTS = 200
# Lookups of tables and columns, which Dagster makes again for each read of a materialization.
_LOOKUPS = ("has_table", "has_asset_key_col")
_METHODS = ("_event_to_row", "store_asset_event", "store_asset_event_tags", "store_asset_check_event", *_LOOKUPS)
# Methods that Dagster's `store_event` calls, by its version. If it calls another one, it does more than this module.
_CALLED = {
    *("prepare_insert_event", "_connect", "index_transaction", "_store_asset_event", "_store_asset_event_tags"),
    *("store_asset_event", "store_asset_event_tags", "store_asset_check_event"),
}
# As in Dagster's `store_event`, a notification for each event, which watchers of old versions of Dagster receive.
_INSERT = """
with stored as (insert into event_logs ({columns}) values {rows} returning run_id, id)
select id, pg_notify('run_events', run_id || '_' || id) from stored
"""
# As in Dagster's `store_asset_check_event`, for results without a partition.
_UPDATE = """
update asset_check_executions as stored
set execution_status = result.status, evaluation_event = result.event, evaluation_event_timestamp = result.at,
    evaluation_event_storage_id = result.id, materialization_event_storage_id = result.target
from (values {rows}) as result (asset_key, check_name, run_id, status, event, at, id, target)
where stored.asset_key = result.asset_key and stored.check_name = result.check_name
    and stored.run_id = result.run_id and stored.partition is null
returning stored.asset_key, stored.check_name, stored.run_id
"""
_RESULT = "(%s, %s, %s, %s, %s, %s::timestamp, %s::bigint, %s::bigint)"


def _nothing() -> None:
    """Write nothing."""


@contextmanager
def batched_events(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """Store the events of an instance in batches inside the block; yields a function that waits until they are written.

    Without effect for event logs other than PostgreSQL's, for one that stores batches already, and when the patch is
    not active.
    """
    storage: Any = instance.event_log_storage  # the classes of storages are not public
    if not _is_known(storage):
        yield _nothing
        return
    writer = _Writer(storage)
    replaced = {_STORE: writer.store, _CONNECT: writer.connect} | {
        name: cache(getattr(storage, name)) for name in _LOOKUPS
    }
    vars(storage).update(replaced)
    try:
        yield writer.flush
    finally:
        try:
            writer.close()
        finally:
            for name in replaced:
                del vars(storage)[name]


def _is_known(storage: object) -> bool:
    if type(storage).__module__.partition(".")[0] != "dagster_postgres" or _STORE in vars(storage):
        return False
    return patches.is_active(patches.POSTGRES_BATCHES)


def find_problem() -> str | None:
    """Return why the function of Dagster cannot be replaced; None when it can, or when there is no such storage."""
    from importlib.util import find_spec

    if find_spec("dagster_postgres") is None:
        return None
    from dagster_postgres.event_log import PostgresEventLogStorage

    missing = [name for name in (_STORE, _CONNECT, *_METHODS) if not hasattr(PostgresEventLogStorage, name)]
    if missing:
        return f"PostgresEventLogStorage has no {', '.join(missing)}"
    names = {*PostgresEventLogStorage.store_event.__code__.co_names} - _CALLED
    unknown = [name for name in names if hasattr(PostgresEventLogStorage, name)]
    return f"PostgresEventLogStorage.store_event calls {', '.join(sorted(unknown))}" if unknown else None


class _Writer:
    """A thread that writes events, in the order in which they come.

    An interrupt of the main thread does not reach it: events are written once.
    """

    def __init__(self, storage: Any) -> None:  # noqa: ANN401  # its class is not public
        self._storage = storage
        self._stock_store, self._stock_connect = storage.store_event, getattr(storage, _CONNECT)
        self._changed = threading.Condition()
        self._waiting: list[_Stored] = []
        self._is_writing = self._is_due = self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, name="events of dbt", daemon=True)
        self._thread.start()

    def store(self, event: dg.EventLogEntry) -> None:
        """Pass an event to the thread. Store one that does not fit in a batch as Dagster does, after all before it."""
        if self._is_closed or not _fits_in_batch(event):
            self.flush()
            self._stock_store(event)
            return
        stored = _Stored(event, self._storage._event_to_row(event))  # noqa: SLF001
        with self._changed:
            self._raise_error()
            self._waiting.append(stored)
            if len(self._waiting) in {1, _MAX_EVENTS}:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all events are written.

        Raises:
            Exception: An event could not be written. Log messages that cannot be written raise no exception.
        """
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            self._is_due = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing))
            self._is_due = False
            self._raise_error()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection as Dagster does, after the events before it are written."""
        self.flush()
        with self._stock_connect() as connection:
            yield connection

    def close(self) -> None:
        """Write all events, and end the thread."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
            self._thread.join()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write_all(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001, PERF203  # errors of a database; raised where events are stored
                self._error = self._error or error
            finally:
                with self._changed:
                    self._is_writing = False
                    self._changed.notify_all()

    def _next_batch(self) -> Sequence[_Stored]:
        """Wait for events, and shortly for more; none when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(self._is_batch_complete, _SECONDS)
            batch, self._waiting = self._waiting, []
            self._is_writing = bool(batch)
        return batch

    def _is_batch_complete(self) -> bool:
        return self._is_due or self._is_closed or len(self._waiting) >= _MAX_EVENTS

    def _write(self, batch: Sequence[_Stored]) -> None:
        try:
            ids = self._insert([stored.row for stored in batch])
        except Exception as error:  # noqa: BLE001  # as Dagster does when it cannot write a batch
            sys.stderr.write(f"Cannot write {len(batch)} events at once: {error}\n")
            self._write_each(stored.event for stored in batch)
            return
        numbered = [*zip(batch, ids, strict=True)]
        for stored, number in numbered:
            if stored.event.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
                self._storage.store_asset_event(stored.event, number)
                self._storage.store_asset_event_tags([stored.event], [number])
        checks = [
            (stored, number)
            for stored, number in numbered
            if stored.event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ]
        self._update_checks(checks)

    def _write_each(self, events: Iterable[dg.EventLogEntry]) -> None:
        """Store events as Dagster does. An event that cannot be stored does not prevent the next ones."""
        for event in events:
            try:
                self._stock_store(event)
            except Exception as error:  # noqa: BLE001, PERF203  # errors of a database
                self._note_error(event, error)

    def _note_error(self, event: dg.EventLogEntry, error: Exception) -> None:
        """Keep the first error of an event. As in Dagster, a log message that cannot be stored is not an error."""
        if event.is_dagster_event:
            self._error = self._error or error
        else:
            sys.stderr.write(f"Cannot write a message to the event log: {error}\n")

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert rows in one statement, and return their ids."""
        columns = [*rows[0]]
        row = f"({', '.join(['%s'] * len(columns))})"
        statement = _INSERT.format(columns=", ".join(columns), rows=", ".join([row] * len(rows)))
        values = tuple(row[column] for row in rows for column in columns)
        with self._stock_connect() as connection:
            return [int(found[0]) for found in connection.exec_driver_sql(statement, values)]

    def _update_checks(self, checks: Sequence[tuple[_Stored, int]]) -> None:
        """Store check results in the rows of the planned checks; Dagster stores results that match no single row."""
        latest = {stored.check: (stored, number) for stored, number in checks}
        if not latest:
            return
        values = tuple(value for stored, number in latest.values() for value in stored.result(number))
        statement = _UPDATE.format(rows=", ".join([_RESULT] * len(latest)))
        with self._stock_connect() as connection:
            updated = [tuple(found) for found in connection.exec_driver_sql(statement, values)]
        for key, (stored, number) in latest.items():
            if updated.count(key) != 1:
                self._storage.store_asset_check_event(stored.event, number)


class _Stored:
    """An event and its row.

    Args:
        event: The event.
        row: Its columns in the event log.
    """

    def __init__(self, event: dg.EventLogEntry, row: Mapping[str, Any]) -> None:
        self.event, self.row = event, row

    @property
    def _evaluation(self) -> Any:  # noqa: ANN401  # the data of an event have no common class
        event: Any = self.event.dagster_event
        return event.event_specific_data

    @property
    def check(self) -> tuple[str, str, str]:
        """Key of the result's row: asset key, name of the check, and run."""
        evaluation = self._evaluation
        return evaluation.asset_key.to_string(), evaluation.check_name, self.event.run_id

    def result(self, number: int) -> tuple[Any, ...]:
        """Return the columns of the result of a check; ``number`` is the event's id."""
        evaluation = self._evaluation
        target = evaluation.target_materialization_data
        status = "SUCCEEDED" if evaluation.passed else "FAILED"
        target_id = target.storage_id if target else None
        return (*self.check, status, self.row["event"], self.row["timestamp"], number, target_id)


def _fits_in_batch(event: dg.EventLogEntry) -> bool:
    """Return whether an event is a message, a materialization, the result of a check, or belongs to no asset."""
    from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS

    kind = event.dagster_event_type if event.is_dagster_event else None
    if kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        data: Any = event.dagster_event
        return bool(event.run_id) and getattr(data.event_specific_data, "partition", None) is None
    return kind is dg.DagsterEventType.ASSET_MATERIALIZATION or kind not in {*ASSET_EVENTS, *ASSET_CHECK_EVENTS}
