"""Qualification of a query: each column gets the name of its table, and ``*`` is replaced with the known columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# sqlglot's dialects by dbt's adapters, where the names differ.
_DIALECTS = {
    "athena": "athena",
    "sqlserver": "tsql",
    "synapse": "tsql",
    "fabric": "tsql",
    "glue": "spark",
    "fabricspark": "spark",
    "watsonx_presto": "presto",
    "watsonx_spark": "spark",
    "greenplum": "postgres",
    "alloydb": "postgres",
    "cratedb": "postgres",
    "mysql5": "mysql",
    "mariadb": "mysql",
    "tidb": "mysql",
    "impala": "hive",
    "maxcompute": "hive",
    "vertica": "postgres",
    "redshift_data": "redshift",
    "starburst": "trino",
}
_UNKNOWN = "unknown table"
# Adapters of databases that keep the letter case of a name as it was written, with and without quotes.
_KEEP_THE_CASE = ("duckdb",)


@dataclass(frozen=True)
class Relation:
    """A table or view that SQL may read.

    Attributes:
        unique_id: dbt's unique id.
        relation_name: Its name in SQL, such as ``"shop"."main"."orders"`` or ``'data/orders.csv'``.
        columns: Names of its columns, in order; empty when unknown.
        is_complete: Whether ``columns`` has all columns. Documented columns may be incomplete.
    """

    unique_id: str
    relation_name: str
    columns: Sequence[str] = ()
    is_complete: bool = True


def dialect_of(adapter: str) -> str:
    """Return sqlglot's dialect for a dbt adapter; empty when there is none."""
    name = _DIALECTS.get(adapter, adapter)
    return name if sqlglot.Dialect.get(name) else ""


class Query:
    """A parsed query, in which each known relation has a unique one-part name: dialects differ in the number of parts.

    All other tables get one common name, and keep their aliases.

    Attributes:
        tree: The query.
        tables: The relations that it reads, by their names in ``tree``.
        keeps_case: Whether the database keeps the letter case of names.
    """

    def __init__(self, sql: str, adapter: str, relations: Sequence[Relation]) -> None:
        """Parse SQL.

        Args:
            sql: Compiled SQL.
            adapter: dbt's name of the adapter. SQL of an unknown adapter is parsed as standard SQL.
            relations: The relations that it may read.

        Raises:
            ParseError: The SQL is not one query.
        """
        self.keeps_case = adapter in _KEEP_THE_CASE
        dialect = dialect_of(adapter)
        statements = [statement for statement in sqlglot.parse(sql, dialect=dialect or None) if statement is not None]
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise ParseError("not one query")
        self.tree: exp.Query = statements[0]
        self.tables = _name_tables(self.tree, relations, dialect)
        settings = f"{dialect or 'postgres'}, normalization_strategy=case_insensitive"
        self._folding = sqlglot.Dialect.get_or_raise(settings)

    def folded(self) -> exp.Query:
        """Return a copy with all names in lower case."""
        return normalize_identifiers(self.tree.copy(), dialect=self._folding)

    def qualified(self) -> Scope | None:
        """Return the scope of a copy with qualified columns."""
        complete = {name: folded(relation) for name, relation in self.tables.items() if is_complete(relation)}
        try:
            return self._scope(complete)
        except OptimizeError:
            # A name is ambiguous: an output column has it, and a table with incomplete columns may have it.
            return self._scope(complete | _likely_columns(self.tree, self.tables))

    def _scope(self, columns: Mapping[str, list[str]]) -> Scope | None:
        """Qualify every column with its table, expand stars where columns are known, and fold names to lower case."""
        known: dict[str, object] = {name: dict.fromkeys(names, "text") for name, names in columns.items()}
        qualified = qualify(
            self.tree.copy(),
            schema=MappingSchema(known, dialect=self._folding, normalize=False),
            dialect=self._folding,
            quote_identifiers=False,
            validate_qualify_columns=False,
        )
        return build_scope(qualified)


def is_complete(relation: Relation) -> bool:
    """Return whether all columns of a relation are known."""
    return bool(relation.columns) and relation.is_complete


def folded(relation: Relation) -> list[str]:
    """Return the names of a relation's columns in lower case."""
    return [column.lower() for column in relation.columns]


def _name_tables(query: exp.Expr, relations: Sequence[Relation], dialect: str) -> dict[str, Relation]:
    known = _relations_by_key(relations, dialect)
    common = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    tables: dict[str, Relation] = {}
    for table in list(query.find_all(exp.Table)):
        key = _key(table)
        found = known.get(key)
        if found is None and (not isinstance(table.this, exp.Identifier) or (len(key) == 1 and key[0] in common)):
            continue  # a function or a CTE
        name = _UNKNOWN if found is None else f"relation_{found}"
        if found is not None:
            tables[name] = relations[found]
        alias = table.alias or table.name or name
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        for part in ("catalog", "db"):
            table.set(part, None)
        table.set("this", exp.to_identifier(name))
    return tables


def _relations_by_key(relations: Sequence[Relation], dialect: str) -> dict[tuple[str, ...], int]:
    by_key: dict[tuple[str, ...], int] = {}
    for row, relation in enumerate(relations):
        # Parse it as part of a query, because a relation may be a quoted path or a function over files.
        sql = f"select * from {relation.relation_name}"  # noqa: S608  # parsed, never run
        query = sqlglot.parse_one(sql, dialect=dialect or None)
        table = query.find(exp.Table)
        if table is not None:
            by_key[_key(table)] = row
    return by_key


def _key(table: exp.Table) -> tuple[str, ...]:
    if isinstance(table.this, exp.Func):
        return (table.this.sql().lower(),)
    return tuple(part.name.lower() for part in table.parts)


def _likely_columns(query: exp.Query, tables: Mapping[str, Relation]) -> dict[str, list[str]]:
    """Complete the documented columns of tables with the names in the query that are not aliases of expressions."""
    made = {
        alias.alias.lower()
        for alias in query.find_all(exp.Alias)
        if all(column.name.lower() != alias.alias.lower() for column in alias.find_all(exp.Column))
    }
    used = (column.name.lower() for column in query.find_all(exp.Column))
    likely = [name for name in dict.fromkeys(used) if name and name not in made]
    partial = {name: folded(relation) for name, relation in tables.items() if not is_complete(relation)}
    return {name: list(dict.fromkeys([*columns, *likely])) for name, columns in (partial | {_UNKNOWN: []}).items()}
