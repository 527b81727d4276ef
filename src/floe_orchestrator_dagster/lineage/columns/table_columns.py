"""Columns of the table that a query creates: their names and order, as far as the query determines them.

A database names an expression without an alias, and the second of two columns with one name, in its own way. Such
columns are unknown here. A plain column has the name that it has in its table, down through CTEs and subqueries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sqlglot import exp

from floe_orchestrator_dagster.lineage.columns.qualification import is_complete

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.lineage.columns.qualification import Query

# Expressions that can be several columns, with names that are not in the query.
_SEVERAL_COLUMNS = (exp.Aliases, exp.Columns, exp.Explode, exp.Inline, exp.Unnest)
_STACK = "STACK"  # The same; sqlglot before 30 has no class for this function.
# sqlglot's names of these parts depend on its version.
_WITH, _FROM, _EXCEPT = ("with_", "with"), ("from_", "from"), ("except_", "except")
_MODIFIERS = frozenset({*_EXCEPT, "replace"})
_OTHER_COLUMNS = ("kind", "exclude")  # of a select: ``select as struct`` and ``select * exclude`` in some dialects
_NOT_POSITIONAL = ("by_name", "side", "kind", "on", "pivots")
_ONLY_FILTER = ("SEMI", "ANTI")


@dataclass(frozen=True)
class Columns:
    """Columns of a table, or of a part of a query.

    Attributes:
        names: Names of the columns, with their letter case; empty for a column with an unknown name.
        is_complete: Whether these are all columns, in their order.
        is_open: Whether some columns are those of a table whose columns are unknown. A name that is not among ``names``
            can then be one of them.
    """

    names: tuple[str, ...] = ()
    is_complete: bool = True
    is_open: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """The known names."""
        return tuple(name for name in self.names if name)

    @property
    def are_known(self) -> bool:
        """Whether all columns and their names are known."""
        return self.is_complete and all(self.names)

    def find(self, name: str) -> str:
        """Return a column's name with its letter case; empty when it is unknown."""
        return self._by_name.get(name.lower(), name if self.is_open else "")

    def without(self, names: Iterable[str]) -> Columns:
        """Return the columns except those with one of some names."""
        left_out = {name.lower() for name in names}
        may_be_unnamed = not all(self.names) and not left_out <= set(self._by_name)
        kept = tuple(name for name in self.names if name.lower() not in left_out)
        return replace(self, names=kept, is_complete=self.is_complete and not may_be_unnamed)

    def renamed(self, names: Sequence[str]) -> Columns:
        """Return the columns with other names for the first ones, such as ``t(a, b)``."""
        if not names:
            return self
        kept = self.names[len(names) :] if self.is_complete else ()
        return replace(self, names=(*names, *kept)).distinct()

    def distinct(self) -> Columns:
        """Return the columns, with repeated names as unknown. A database renames columns that a query repeats."""
        if len(self._by_name) == len(self.known):
            return self
        first = {name.lower(): row for row, name in reversed(list(enumerate(self.names)))}
        names = (name if first[name.lower()] == row else "" for row, name in enumerate(self.names))
        return replace(self, names=tuple(names))

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        return {name.lower(): name for name in reversed(self.known)}


_UNKNOWN = Columns(is_complete=False)


def table_columns(query: Query) -> Columns:
    """Return the columns of a table that is created from a query."""
    return _Reader(query).columns(query.tree, {})


def unnamed(query: Query) -> frozenset[str]:
    """Return sqlglot's names, in lower case, of expressions that are neither plain columns nor have an alias."""
    select: exp.Expr = query.tree
    while isinstance(select, (exp.SetOperation, exp.Subquery)):
        select = select.this
    selected = select.expressions if isinstance(select, exp.Select) else []
    return frozenset(
        expression.output_name.lower()
        for expression in selected
        if not isinstance(expression.unnest(), (exp.Alias, exp.Column, exp.Star))
    )


class _Reader:
    """Reads the columns of parts of a query, without recursion along common table expressions and unions."""

    def __init__(self, query: Query) -> None:
        self._relations = {
            name: Columns(tuple(relation.columns), is_complete(relation), not is_complete(relation))
            for name, relation in query.tables.items()
        }
        self._merges_in_place = query.keeps_case

    def columns(self, query: exp.Expr, ctes: Mapping[str, Columns]) -> Columns:
        """Return the columns of a query, which are those of its first branch.

        Args:
            query: The query.
            ctes: Columns of the common table expressions outside of it, by name in lower case.
        """
        is_positional = True
        while isinstance(query, (exp.SetOperation, exp.Subquery)):
            ctes = self._with(query, ctes)
            is_positional = is_positional and not any(query.args.get(name) for name in _NOT_POSITIONAL)
            query = query.this
        if not isinstance(query, exp.Select) or any(query.args.get(name) for name in _OTHER_COLUMNS):
            return _UNKNOWN
        sources = self._sources(query, self._with(query, ctes))
        columns = _concatenated([_projected(expression, sources) for expression in query.expressions]).distinct()
        return columns if is_positional else replace(columns, is_complete=False)

    def _with(self, query: exp.Expr, ctes: Mapping[str, Columns]) -> Mapping[str, Columns]:
        common = _part(query, _WITH)
        if not isinstance(common, exp.With):
            return ctes
        found = dict(ctes)
        for cte in common.expressions:
            found[cte.alias.lower()] = self.columns(cte.this, found).renamed(cte.alias_column_names)
        return found

    def _sources(self, select: exp.Select, ctes: Mapping[str, Columns]) -> _Sources:
        sources = _Sources(merges_in_place=self._merges_in_place)
        first = _part(select, _FROM)
        if isinstance(first, exp.From):
            sources.add(first.this.alias_or_name, self._source(first.this, ctes))
        for join in select.args.get("joins") or ():
            if _word(join, "kind") not in _ONLY_FILTER:
                sources.add(join.this.alias_or_name, self._source(join.this, ctes), join)
        for lateral in select.args.get("laterals") or ():
            sources.add(lateral.alias_or_name, _UNKNOWN)
        return sources

    def _source(self, source: exp.Expr, ctes: Mapping[str, Columns]) -> Columns:
        names = source.alias_column_names
        if source.args.get("pivots") or source.args.get("joins"):
            return _UNKNOWN
        if isinstance(source, exp.Table):
            return self._table(source, ctes).renamed(names)
        if isinstance(source, exp.Values):
            row = source.expressions[0]
            width = len(row.expressions) if isinstance(row, exp.Tuple) else 1
            return Columns(("",) * width).renamed(names)
        query = source.this if isinstance(source, exp.Lateral) else source
        columns = self.columns(query, ctes) if isinstance(query, exp.Subquery) else _UNKNOWN
        return columns.renamed(names)

    def _table(self, table: exp.Table, ctes: Mapping[str, Columns]) -> Columns:
        found = self._relations.get(table.name)
        if found is None and not table.db:
            found = ctes.get(table.name.lower())
        return found or Columns(is_complete=False, is_open=True)


