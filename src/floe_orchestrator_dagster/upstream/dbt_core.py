"""Names of dbt-core that are not public: events, masking of secrets, the manifest, columns and rows of tables.

- Events: dbt documents those for callbacks, but not their conversion to JSON and the masking of secrets. All supported
  versions of dbt-core have both functions.
- Manifest: dbt stores it in the context of its command. Without it, names of tables and compiled code are unknown.
- Queries of tables: dbt's programmatic interface has no access to the connections, which belong to the adapters.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from dbt.adapters.base.column import Column
    from dbt.adapters.base.impl import BaseAdapter
    from dbt.contracts.graph.manifest import Manifest
    from dbt_common.events.base_types import EventMsg


TableParts = tuple[str | None, str, str]
"""Database, schema and name of a table."""

_TABLES = {"model", "seed", "snapshot"}
_FIELDS = ("database", "schema", "alias", "identifier", "relation_name")
_CODE = "compiled_code"


def event_fields(event: EventMsg) -> dict[str, Any]:
    """Return ``info`` and ``data`` of an event, the same as ``dbt --log-format json`` prints."""
    from dbt_common.events.functions import msg_to_dict

    fields: dict[str, Any] = msg_to_dict(event)
    return fields


def masked_text(text: str) -> str:
    """Mask the values of the variables ``DBT_ENV_SECRET_…`` in a string."""
    from dbt_common.events.functions import env_scrubber

    return env_scrubber(text)


def hidden_error(error: BaseException | None) -> str:
    """Return the error of a query that dbt hides behind an error of its connection; empty if there is none.

    dbt closes the connection of a failed node. If closing fails too, because the warehouse is gone, dbt only reports
    the error of closing.
    """
    from dbt_common.exceptions import DbtBaseException

    while error is not None and not isinstance(error, DbtBaseException):
        error = None if error.__suppress_context__ else error.__context__
    return str(error or "")


class RunningManifest:
    """The project as dbt has loaded it."""

    def __init__(self, manifest: Manifest | None) -> None:
        """Wrap dbt's manifest; None for an unknown one."""
        self._manifest = manifest

    @classmethod
    def current(cls) -> RunningManifest:
        """Return the manifest of the running dbt. Call it in dbt's main thread, after the project is parsed."""
        from click import get_current_context

        context = get_current_context(silent=True)
        return cls((context.obj or {}).get("manifest") if context is not None else None)

    def table_names(self) -> dict[str, dict[str, str | None]]:
        """Return the names of the tables of models, seeds, snapshots and sources in this environment, by unique id."""
        if self._manifest is None:
            return {}
        nodes = [node for node in self._manifest.nodes.values() if node.resource_type in _TABLES]
        return {
            node.unique_id: {name: getattr(node, name) for name in _FIELDS if hasattr(node, name)}
            for node in [*nodes, *self._manifest.sources.values()]
        }

    def compiled_code(self, unique_id: str) -> str | None:
        """Return the compiled query of a node. dbt does not write a snapshot's query to a file."""
        node = self._manifest.nodes.get(unique_id) if self._manifest is not None else None
        return getattr(node, _CODE, None)


def table_columns(adapter_name: str, unique_id: str, names: TableParts) -> list[tuple[str, str]]:
    """Query the names and types of a table's columns, in the thread that built the table.

    Raises:
        Exception: Any error of the adapter.
    """
    adapter = _adapter(adapter_name)
    database, schema, identifier = names
    with adapter.connection_named(f"columns of {unique_id}"):
        table = adapter.Relation.create(database=database, schema=schema, identifier=identifier)
        return [(column.name, _type(column)) for column in adapter.get_columns_in_relation(table)]


def table_rows(adapter_name: str, unique_id: str, relation_name: str) -> int:
    """Query the number of a table's rows, in the thread that built the table.

    Raises:
        Exception: Any error of the adapter.
    """
    adapter = _adapter(adapter_name)
    with adapter.connection_named(f"rows of {unique_id}"):
        _, found = adapter.execute(f"select count(*) from {relation_name}", fetch=True)  # noqa: S608 - quoted by dbt
        return int(found.rows[0][0])


def first_rows(adapter_name: str, unique_id: str, query: str, limit: int) -> list[dict[str, str]]:
    """Return the first rows of a test's query as text by column, in the thread that ran the test.

    Raises:
        Exception: Any error of the adapter.
    """
    adapter = _adapter(adapter_name)
    with adapter.connection_named(f"failed rows of {unique_id}"):
        _, found = adapter.execute(query, fetch=True, limit=limit)
        return [{str(name): masked_text(str(value)) for name, value in row.items()} for row in found.rows]


def _adapter(name: str) -> BaseAdapter:
    from dbt.adapters.factory import FACTORY

    return cast("BaseAdapter", FACTORY.adapters[name])


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
