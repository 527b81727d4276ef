"""Resolution of a query's columns, through CTEs, subqueries and set operations, to columns of tables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from floe_orchestrator_dagster.lineage.columns.transformations import IDENTITY, Transformation, uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from floe_orchestrator_dagster.lineage.columns.transformations import Subtype

    Origins = Mapping[tuple[str, str], frozenset[Transformation]]

_CLAUSES: dict[str, Subtype] = {
    "where": "FILTER",
    "having": "FILTER",
    "qualify": "FILTER",
    "group": "GROUP_BY",
    "order": "SORT",
    "distinct": "GROUP_BY",
    "windows": "WINDOW",
}


class Resolver:
    """Finds the origins of columns: (table, column) pairs, each with the kinds of dependency.

    Names of tables and columns are as in the query, which is qualified and normalized to lower case.
    """

    def __init__(self, root: Scope, columns: Mapping[str, frozenset[str]], complete: frozenset[str]) -> None:
        """Resolve columns of a query.

        Args:
            root: The query.
            columns: Known columns of each table. Tables that are missing here are not origins.
            complete: Tables whose columns are all known.
        """
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        self._columns = columns
        self._complete = complete
        self._found: dict[tuple[int, str], Origins] = {}
        self._visited: set[int] = set()

    def column(self, scope: Scope, name: str) -> Origins:
        """Find the origins of a scope's output column."""
        key = (id(scope), name)
        if key not in self._found:
            self._found[key] = {}  # end of the recursion of a recursive CTE, whose origins are in its other branch
            self._found[key] = merged(self._column(scope, name))
        return self._found[key]

    def rows(self, scope: Scope) -> Iterator[Origins]:
        """Find the columns in joins, filters, groups and orders of a scope and of its sources."""
        if id(scope) in self._visited:
            return
        self._visited.add(id(scope))
        if isinstance(scope.expression, exp.Select):
            for clause, subtype in _row_clauses(scope.expression):
                for part, how in uses(clause):
                    yield _through(Transformation(subtype).after(how), self._decider(scope, part))
        elif isinstance(scope.expression, exp.Except):
            right = _operands(scope)[1]
            for name in names_of(right):
                yield _through(Transformation("FILTER"), self.column(right, name))
        sources = (source for source in _selected_sources(scope) if isinstance(source, Scope))
        for inner in (*_operands(scope), *scope.subquery_scopes, *sources):
            yield from self.rows(inner)

    def _column(self, scope: Scope, name: str) -> Iterator[Origins]:
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            left, right = _operands(scope)
            yield self.column(left, name)
            if not isinstance(expression, exp.Except):
                yield self.column(right, _name_in(right, name, left, by_name=bool(expression.args.get("by_name"))))
        elif isinstance(expression, exp.Select):
            yield from self._projected(scope, expression, name)
        else:  # unnest, lateral, table functions
            for part, how in uses(expression, Transformation("TRANSFORMATION")):
                yield self._part(scope, part, how)

    def _projected(self, scope: Scope, select: exp.Select, name: str) -> Iterator[Origins]:
        stars = [projection for projection in select.selects if projection.is_star]
        written = [*select.selects, *(part for star in stars for part in _star_parts(star, "replace"))]
        named = [projection for projection in written if projection.alias_or_name == name]
        if named:
            for part, how in uses(named[0]):
                yield self._part(scope, part, how)
            return
        if not any(name in _excluded(star) for star in stars):
            candidates = [source for star in stars for source in _behind_star(scope, star)]
            yield from self._in_one_of(candidates, name)

    def _in_one_of(self, candidates: list[exp.Expr | Scope], name: str) -> Iterator[Origins]:
        """Resolve a column of a ``*``: to the only source that has it, or the only one that can have it."""
        having = [source for source in candidates if name in self._known(source)]
        open_ended = [source for source in candidates if not self._is_complete(source)]
        chosen = having or open_ended
        if len(chosen) == 1:  # otherwise it is ambiguous
            yield self._of_source(chosen[0], name)

    def _known(self, source: exp.Expr | Scope) -> frozenset[str]:
        if isinstance(source, Scope):
            return frozenset(names_of(source))
        return self._columns.get(source.name, frozenset())

    def _is_complete(self, source: exp.Expr | Scope) -> bool:
        if isinstance(source, Scope):
            return not any(projection.is_star for projection in projections(source))
        return source.name in self._complete

    def _part(self, scope: Scope, part: exp.Expr, how: Transformation) -> Origins:
        if isinstance(part, exp.Column):
            return _through(how, self._reference(scope, part))
        inner = next((sub for sub in scope.subquery_scopes if sub.expression is part.unnest()), None)
        if inner is None:
            return {}
        return _through(how, merged(self.column(inner, name) for name in names_of(inner)))

    def _decider(self, scope: Scope, part: exp.Expr) -> Origins:
        is_alias = isinstance(part, exp.Column) and not part.table and part.name in names_of(scope)
        return self.column(scope, part.name) if is_alias else self._part(scope, part, IDENTITY)

    def _reference(self, scope: Scope, column: exp.Column) -> Origins:
        sources = scope.sources
        if column.table in sources:
            return self._of_source(sources[column.table], column.name)
        if scope.parent is not None and column.table:
            return self._reference(scope.parent, column)  # a correlated subquery
        return merged(self._in_one_of(_selected_sources(scope), column.name))

    def _of_source(self, source: exp.Expr | Scope, name: str) -> Origins:
        if isinstance(source, Scope):
            # A recursive CTE refers to a copy of its first branch that has no sources.
            return self.column(self._scopes.get(id(source.expression), source), name)
        if source.name not in self._columns or not name or name == "*":
            return {}
        return {(source.name, name): frozenset({IDENTITY})}


