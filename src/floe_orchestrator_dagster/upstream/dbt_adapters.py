"""Columns of a table, asked through the adapter of the dbt in this process.

dbt's programmatic interface gives no access to its connections; only the adapter that it has opened can use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from dbt.adapters.base.column import Column
    from dbt.adapters.base.impl import BaseAdapter


def table_columns(
    adapter_name: str, unique_id: str, database: str | None, schema: str, identifier: str
) -> list[tuple[str, str]]:
    """Ask the database for the names and types of a table's columns, in the thread that built it.

    Adapters raise what they like.
    """
    from dbt.adapters.factory import FACTORY

    adapter = cast("BaseAdapter", FACTORY.adapters[adapter_name])
    with adapter.connection_named(f"columns of {unique_id}"):
        described = adapter.Relation.create(database=database, schema=schema, identifier=identifier)
        return [(column.name, _type(column)) for column in adapter.get_columns_in_relation(described)]


def _type(column: Column) -> str:
    """Return the type as the database has it: dbt gives a length to strings that have none."""
    has_length = not column.is_string() or column.char_size is not None
    return str(column.data_type if has_length else column.dtype)
