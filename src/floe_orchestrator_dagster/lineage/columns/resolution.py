"""Resolution of a query's columns, through CTEs, subqueries and set operations, to columns of tables.

Queries can have thousands of CTEs and branches. Therefore the resolution does not use recursion, and its time is
proportional to the number of columns.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from floe_orchestrator_dagster.lineage.columns.column_lineage import IDENTITY, Transformation, uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.lineage.columns.column_lineage import Subtype

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


@dataclass(frozen=True)
class Use:
    """A column that another column, or the selection of rows, depends on.

    Attributes:
        source: The scope that has the column, or the name of its table.
        name: The column's name.
        how: The kind of dependency.
    """

    source: Scope | str
    name: str
    how: Transformation = IDENTITY

    def through(self, how: Transformation) -> Use:
        """Return the use as part of an expression with another kind of dependency."""
        return Use(self.source, self.name, how.after(self.how))


@dataclass
class _Unfinished:
    """A column whose origins are being found.

    Attributes:
        key: The scope's id and the column's name.
        uses: The columns that it depends on, whose origins are not found yet.
        origins: The origins found so far.
    """

    key: tuple[int, str]
    uses: deque[Use]
    origins: list[Origins] = field(default_factory=list)


class Output:
    """The expressions that a scope selects. For a set operation, these are the ones of its first branch.

    Attributes:
        stars: The ``*`` and ``table.*`` among the expressions.
        names: Names of the columns, without those of a ``*``.
        positions: The position of each name among them; of a repeated name, the first one.
        is_complete: Whether there is no ``*``.
    """

    def __init__(self, scope: Scope) -> None:
        """Read a scope's expressions."""
        first: exp.Expr = scope.expression
        while isinstance(first, exp.SetOperation):
            first = first.this.unnest()
        projections: list[exp.Expr] = list(getattr(first, "selects", ()))
        self.stars = [projection for projection in projections if projection.is_star]
        self.names = [projection.alias_or_name for projection in projections if not projection.is_star]
        self.positions = {name: len(self.names) - 1 - row for row, name in enumerate(reversed(self.names))}
        self.is_complete = not self.stars
        written = [*projections, *(part for star in self.stars for part in _star_parts(star, "replace"))]
        self._written = {projection.alias_or_name: projection for projection in reversed(written)}
        self._excluded = frozenset(
            part.name for star in self.stars for name in ("except_", "except") for part in _star_parts(star, name)
        )

    def expression(self, name: str) -> exp.Expr | None:
        """Return the expression of a column; None for a column of a ``*``."""
        return self._written.get(name)

    def may_have(self, name: str) -> bool:
        """Return whether a column that the scope does not name can be one of a ``*``."""
        return name not in self._excluded


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
        self._outputs: dict[int, Output] = {}
        self._subqueries: dict[int, dict[int, Scope]] = {}
        recursive = (found for found in root.expression.find_all(exp.With) if found.recursive)
        self._first_branches = {
            id(cte.this.this)
            for found in recursive
            for cte in found.expressions
            if isinstance(cte.this, exp.SetOperation)
        }

    def output(self, scope: Scope) -> Output:
        """Return the output columns of a scope."""
        found = self._outputs.get(id(scope))
        if found is None:
            found = self._outputs[id(scope)] = Output(scope)
        return found

    def column(self, scope: Scope, name: str) -> Origins:
        """Find the origins of a scope's output column: first those of the columns that it depends on."""
        unfinished = [] if (id(scope), name) in self._found else [self._started(scope, name)]
        while unfinished:
            column = unfinished[-1]
            unknown = self._continue(column)
            if unknown is None:
                self._found[column.key] = merged(column.origins)
                unfinished.pop()
            else:
                unfinished.append(unknown)
        return self._found[id(scope), name]

    def rows(self, root: Scope) -> Origins:
        """Find the columns in joins, filters, groups and orders of a scope and of its sources."""
        found: list[Origins] = []
        visited: set[int] = set()
        waiting = [root]
        while waiting:
            scope = waiting.pop()
            if id(scope) not in visited:
                visited.add(id(scope))
                found += map(self._origins, self._row_uses(scope))
                sources = (source for source in _selected_sources(scope) if isinstance(source, Scope))
                waiting += reversed([*_operands(scope), *scope.subquery_scopes, *sources])
        return merged(found)

    def _started(self, scope: Scope, name: str) -> _Unfinished:
        key = id(scope), name
        self._found[key] = {}  # end of the recursion of a recursive CTE, whose origins are in its other branch
        return _Unfinished(key, deque(self._uses(scope, name)))

    def _continue(self, column: _Unfinished) -> _Unfinished | None:
        """Add the origins of a column's uses, up to the first one that must be found before; None at the end."""
        while column.uses:
            use = column.uses[0]
            if isinstance(use.source, Scope) and (id(use.source), use.name) not in self._found:
                return self._started(use.source, use.name)
            column.origins.append(self._origins(use))
            column.uses.popleft()
        return None

    def _origins(self, use: Use) -> Origins:
        if isinstance(use.source, Scope):
            return _through(use.how, self.column(use.source, use.name))
        return {(use.source, use.name): frozenset({use.how})}

    def _uses(self, scope: Scope, name: str) -> Iterator[Use]:
        """Find what a column depends on directly."""
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            yield from self._branches(scope, name)
        elif isinstance(expression, exp.Select):
            yield from self._projected(scope, name)
        else:  # unnest, lateral, table functions
            for part, how in uses(expression, Transformation("TRANSFORMATION")):
                yield from self._part(scope, part, how)

    def _branches(self, scope: Scope, name: str) -> Iterator[Use]:
        """Find a column in the branches of a set operation. sqlglot nests long unions to the left."""
        others = []
        while True:
            expression, (left, right) = scope.expression, _operands(scope)
            if not isinstance(expression, exp.Except):
                by_name = bool(expression.args.get("by_name"))
                others.append(Use(right, name if by_name else self._name_in(right, name, left)))
            scope = left
            # The first branch of a recursive CTE has a separate key, at which the recursion ends.
            if not isinstance(left.expression, exp.SetOperation) or id(left.expression) in self._first_branches:
                break
        yield Use(scope, name)
        yield from reversed(others)

    def _name_in(self, branch: Scope, name: str, first: Scope) -> str:
        """Return a column's name in another branch: the one at the same position, if all positions are known."""
        own, others = self.output(first), self.output(branch)
        row = own.positions.get(name)
        all_known = others.is_complete and len(own.names) == len(others.names)
        return name if row is None or not all_known else others.names[row]

    def _projected(self, scope: Scope, name: str) -> Iterator[Use]:
        """Find what a column of a ``select`` depends on: its expression, or a column behind a ``*``."""
        output = self.output(scope)
        expression = output.expression(name)
        if expression is not None:
            for part, how in uses(expression):
                yield from self._part(scope, part, how)
        elif output.may_have(name):
            candidates = [source for star in output.stars for source in _behind_star(scope, star)]
            yield from self._in_one_of(candidates, name)

    def _in_one_of(self, candidates: list[exp.Expr | Scope], name: str) -> Iterator[Use]:
        """Resolve a column of a ``*``: to the only source that has it, or the only one that can have it."""
        having = [source for source in candidates if self._has(source, name)]
        open_ended = [source for source in candidates if not self._is_complete(source)]
        chosen = having or open_ended
        if len(chosen) == 1:  # otherwise it is ambiguous
            yield from self._of_source(chosen[0], name)

    def _has(self, source: exp.Expr | Scope, name: str) -> bool:
        if isinstance(source, Scope):
            return name in self.output(source).positions
        return name in self._columns.get(source.name, ())

    def _is_complete(self, source: exp.Expr | Scope) -> bool:
        return self.output(source).is_complete if isinstance(source, Scope) else source.name in self._complete

    def _part(self, scope: Scope, part: exp.Expr, how: Transformation) -> Iterator[Use]:
        """Find what a column or a subquery in an expression depends on."""
        if isinstance(part, exp.Column):
            yield from (use.through(how) for use in self._reference(scope, part))
            return
        inner = self._subqueries_of(scope).get(id(part.unnest()))
        if inner is not None:
            yield from (Use(inner, name, how) for name in self.output(inner).names)

    def _subqueries_of(self, scope: Scope) -> Mapping[int, Scope]:
        found = self._subqueries.get(id(scope))
        if found is None:
            found = {id(inner.expression): inner for inner in scope.subquery_scopes}
            self._subqueries[id(scope)] = found
        return found

    def _row_uses(self, scope: Scope) -> Iterator[Use]:
        """Find what the selection and the order of a scope's rows depend on directly."""
        expression = scope.expression
        if isinstance(expression, exp.Select):
            for clause, subtype in _row_clauses(expression):
                for part, how in uses(clause, Transformation(subtype)):
                    yield from self._part_of_clause(scope, part, how)
        elif isinstance(expression, exp.Except):
            right = _operands(scope)[1]
            yield from (Use(right, name, Transformation("FILTER")) for name in self.output(right).names)

    def _part_of_clause(self, scope: Scope, part: exp.Expr, how: Transformation) -> Iterator[Use]:
        """Find what a part of a clause depends on. A name without a table can be an output column (an alias)."""
        if isinstance(part, exp.Column) and not part.table and part.name in self.output(scope).positions:
            yield Use(scope, part.name, how)
        else:
            yield from self._part(scope, part, how)

    def _reference(self, scope: Scope, column: exp.Column) -> Iterator[Use]:
        """Find the source of a column in an expression: in this scope, or in one around it."""
        name, table = column.name, column.table
        while table and table not in scope.sources and scope.parent is not None:
            scope = scope.parent  # from a correlated subquery
        if table in scope.sources:
            yield from self._of_source(scope.sources[table], name)
        else:
            yield from self._in_one_of(_selected_sources(scope), name)

    def _of_source(self, source: exp.Expr | Scope, name: str) -> Iterator[Use]:
        """Return a column of a source; nothing for tables without known columns."""
        if isinstance(source, Scope):
            # A recursive CTE refers to a copy of its first branch that has no sources.
            yield Use(self._scopes.get(id(source.expression), source), name)
        elif source.name in self._columns and name and name != "*":
            yield Use(source.name, name)


def merged(origins: Sequence[Origins]) -> Origins:
    """Merge origins; an origin that occurs several times has all its transformations."""
    if len(origins) == 1:
        return origins[0]
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


def _through(how: Transformation, origins: Origins) -> Origins:
    if how == IDENTITY:
        return origins
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


def _star_parts(star: exp.Expr, name: str) -> list[exp.Expr]:
    node = star.this if isinstance(star, exp.Column) else star
    return [part for part in node.args.get(name) or () if isinstance(part, exp.Expression)]