def merged(origins: Iterable[Origins]) -> Origins:
    """Merge origins; an origin that occurs several times has all its transformations."""
    together: dict[tuple[str, str], set[Transformation]] = defaultdict(set)
    for each in origins:
        for origin, transformations in each.items():
            together[origin] |= transformations
    return {origin: frozenset(transformations) for origin, transformations in together.items()}


def _operands(scope: Scope) -> list[Scope]:
    """Return the scopes that a set operation combines; empty for other queries."""
    # sqlglot 28, which dagster-dbt 0.28 requires, has another name for them.
    name = "set_operation_scopes" if hasattr(scope, "set_operation_scopes") else "union_scopes"
    found: list[Scope] = getattr(scope, name)
    return found


def projections(scope: Scope) -> list[exp.Expr]:
    """List the expressions that a scope selects; for a set operation, those of its first branch."""
    return list(getattr(scope.expression, "selects", ()))


def names_of(scope: Scope) -> list[str]:
    """List the names of a scope's output columns, without those of a ``*``."""
    return [projection.alias_or_name for projection in projections(scope) if not projection.is_star]


def _through(how: Transformation, origins: Origins) -> Origins:
    return {origin: frozenset(how.after(inner) for inner in ways) for origin, ways in origins.items()}


def _row_clauses(select: exp.Select) -> Iterator[tuple[exp.Expr, Subtype]]:
    for name, subtype in _CLAUSES.items():
        value = select.args.get(name)
        for clause in value if isinstance(value, list) else [value]:
            if isinstance(clause, exp.Expression):
                yield clause, subtype
    for join in select.args.get("joins") or ():
        for condition in (join.args.get("on"), *(join.args.get("using") or ())):
            if isinstance(condition, exp.Expression):
                yield condition, "JOIN"


def _selected_sources(scope: Scope) -> list[exp.Expr | Scope]:
    return [source for _, source in scope.selected_sources.values()]


def _behind_star(scope: Scope, star: exp.Expr) -> list[exp.Expr | Scope]:
    table = star.table if isinstance(star, exp.Column) else ""
    if not table:
        return _selected_sources(scope)
    return [scope.sources[table]] if table in scope.sources else []


def _excluded(star: exp.Expr) -> set[str]:
    return {part.name for part in [*_star_parts(star, "except_"), *_star_parts(star, "except")]}


def _star_parts(star: exp.Expr, name: str) -> list[exp.Expr]:
    node = star.this if isinstance(star, exp.Column) else star
    return [part for part in node.args.get(name) or () if isinstance(part, exp.Expression)]


def _name_in(branch: Scope, name: str, first: Scope, *, by_name: bool) -> str:
    """Return a column's name in another branch of a set operation: at the same position, if positions are known."""
    own, others = names_of(first), names_of(branch)
    all_known = len(own) == len(others) == len(projections(branch))
    return others[own.index(name)] if not by_name and all_known and name in own else name
