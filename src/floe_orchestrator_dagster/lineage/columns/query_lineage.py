"""Column lineage of one parsed query, and the query's size once ``*`` and aliases are replaced with expressions.

The size can be exponential in the query's length: ``select * from a as l join a as r`` has twice the columns of ``a``,
and sqlglot replaces ``more`` in ``select x + x as more, more + more as most`` with ``x + x``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.scope import Scope, traverse_scope

from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage, InputColumn
from floe_orchestrator_dagster.lineage.columns.qualification import folded, is_complete
from floe_orchestrator_dagster.lineage.columns.resolution import Resolver
from floe_orchestrator_dagster.lineage.columns.table_columns import table_columns, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.lineage.columns.qualification import Query, Relation
    from floe_orchestrator_dagster.lineage.columns.resolution import Origins
    from floe_orchestrator_dagster.lineage.columns.table_columns import Columns


LARGEST_QUERY = 500_000  # expressions; each takes about a kilobyte

_NAMED_BY_SQLGLOT = "_col_"
# sqlglot's names of these clauses depend on its version.
_COUNTED_ELSEWHERE = frozenset({"expressions", "with", "with_", "from", "from_"})


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
    of_tables = {name: frozenset(folded(relation)) for name, relation in query.tables.items()}
    complete = frozenset(name for name, relation in query.tables.items() if is_complete(relation))
    resolver = Resolver(scope, of_tables, complete)
    inputs = _Inputs(query.tables)
    columns = table_columns(query)
    actual = list(output) or (list(columns.known) if columns.are_known else [])
    names = _output_names(scope, resolver, query.tables, [name.lower() for name in actual])
    if not output:
        names = _named(names, columns, query)
    spelled = {name.lower(): name for name in actual or columns.known} if output or query.keeps_case else {}
    found = {spelled.get(name, name): inputs.of(resolver.column(scope, name)) for name in names}
    return ColumnLineage(
        fields=MappingProxyType({name: columns_read for name, columns_read in found.items() if columns_read}),
        dataset=inputs.of(resolver.rows(scope)),
        output=tuple(spelled.get(name.lower(), name.lower()) for name in actual),
    )


def _named(names: Iterable[str], columns: Columns, query: Query) -> list[str]:
    """Leave out names that sqlglot gives to expressions without one. DuckDB gives them others."""
    known = {name.lower() for name in columns.known}
    given = unnamed(query) if query.keeps_case else frozenset()
    return [name for name in names if name in known or not (name in given or name.startswith(_NAMED_BY_SQLGLOT))]


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
    """Converts origins to input columns, with the letter case of the relation's columns."""

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


def query_size(query: Query) -> int:
    """Estimate the number of expressions in a query after qualification."""
    tree = query.folded()
    # A table with unknown columns may get a column for each name in the query.
    unknown = len({column.name for column in tree.find_all(exp.Column)})
    columns = {
        name: len(relation.columns) if is_complete(relation) else len(relation.columns) + unknown
        for name, relation in query.tables.items()
    }
    return expanded_size(tree, columns)


def expanded_size(query: exp.Query, columns: Mapping[str, int]) -> int:
    """Estimate the number of expressions in a query after qualification.

    Args:
        query: The query, with names in lower case.
        columns: The number of columns of each table.
    """
    widths: dict[int, int] = {}
    size = 0
    for scope in traverse_scope(query):
        width, added = _measured(scope, columns, widths)
        widths[id(scope.expression)] = width
        size += added
    return size


def _measured(scope: Scope, columns: Mapping[str, int], widths: Mapping[int, int]) -> tuple[int, int]:
    """Return the number of a scope's output columns, and that of its expressions."""
    expression = scope.expression
    if isinstance(expression, exp.SetOperation):
        first: exp.Expr = expression
        while isinstance(first, exp.SetOperation):
            first = first.this.unnest()
        return widths.get(id(first), 0), 1
    if not isinstance(expression, exp.Select):
        return len(getattr(expression, "selects", ())), 1
    starred = sum(_width(source, columns, widths) for _, source in scope.selected_sources.values())
    width = size = 0
    aliases: dict[str, int] = {}
    for projection in expression.selects:
        if projection.is_star:
            width += starred
            size += starred
        else:
            width += 1
            aliases[projection.alias_or_name] = weight = _weight(projection.walk(), aliases)
            size += weight
    clauses = (part for name, part in expression.args.items() if name not in _COUNTED_ELSEWHERE)
    nodes = (part for clause in clauses for part in (clause if isinstance(clause, list) else [clause]))
    return width, size + sum(_weight(node.walk(), aliases) for node in nodes if isinstance(node, exp.Expression))


def _weight(nodes: Iterable[exp.Expr], aliases: Mapping[str, int]) -> int:
    """Count nodes. A name may refer to an alias, which is then replaced with its expression."""
    return sum(
        1 + (aliases.get(node.name, 0) if isinstance(node, exp.Column) and not node.table else 0) for node in nodes
    )


def _width(source: exp.Expr | Scope, columns: Mapping[str, int], widths: Mapping[int, int]) -> int:
    if isinstance(source, Scope):
        return widths.get(id(source.expression), 0)
    return columns.get(source.name, 0)
