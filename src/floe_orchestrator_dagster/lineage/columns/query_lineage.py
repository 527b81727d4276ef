"""Column lineage of one parsed query."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlglot.errors import OptimizeError

from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage, InputColumn
from floe_orchestrator_dagster.lineage.columns.qualification import folded, is_complete
from floe_orchestrator_dagster.lineage.columns.resolution import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlglot.optimizer.scope import Scope

    from floe_orchestrator_dagster.lineage.columns.qualification import Query, Relation
    from floe_orchestrator_dagster.lineage.columns.resolution import Origins


def query_lineage(query: Query, output: Sequence[str]) -> ColumnLineage:
    """Compute the column lineage of a query.

    Args:
        query: The query.
        output: Its actual output columns, if known. They resolve a ``*`` over tables with unknown columns.

    Raises:
        SqlglotError: sqlglot cannot resolve the query.
    """
    scope = query.qualified()
    if scope is None:
        raise OptimizeError("not a query")
    columns = {name: frozenset(folded(relation)) for name, relation in query.tables.items()}
    complete = frozenset(name for name, relation in query.tables.items() if is_complete(relation))
    resolver = Resolver(scope, columns, complete)
    inputs = _Inputs(query.tables)
    actual = {name.lower(): name for name in output}
    fields = {
        actual.get(name, name): inputs.of(resolver.column(scope, name))
        for name in _output_names(scope, resolver, query.tables, list(actual))
    }
    return ColumnLineage(
        fields=MappingProxyType({name: found for name, found in fields.items() if found}),
        dataset=inputs.of(resolver.rows(scope)),
    )


def _output_names(
    scope: Scope, resolver: Resolver, tables: Mapping[str, Relation], actual: Sequence[str]
) -> Sequence[str]:
    """Return the output's columns: those in the query, and for a ``*`` the actual or else the documented ones."""
    written = resolver.output(scope)
    if written.is_complete or actual:
        return written.names if written.is_complete else actual
    documented = ((table, name) for table, relation in tables.items() for name in folded(relation))
    through = (name for table, name in documented if (table, name) in resolver.column(scope, name))
    return list(dict.fromkeys([*written.names, *through]))


class _Inputs:
    """Converts origins to columns of relations, as these write their names."""

    def __init__(self, tables: Mapping[str, Relation]) -> None:
        self._tables = tables
        self._names = {
            table: {name.lower(): name for name in reversed(relation.columns)} for table, relation in tables.items()
        }

    def of(self, origins: Origins) -> tuple[InputColumn, ...]:
        columns = (
            InputColumn(
                self._tables[table].unique_id,
                self._names[table].get(column, column),
                tuple(sorted(transformations)),
            )
            for (table, column), transformations in origins.items()
        )
        return tuple(sorted(columns, key=lambda column: (column.unique_id, column.column)))
