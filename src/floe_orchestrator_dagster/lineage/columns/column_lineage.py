"""Column lineage of a dbt node, computed from its compiled SQL.

It refers to tables by dbt's unique ids, and is converted to both OpenLineage's facet and Dagster's column metadata.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from floe_orchestrator_dagster.lineage.columns.resolution import Resolver, merged, names_of, projections

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.lineage.columns.resolution import Origins
    from floe_orchestrator_dagster.lineage.columns.transformations import Transformation

logger = logging.getLogger(__name__)

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
_UNKNOWN = "unknown"
_ADDED_BY_SNAPSHOTS = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")
_LONGEST_SQL = 500_000  # characters; parsing a longer query delays the run by seconds


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


@dataclass(frozen=True)
class InputColumn:
    """A column on which output columns depend.

    Attributes:
        unique_id: dbt's unique id of the model, seed, snapshot or source with the column.
        column: Its name, with the letter case of :attr:`Relation.columns` when these are known.
        transformations: The kinds of dependency, sorted.
    """

    unique_id: str
    column: str
    transformations: tuple[Transformation, ...]

    @property
    def is_direct(self) -> bool:
        """Whether the output contains its value, transformed or not."""
        return any(transformation.type == "DIRECT" for transformation in self.transformations)


@dataclass(frozen=True)
class ColumnLineage:
    """The input columns of one relation's columns.

    Attributes:
        fields: Inputs of each output column, in the order of the output. An output column without inputs (a literal,
            a row number) is left out.
        dataset: Inputs that determine the rows: of joins, filters, groups and orders.
    """

    fields: Mapping[str, tuple[InputColumn, ...]] = field(default_factory=lambda: MappingProxyType({}))
    dataset: tuple[InputColumn, ...] = ()

    @property
    def columns_read(self) -> Mapping[str, tuple[str, ...]]:
        """The distinct columns that are read, by unique id."""
        inputs = [*(column for columns in self.fields.values() for column in columns), *self.dataset]
        ids = dict.fromkeys(column.unique_id for column in inputs)
        return {
            unique_id: tuple(dict.fromkeys(column.column for column in inputs if column.unique_id == unique_id))
            for unique_id in ids
        }

    @property
    def direct(self) -> dict[str, list[tuple[str, str]]]:
        """The direct inputs of each output column, as (unique id, column).

        This is for Dagster's ``dagster/column_lineage``, whose ``TableColumnDep`` has no kinds of dependency.
        """
        kept = {
            name: [(column.unique_id, column.column) for column in columns if column.is_direct]
            for name, columns in self.fields.items()
        }
        return {name: columns for name, columns in kept.items() if columns}


def column_lineage(
    sql: str, adapter: str, relations: Iterable[Relation], output: Sequence[str] = ()
) -> ColumnLineage | None:
    """Compute the column lineage of a query; None when sqlglot cannot parse or resolve it.

    Args:
        sql: Compiled SQL, one query.
        adapter: dbt's name of the adapter, such as ``duckdb``. SQL of an unknown adapter is parsed as standard SQL.
        relations: The tables that the query may read. Other tables in it are not inputs.
        output: The query's actual output columns, if known. They resolve a ``*`` over tables with unknown columns.
    """
    if len(sql) > _LONGEST_SQL:
        logger.debug("SQL of %d characters: too long for column lineage", len(sql))
        return None
    try:
        return _column_lineage(sql, adapter, list(relations), output)
    except Exception as error:  # noqa: BLE001  # sqlglot raises many types; lineage must not fail a run
        logger.debug("no column lineage: %s", type(error).__name__)  # the message would quote the SQL
        return None


def queried_columns(node: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """List the columns of a table that come from its query. dbt adds columns to snapshots; projects can rename them.

    Args:
        node: The node in dbt's manifest.
        columns: All columns of its table.
    """
    if node.get("resource_type") != "snapshot":
        return list(columns)
    names = (node.get("config") or {}).get("snapshot_meta_column_names")
    chosen = names if isinstance(names, dict) else {}
    added = {str(chosen.get(name) or name).lower() for name in _ADDED_BY_SNAPSHOTS}
    return [name for name in columns if name.lower() not in added]


def dialect_of(adapter: str) -> str:
    """Return sqlglot's dialect for a dbt adapter; empty when there is none."""
    name = _DIALECTS.get(adapter, adapter)
    return name if sqlglot.Dialect.get(name) else ""


def _column_lineage(
    sql: str, adapter: str, relations: Sequence[Relation], output: Sequence[str]
) -> ColumnLineage | None:
    dialect = dialect_of(adapter)
    statements = [statement for statement in sqlglot.parse(sql, dialect=dialect or None) if statement is not None]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        return None
    tables = _name_tables(statements[0], relations, dialect)
    scope = _resolved_scope(statements[0], tables, dialect)
    if scope is None:
        return None
    columns = {name: frozenset(_folded(relation)) for name, relation in tables.items()}
    complete = frozenset(name for name, relation in tables.items() if _is_complete(relation))
    resolver = Resolver(scope, columns, complete)
    actual = {name.lower(): name for name in output}
    fields = {
        actual.get(name, name): _inputs(resolver.column(scope, name), tables)
        for name in _output_names(scope, resolver, tables, list(actual))
    }
    return ColumnLineage(
        fields=MappingProxyType({name: inputs for name, inputs in fields.items() if inputs}),
        dataset=_inputs(merged(resolver.rows(scope)), tables),
    )


