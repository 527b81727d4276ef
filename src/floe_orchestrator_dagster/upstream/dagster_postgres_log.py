"""Persistent connections to the PostgreSQL database of Dagster's event log while dbt runs.

To store one event, Dagster's storage opens one to three connections, of which two can be open at once. Each needs a
login and a new process of the server. This module keeps two connections until dbt has ended. They are checked before
each use, and opened again if they are broken. Statements and transactions stay the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg
    from sqlalchemy.engine import Engine

_MODULE = "dagster_postgres"
_ENGINE = "_engine"


@contextmanager
def open_postgres_log(instance: dg.DagsterInstance) -> Iterator[None]:
    """Keep the connections of the instance's event log open, and close them at the end.

    Without effect for event logs other than PostgreSQL's, for one that keeps connections already, and when the patch
    is not active.
    """
    storage: Any = instance.event_log_storage  # the classes of storages are not public
    stock = _engine_of(storage)
    if stock is None:
        yield
        return
    kept = _keeping_engine(stock)
    setattr(storage, _ENGINE, kept)
    try:
        yield
    finally:
        setattr(storage, _ENGINE, stock)
        kept.dispose()


def find_problem() -> str | None:
    """Return the reason why the storage's engine cannot be replaced; None when it can, or without dagster-postgres."""
    if find_spec(_MODULE) is None:
        return None
    from dagster_postgres.event_log import PostgresEventLogStorage

    connect = getattr(PostgresEventLogStorage, "_connect", None)
    reads_engine = connect is not None and _ENGINE in connect.__code__.co_names
    return None if reads_engine else f"PostgresEventLogStorage has no _connect() that uses {_ENGINE}"


def _engine_of(storage: object) -> Engine | None:
    """Return the engine of a PostgreSQL event log that opens a connection for each use; None for others."""
    from sqlalchemy.pool import NullPool

    if type(storage).__module__.partition(".")[0] != _MODULE or not patches.is_active(patches.POSTGRES_LOG):
        return None
    engine: Engine | None = getattr(storage, _ENGINE, None)
    return engine if engine is not None and isinstance(engine.pool, NullPool) else None


def _keeping_engine(stock: Engine) -> Engine:
    """Return an engine that takes connections from another one, and keeps two of them."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool

    def connect() -> Any:  # noqa: ANN401  # a connection of the driver
        connection = stock.raw_connection()
        opened = connection.dbapi_connection
        connection.detach()
        return opened

    return create_engine(
        stock.url,
        creator=connect,
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=-1,
        pool_pre_ping=True,
    )
