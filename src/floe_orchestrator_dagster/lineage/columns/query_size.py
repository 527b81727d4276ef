"""Size of a query after its stars and aliases are expanded, estimated without expanding them.

Both can grow exponentially: ``select * from a as l join a as r`` has twice the columns of ``a``, and sqlglot replaces
``more`` in ``select x + x as more, more + more as most`` with its expression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from floe_orchestrator_dagster.lineage.columns.qualification import is_complete

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.lineage.columns.qualification import Query

LARGEST_QUERY = 500_000  # expressions; each takes about a kilobyte

# sqlglot's names of these clauses depend on its version.
_COUNTED_ELSEWHERE = frozenset({"expressions", "with", "with_", "from", "from_"})


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