def _output_names(
    scope: Scope, resolver: Resolver, tables: Mapping[str, Relation], actual: Sequence[str]
) -> Sequence[str]:
    """Return the output's columns: those in the query, and for a ``*`` the actual or else the documented ones."""
    written = names_of(scope)
    if len(written) == len(projections(scope)) or actual:
        return written if len(written) == len(projections(scope)) else actual
    documented = ((table, name) for table, relation in tables.items() for name in _folded(relation))
    through = (name for table, name in documented if (table, name) in resolver.column(scope, name))
    return list(dict.fromkeys([*written, *through]))


def _name_tables(query: exp.Expr, relations: Sequence[Relation], dialect: str) -> dict[str, Relation]:
    """Rename each table in ``relations`` to a unique one-part name: dialects differ in the number of name parts.

    Other tables keep their aliases and get a common name for unknown tables.
    """
    known = _relations_by_key(relations, dialect)
    common = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    tables: dict[str, Relation] = {}
    for table in list(query.find_all(exp.Table)):
        key = _key(table)
        found = known.get(key)
        if found is None and (not isinstance(table.this, exp.Identifier) or (len(key) == 1 and key[0] in common)):
            continue  # a function or a CTE
        name = _UNKNOWN if found is None else f"relation_{relations.index(found)}"
        if found is not None:
            tables[name] = found
        alias = table.alias or table.name or name
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        for part in ("catalog", "db"):
            table.set(part, None)
        table.set("this", exp.to_identifier(name))
    return tables


def _relations_by_key(relations: Iterable[Relation], dialect: str) -> dict[tuple[str, ...], Relation]:
    by_key: dict[tuple[str, ...], Relation] = {}
    for relation in relations:
        # Parse it as part of a query, because a relation may be a quoted path or a function over files.
        sql = f"select * from {relation.relation_name}"  # noqa: S608  # parsed, never run
        query = sqlglot.parse_one(sql, dialect=dialect or None)
        table = query.find(exp.Table)
        if table is not None:
            by_key[_key(table)] = relation
    return by_key


def _key(table: exp.Table) -> tuple[str, ...]:
    if isinstance(table.this, exp.Func):
        return (table.this.sql().lower(),)
    return tuple(part.name.lower() for part in table.parts)


def _resolved_scope(query: exp.Query, tables: Mapping[str, Relation], dialect: str) -> Scope | None:
    complete = {name: _folded(relation) for name, relation in tables.items() if _is_complete(relation)}
    try:
        return _scope(query.copy(), complete, dialect)
    except OptimizeError:
        # A name is ambiguous: an output column has it, and a table with incomplete columns may have it.
        return _scope(query, complete | _likely_columns(query, tables), dialect)


def _scope(query: exp.Query, columns: Mapping[str, list[str]], dialect: str) -> Scope | None:
    """Qualify every column with its table, expand stars where columns are known, and fold names to lower case."""
    known: dict[str, object] = {name: dict.fromkeys(names, "text") for name, names in columns.items()}
    folding = f"{dialect or 'postgres'}, normalization_strategy=case_insensitive"
    qualified = qualify(
        query,
        schema=MappingSchema(known, dialect=folding, normalize=False),
        dialect=folding,
        quote_identifiers=False,
        validate_qualify_columns=False,
    )
    return build_scope(qualified)


def _likely_columns(query: exp.Query, tables: Mapping[str, Relation]) -> dict[str, list[str]]:
    """Complete the documented columns of tables with the names in the query that are not aliases of expressions."""
    made = {
        alias.alias.lower()
        for alias in query.find_all(exp.Alias)
        if all(column.name.lower() != alias.alias.lower() for column in alias.find_all(exp.Column))
    }
    used = (column.name.lower() for column in query.find_all(exp.Column))
    likely = [name for name in dict.fromkeys(used) if name and name not in made]
    partial = {name: _folded(relation) for name, relation in tables.items() if not _is_complete(relation)}
    return {name: list(dict.fromkeys([*columns, *likely])) for name, columns in (partial | {_UNKNOWN: []}).items()}


def _inputs(origins: Origins, tables: Mapping[str, Relation]) -> tuple[InputColumn, ...]:
    columns = (
        InputColumn(tables[table].unique_id, _as_written(tables[table], column), tuple(sorted(transformations)))
        for (table, column), transformations in origins.items()
    )
    return tuple(sorted(columns, key=lambda column: (column.unique_id, column.column)))


def _is_complete(relation: Relation) -> bool:
    return bool(relation.columns) and relation.is_complete


def _folded(relation: Relation) -> list[str]:
    return [column.lower() for column in relation.columns]


def _as_written(relation: Relation, column: str) -> str:
    return next((name for name in relation.columns if name.lower() == column), column)
