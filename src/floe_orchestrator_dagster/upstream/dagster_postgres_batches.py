"""Storage of Dagster's events in PostgreSQL in batches while dbt runs.

Dagster's storage writes an event with two to five statements, each in a separate transaction. This module passes the
events to a thread, which collects them for a tenth of a second and writes them with one statement for their rows, and
one for the results of checks. Whatever else uses the event log of this instance waits until the events before it are
written. So do starts and ends of steps and runs: Dagster changes the status of a run after it has stored its end.
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
# The text of an event contains its time. The lock waits for a statement that the server still executes although its
# connection was lost.
_FIND = """
lock table event_logs in share mode;
select run_id, event, id from event_logs where (run_id, event) in ({keys})
"""
# Kinds of events in batches; messages have none.
_KINDS = {
    None,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.HANDLED_OUTPUT,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ENGINE_EVENT,
}


def _nothing() -> None:
    """Write nothing."""


@contextmanager
def batched_events(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """Store the events of an instance in batches inside the block; yields a function that waits until they are written.

    Without effect for event logs other than PostgreSQL's, for one that stores batches already, and when the patch is
    not active.

    Raises:
        Exception: An event could not be written. The yielded function raises it, and so does the end of the block.
            Messages that cannot be written raise no exception, as in Dagster.
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
            # `store_event` last: while it is replaced, no other block replaces functions.
            for name in reversed(replaced):
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
        if _fits_in_batch(event) and self._add(_Stored(event, self._storage._event_to_row(event))):  # noqa: SLF001
            return
        self._wait()
        self._stock_store(event)

    def _add(self, stored: _Stored) -> bool:
        """Add an event to the next batch; return False if there is none, because the thread ends."""
        with self._changed:
            if self._is_closed:
                return False
            self._waiting.append(stored)
            if len(self._waiting) in {1, _MAX_EVENTS}:
                self._changed.notify_all()
            return True

    def flush(self) -> None:
        """Wait until all events are written.

        Raises:
            Exception: An event could not be written.
        """
        self._wait()
        self._raise_error()

    def _wait(self) -> None:
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            self._is_due = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing))
            self._is_due = False

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection as Dagster does, after the events before it are written."""
        self._wait()
        with self._stock_connect() as connection:
            yield connection

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
            self._thread.join()  # after an interrupt
        self._raise_error()

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
            numbered = [] if _is_refusal(error) else self._find(batch)
        else:
            numbered = [*zip(batch, sorted(ids), strict=True)]
        found = {stored for stored, _ in numbered}
        for stored in batch:
            if stored not in found:
                self._attempt(stored.event, self._stock_store, stored.event)
        for stored, number in numbered:
            if stored.event.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
                self._attempt(stored.event, self._store_asset, stored.event, number)
        self._update_checks(
            [
                (stored, number)
                for stored, number in numbered
                if stored.event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ]
        )

    def _attempt(self, event: dg.EventLogEntry, function: Callable[..., None], *arguments: object) -> None:
        """Call a function for an event. Keep the first error: an event does not prevent the next ones."""
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001  # errors of a database
            if event.is_dagster_event:
                self._error = self._error or error
            else:  # as in Dagster
                sys.stderr.write(f"Cannot write a message to the event log: {error}\n")

    def _store_asset(self, event: dg.EventLogEntry, number: int) -> None:
        self._storage.store_asset_event(event, number)
        self._storage.store_asset_event_tags([event], [number])

    def _find(self, batch: Sequence[_Stored]) -> list[tuple[_Stored, int]]:
        """Find the events that the server had stored when the connection was lost, and their ids."""
        keys = [(stored.row["run_id"], stored.row["event"]) for stored in batch]
        statement = _FIND.format(keys=", ".join(["(%s, %s)"] * len(keys)))
        with self._stock_connect() as connection:
            found = connection.exec_driver_sql(statement, tuple(value for key in keys for value in key))
            ids = {(run_id, event): int(number) for run_id, event, number in found}
        return [(stored, ids[key]) for stored, key in zip(batch, keys, strict=True) if key in ids]

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
        updated = []
        try:
            with self._stock_connect() as connection:
                updated = [tuple(found) for found in connection.exec_driver_sql(statement, values)]
        except Exception as error:  # noqa: BLE001  # errors of a database; Dagster's function writes the same again
            sys.stderr.write(f"Cannot write {len(latest)} check results at once: {error}\n")
        for key, (stored, number) in latest.items():
            if updated.count(key) != 1:
                self._attempt(stored.event, self._storage.store_asset_check_event, stored.event, number)


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
    kind = event.dagster_event_type if event.is_dagster_event else None
    if kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        data: Any = event.dagster_event
        return bool(event.run_id) and getattr(data.event_specific_data, "partition", None) is None
    return kind in _KINDS


def _is_refusal(error: Exception) -> bool:
    """Return whether the server, or the driver, has refused a statement. Otherwise, it may have been executed."""
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and getattr(error.orig, "pgcode", None) is not None
    return isinstance(error, ValueError)  # for a text that PostgreSQL cannot store
