"""The SQLite database of Dagster's event log, kept open while dbt runs.

For each statement Dagster's SQLite event log makes an engine, which compiles the statement anew, and opens the file. An
event takes three to ten of them, so that most of the CPU of a run with many small nodes goes there. Here the engines
stay, and each has one connection, until dbt has ended. What is written, in which transactions and when, stays as it is.
Which tables there are is asked once.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import dagster as dg
    from sqlalchemy.engine import Connection, Engine

logger = logging.getLogger(__name__)

_CONNECT = "_connect"
_HAS_TABLE = "has_table"
# What Dagster's `_connect` works with; where one of them is missing it is another `_connect`, and left alone.
_WORKS_WITH = ("_db_lock", "_initialized_dbs", "conn_string_for_shard")


@contextmanager
def open_event_log(instance: dg.DagsterInstance) -> Iterator[None]:
    """Keep the connections of the instance's event log open; they are closed at the end.

    Other event logs than SQLite's, and one that does not look as expected, are left as they are.
    """
    storage: Any = instance.event_log_storage  # the classes of storages are not public
    if not _is_known(storage) or _CONNECT in vars(storage):
        yield
        return
    with ExitStack() as stack:
        kept = {_CONNECT: _kept_connections(storage, stack), _HAS_TABLE: cache(storage.has_table)}
        for name, function in kept.items():
            vars(storage)[name] = function
            stack.callback(vars(storage).pop, name)
        yield


def _is_known(storage: object) -> bool:
    from dagster._core.storage.event_log import SqliteEventLogStorage

    if type(storage) is not SqliteEventLogStorage:
        return False
    connect = getattr(storage, _CONNECT, None)
    if connect is None or [*inspect.signature(connect).parameters] != ["shard"]:
        known = False
    else:
        known = all(hasattr(storage, name) for name in _WORKS_WITH)
    if not known:
        logger.info("the event log is opened anew for each statement: this Dagster opens it otherwise than expected")
    return known


def _kept_connections(storage: Any, stack: ExitStack) -> Callable[[str], AbstractContextManager[Connection]]:  # noqa: ANN401  # its class is not public
    """Make a `_connect` that opens each shard once."""
    stock = getattr(storage, _CONNECT)
    engines: dict[str, Engine] = {}

    @contextmanager
    def connect(shard: str) -> Iterator[Connection]:
        if shard not in storage._initialized_dbs:  # noqa: SLF001
            # Dagster makes the tables of a new shard.
            with stock(shard) as connection:
                yield connection
            return
        # As in Dagster's own, one statement at a time: threads take turns with the one connection.
        with storage._db_lock:  # noqa: SLF001
            if shard not in engines:
                engines[shard] = _engine(storage.conn_string_for_shard(shard))
                stack.callback(engines[shard].dispose)
            with engines[shard].connect() as connection, connection.begin():
                yield connection

    return connect


def _engine(address: str) -> Engine:
    from dagster._core.storage import sqlite
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    # Dagster's patience with a locked database, from the version on that sets one.
    timeout: int | None = getattr(sqlite, "SQLITE_BUSY_TIMEOUT_SECONDS", None)
    patience = {} if timeout is None else {"timeout": timeout}
    arguments = {"check_same_thread": False, **patience}
    return create_engine(address, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=arguments)