class _Sources:
    """The tables, common table expressions and subqueries that a select reads.

    Attributes:
        all: The columns of all of them, as ``*`` has them.
    """

    def __init__(self, *, merges_in_place: bool) -> None:
        """Start without a source.

        Args:
            merges_in_place: Whether ``*`` has the columns of ``using`` at their place in the left table. According to
                the SQL standard, they are the first columns.
        """
        self.all = Columns()
        self._by_alias: dict[str, Columns] = {}
        self._merges_in_place = merges_in_place

    def add(self, alias: str, columns: Columns, join: exp.Join | None = None) -> None:
        """Add a source, with the join that connects it to the earlier ones."""
        self._by_alias[alias.lower()] = _UNKNOWN if alias.lower() in self._by_alias else columns
        if join is None:
            self.all = _concatenated([self.all, columns])
            return
        shared = self._shared(columns, join)
        is_of_left = _word(join, "side") in {"", "LEFT"}
        uncertain = [name for name in shared if not is_of_left and self.all.find(name) != columns.find(name)]
        first = [name.lower() for name in self.all.names[: len(shared)]]
        is_in_order = self._merges_in_place or first == [name.lower() for name in shared]
        found = _concatenated([self.all.without(uncertain), columns.without(shared)])
        self.all = replace(
            found,
            is_complete=found.is_complete and is_in_order and not uncertain,
            is_open=found.is_open and not uncertain,
        )

    def of(self, alias: str) -> Columns:
        """Return the columns of the source with an alias; of all sources if it is empty."""
        return self._by_alias.get(alias.lower(), _UNKNOWN) if alias else self.all

    def _shared(self, columns: Columns, join: exp.Join) -> list[str]:
        """Return the names of columns that a join merges."""
        if _word(join, "method") == "NATURAL":
            left = {name.lower() for name in self.all.known}
            return [name for name in columns.known if name.lower() in left]
        return [str(column.name) for column in join.args.get("using") or ()]


def _projected(expression: exp.Expr, sources: _Sources) -> Columns:
    """Return the columns of an expression in a select."""
    expression = expression.unnest()
    if isinstance(expression, exp.Star):
        return _starred(expression, sources.all)
    if isinstance(expression, exp.Column):
        columns = sources.of(expression.table)
        name = expression.this
        return _starred(name, columns) if isinstance(name, exp.Star) else Columns((columns.find(name.name),))
    alias = expression.alias if isinstance(expression, exp.Alias) else ""
    return _UNKNOWN if _may_be_several(expression) else Columns((alias,))


def _starred(star: exp.Star, columns: Columns) -> Columns:
    """Return the columns of a ``*`` with its modifiers."""
    excluded = [part for name in _EXCEPT for part in star.args.get(name) or ()]
    if any(value and name not in _MODIFIERS for name, value in star.args.items()) or any(
        part.text("table") for part in excluded
    ):
        return _UNKNOWN
    spelled = {part.alias.lower(): part.alias for part in star.args.get("replace") or ()}
    kept = columns.without([part.name for part in excluded])
    return replace(kept, names=tuple(spelled.get(name.lower(), name) for name in kept.names))


def _may_be_several(expression: exp.Expr) -> bool:
    """Return whether an expression can be several columns, such as DuckDB's ``columns(…)`` and some with ``*``."""
    nodes = expression.walk(prune=lambda node: isinstance(node, exp.Query))
    return any(
        isinstance(node, _SEVERAL_COLUMNS)
        or _function_name(node) == _STACK
        or (isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count))
        for node in nodes
    )


def _function_name(node: exp.Expr) -> str:
    """Return the name of a called function in capital letters; empty for another expression."""
    if isinstance(node, exp.Anonymous):
        return node.name.upper()
    return node.sql_name() if isinstance(node, exp.Func) else ""


def _concatenated(parts: Sequence[Columns]) -> Columns:
    return Columns(
        tuple(name for part in parts for name in part.names),
        is_complete=all(part.is_complete for part in parts),
        is_open=any(part.is_open for part in parts),
    )


def _part(query: exp.Expr, names: Sequence[str]) -> object:
    return next((query.args[name] for name in names if query.args.get(name)), None)


def _word(join: exp.Join, name: str) -> str:
    return str(join.args.get(name) or "").upper()
