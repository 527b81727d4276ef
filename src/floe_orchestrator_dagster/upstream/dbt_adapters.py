"""Columns of tables, and closing of connections, through the adapters of the dbt in this process.

dbt's programmatic interface has no access to its connections, which belong to its adapters.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from dbt.adapters.base.column import Column
    from dbt.adapters.base.impl import BaseAdapter


def table_columns(
    adapter_name: str, unique_id: str, database: str | None, schema: str, identifier: str
) -> list[tuple[str, str]]:
    """Query the names and types of a table's columns, in the thread that built the table.

    Raises:
        Exception: Any error of the adapter.
    """
    from dbt.adapters.factory import FACTORY

    adapter = cast("BaseAdapter", FACTORY.adapters[adapter_name])
    with adapter.connection_named(f"columns of {unique_id}"):
        described = adapter.Relation.create(database=database, schema=schema, identifier=identifier)
        return [(column.name, _type(column)) for column in adapter.get_columns_in_relation(described)]


def close_connections() -> None:
    """Close the connections of all adapters, as dbt's command does at its end.

    DuckDB writes the content of its ``.wal`` file to the database when the last connection is closed.
    """
    factory = sys.modules.get("dbt.adapters.factory")
    if factory is None:
        return
    factory.FACTORY.cleanup_connections()
    for adapter in factory.FACTORY.adapters.values():
        # Threads of dbt-duckdb share a connection that is not in the adapter's list.
        close_all = getattr(adapter.connections, "close_all_connections", None)
        if close_all is not None:
            close_all()


def _type(column: Column) -> str:
    """Return the column's type in the database. dbt adds a length to strings without one."""
    has_length = not column.is_string() or column.char_size is not None
    return str(column.data_type if has_length else column.dtype)
