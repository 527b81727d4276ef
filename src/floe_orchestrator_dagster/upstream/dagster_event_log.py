"""Persistent connections to the SQLite databases of Dagster's event log while a step emits many events.

For each statement, Dagster's SQLite event log creates an engine, compiles the statement and opens the file. An event
has three to ten statements, which take most of the CPU time of a run with many small nodes. This module keeps one
engine and connection per database until dbt has ended. It writes the same rows in the same transactions, and notifies
the watchers of a run's database after each one. Tables, columns and migrations are looked up once.
"""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg
    from sqlalchemy.engine import Connection, Engine

_CONNECT = "_connect"
# Functions that look up tables and columns. Each version of Dagster has some of them.
_HAS_TABLE, _HAS_COLUMN, _HAS_COLUMN_HERE = "has_table", "has_asset_key_col", "_has_asset_key_col_on_connection"
# Function that looks up whether a migration is completed.
_HAS_INDEX = "has_secondary_index"
# Names that Dagster's `_connect` uses. If one is missing, `_connect` works differently and is not replaced.
_METHODS = ("conn_string_for_shard", "path_for_shard")
_ATTRIBUTES = ("_db_lock", "_initialized_dbs")


@contextmanager
def open_event_log(instance: dg.DagsterInstance) -> Iterator[None]:
    """Keep the connections of the instance's event log open, and close them at the end.

    Without effect for event logs other than SQLite's, for one that is already kept open, and when the patch is not
    active.
    """
    storage: Any = instance.event_log_storage  # the classes of storages are not public
    if not (patches.is_active(patches.EVENT_LOG) and _is_known(storage)):
        yield
        return
    databases = _OpenDatabases(storage)
    try:
        databases.open()
        yield
    finally:
        databases.close()


def find_problem() -> str | None:
    """Return the reason why Dagster's functions cannot be replaced; None when they can."""
    from dagster._core.storage.event_log import SqliteEventLogStorage

    connect = getattr(SqliteEventLogStorage, _CONNECT, None)
    if connect is None or [*inspect.signature(connect).parameters] != ["self", "shard"]:
        return f"SqliteEventLogStorage has no {_CONNECT}(shard)"
    missing = [name for name in _METHODS if not hasattr(SqliteEventLogStorage, name)]
    return f"SqliteEventLogStorage has no {', '.join(missing)}" if missing else None


def _is_known(storage: object) -> bool:
    from dagster._core.storage.event_log import SqliteEventLogStorage

    if type(storage) is not SqliteEventLogStorage:
        return False
    missing = [name for name in _ATTRIBUTES if not hasattr(storage, name)]
    if missing:
        patches.give_up(patches.EVENT_LOG, f"SqliteEventLogStorage has no {', '.join(missing)}")
    return not missing


class _OpenDatabases:
    """The databases of an event log (of a run, and the index of all runs), each opened once."""

    def __init__(self, storage: Any) -> None:  # noqa: ANN401  # its class is not public
        self._storage = storage
        self._lock = storage._db_lock  # noqa: SLF001
        self._stock_connect = getattr(storage, _CONNECT)
        self._engines: dict[str, Engine] = {}
        self._replacements: dict[str, Callable[..., Any]] = {}

    def open(self) -> None:
        """Replace the functions that open a database for each statement, unless they are already replaced."""
        with self._lock:
            if _CONNECT not in vars(self._storage):
                self._replacements = {_CONNECT: self._connect, **_cached_lookups(self._storage)}
                vars(self._storage).update(self._replacements)

    def close(self) -> None:
        """Restore the event log's functions. Threads that have already called a replaced one can still write."""
        with self._lock:
            for name in self._replacements:
                del vars(self._storage)[name]
            self._replacements = {}
            self._dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if shard not in self._storage._initialized_dbs:  # noqa: SLF001
            # Dagster creates the tables of a new database.
            with self._stock_connect(shard) as connection:
                yield connection
            return
        # As in Dagster's function, one transaction at a time: threads share the connection.
        with self._lock:
            try:
                with self._engine(shard).connect() as connection:
                    database: Any = connection.connection
                    before = database.total_changes
                    with connection.begin():
                        yield connection
                    if database.total_changes > before:
                        self._notify_watchers(shard)
            finally:
                if not self._replacements:  # closed after this thread called the function
                    self._dispose()

    def _notify_watchers(self, shard: str) -> None:
        """Change the file's modification time, which a run's page watches.

        While the connection is open, SQLite writes to the write-ahead log and does not change the file.
        """
        os.utime(self._storage.path_for_shard(shard))

    def _engine(self, shard: str) -> Engine:
        if shard not in self._engines:
            self._engines[shard] = _new_engine(self._storage.conn_string_for_shard(shard))
        return self._engines[shard]

    def _dispose(self) -> None:
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()


def _cached_lookups(storage: Any) -> dict[str, Callable[..., Any]]:  # noqa: ANN401  # as above
    """Return replacements of the functions that look up tables, columns and migrations, with cached results."""
    lookups: dict[str, Callable[..., Any]] = {
        name: cache(getattr(storage, name)) for name in (_HAS_TABLE, _HAS_COLUMN) if hasattr(storage, name)
    }
    if hasattr(storage, _HAS_INDEX):
        lookups[_HAS_INDEX] = _cached_if_completed(getattr(storage, _HAS_INDEX))
    if hasattr(storage, _HAS_COLUMN_HERE):
        lookups[_HAS_COLUMN_HERE] = _cached_by_column(getattr(storage, _HAS_COLUMN_HERE))
    return lookups


def _cached_by_column(stock: Callable[[Connection, str], bool]) -> Callable[[Connection, str], bool]:
    """Cache whether a column exists. The result does not depend on the connection."""
    known: dict[str, bool] = {}

    def has_column(connection: Connection, column: str) -> bool:
        if column not in known:
            known[column] = stock(connection, column)
        return known[column]

    return has_column


def _cached_if_completed(stock: Callable[[str], bool]) -> Callable[[str], bool]:
    """Cache that a migration is completed. An incomplete one is looked up again, because it can be completed later."""
    completed: set[str] = set()

    def is_completed(name: str) -> bool:
        if name not in completed and stock(name):
            completed.add(name)
        return name in completed

    return is_completed


def _new_engine(address: str) -> Engine:
    from dagster._core.storage import sqlite
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    # Dagster's timeout for a locked database, in versions that set one.
    timeout: int | None = getattr(sqlite, "SQLITE_BUSY_TIMEOUT_SECONDS", None)
    arguments = {"check_same_thread": False, **({} if timeout is None else {"timeout": timeout})}
    # One connection is kept. If an interrupt leaves it in use, a second one is opened without waiting.
    return create_engine(address, poolclass=QueuePool, pool_size=1, max_overflow=-1, connect_args=arguments)
