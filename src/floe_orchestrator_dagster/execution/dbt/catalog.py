"""Catalog of a warehouse: its tables and views with their columns, and the newest rows of sources.

dbt's adapter answers with one query per database for all tables, and one query per source. Every SQL adapter with a
macro ``get_catalog`` can answer. The identity of a table, which changes with a restored backup, is only known for
PostgreSQL.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.execution.dbt.engine import SourceEngine

TableName: TypeAlias = tuple[str, str, str]
"""Database, schema and name of a table, in lower case."""
EVERY_DATABASE = frozenset({"*"})
"""Stands for all databases of a catalog."""
TABLE, VIEW = "table", "view"
AMBIGUOUS = "ambiguous"
"""Kind of tables whose names differ only in upper and lower case."""
_WITH_IDENTITIES = frozenset({"postgres"})
_QUESTION = """
  {% set kind = table[0] %}
  {% set answer = [] %}
  {% if kind == "relations" %}
    {% set any = api.Relation.create(database=table[1], schema=table[2], identifier="any") %}
    {% set catalog = get_catalog(any.information_schema(), table[2:]) %}
    {% set names = [] %}
    {% for name in catalog.column_names %}{% do names.append(name | lower) %}{% endfor %}
    {% for row in catalog.rows %}
      {% do answer.append([
          row[names.index("table_schema")], row[names.index("table_name")], row[names.index("table_type")],
          row[names.index("column_name")], row[names.index("column_type")] | string
      ]) %}
    {% endfor %}
  {% elif kind == "newest" %}
    {% set relation = api.Relation.create(database=table[1], schema=table[2], identifier=table[3]) %}
    {% if table[5] %}
      {% set query = "select (" ~ table[5] ~ ") as newest, 'query' as number" %}
    {% elif table[6] %}
      {% set query = "select max(" ~ table[4] ~ ") as newest, 'filter' as number from " ~ relation ~ " where "
          ~ table[6] %}
    {% else %}
      {% set query = "select max(" ~ table[4] ~ ") as newest, count(*) as number from " ~ relation %}
    {% endif %}
    {% if table[5] or adapter.get_relation(database=table[1], schema=table[2], identifier=table[3]) %}
      {% set row = run_query(query).rows[0] %}
      {% do answer.extend([none if row[0] is none else row[0] | string, row[1] | string]) %}
    {% endif %}
  {% else %}
    {% for row in run_query(table[1]).rows %}
      {% set cells = [] %}
      {% for cell in row %}{% do cells.append(cell | string) %}{% endfor %}
      {% do answer.append(cells) %}
    {% endfor %}
  {% endif %}
"""
# The file of a table changes when rows are truncated or the table is restored, its oid when it is created.
_IDENTITIES = """
    select n.nspname, c.relname, c.oid::text || '/' || c.relfilenode::text
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v', 'f', 'p', 'm') and lower(n.nspname) in ({})
"""
_DATABASE = """
    select (select oid::text from pg_database where datname = current_database()),
        txid_snapshot_xmax(txid_current_snapshot())::text
"""
_RELATIONS, _NEWEST, _ROWS = "relations", "newest", "rows"
_OF_TABLES, _OF_DATABASE = "identities of tables", "state of the database"


@dataclass(frozen=True)
class Relation:
    """A table or view.

    Attributes:
        kind: ``table``, ``view``, or the database's name of another type.
        columns: Hash of the names and types of its columns.
        identity: Changes when it is created or restored; empty if that is not known.
    """

    kind: str
    columns: str
    identity: str = ""

    @property
    def shape(self) -> str:
        """Type, columns and identity. If they are not those after the last build, something else changed the table."""
        return f"{self.kind} {self.columns} {self.identity}"


@dataclass(frozen=True)
class DatabaseState:
    """The state of a database, to notice an older one that replaces it.

    Attributes:
        identity: Changes with the database.
        written: Increases with each change of the database; None if it does not exist.
    """

    identity: str
    written: int | None


@dataclass(frozen=True)
class Catalog:
    """The tables and views of databases.

    Attributes:
        relations: The tables and views.
        databases: The databases whose tables and views are known.
        state: State of the database; None if it is not known.
        newest: Newest row and number of rows of each source, by unique id.
        errors: Errors by source or database.
    """

    relations: Mapping[TableName, Relation] = field(default_factory=dict)
    databases: frozenset[str] = frozenset()
    state: DatabaseState | None = None
    newest: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def is_known(self, name: TableName) -> bool:
        """Return whether it is known if a table exists."""
        return self.databases == EVERY_DATABASE or name[0] in self.databases


def table_name(node: Mapping[str, Any]) -> TableName:
    """Return the name of the table of a model, seed, snapshot or source."""
    name = node.get("alias") or node.get("identifier") or node.get("name")
    return (_lower(node.get("database")), _lower(node.get("schema")), _lower(name))


def query_catalog(
    engine: SourceEngine, adapter: str, tables: Iterable[Mapping[str, Any]], sources: Mapping[str, Mapping[str, Any]]
) -> Catalog:
    """Query the catalog of the databases of tables, and the newest rows of sources.

    Args:
        engine: The dbt engine with the profile.
        adapter: dbt's name of the adapter.
        tables: Nodes and sources of dbt's manifest whose tables may exist.
        sources: The sources with ``loaded_at_field`` or ``loaded_at_query``, by unique id.
    """
    schemas: dict[str, set[str]] = {}
    for table in tables:
        schemas.setdefault(str(table.get("database") or ""), set()).add(str(table.get("schema") or ""))
    questions: dict[str, Sequence[str | None]] = {
        database: [_RELATIONS, database or None, *sorted(names)] for database, names in schemas.items()
    }
    if schemas and adapter in _WITH_IDENTITIES:
        listed = ", ".join(sorted({f"'{_escaped(name.lower())}'" for names in schemas.values() for name in names}))
        questions |= {_OF_TABLES: [_ROWS, _IDENTITIES.format(listed)], _OF_DATABASE: [_ROWS, _DATABASE]}
    questions |= {unique_id: [_NEWEST, *_source(source)] for unique_id, source in sources.items()}
    answers, errors = dict[str, Any](), dict[str, str]()
    for name, answer, error in engine.answers(_QUESTION, questions):
        (errors if error else answers)[name] = error or answer
    return _catalog(adapter, schemas, answers, errors)


def _catalog(
    adapter: str, schemas: Mapping[str, object], answers: Mapping[str, Any], errors: Mapping[str, str]
) -> Catalog:
    state = None
    if adapter in _WITH_IDENTITIES:
        if _OF_TABLES not in answers or _OF_DATABASE not in answers:
            return Catalog(errors=errors)
        identity, written = answers[_OF_DATABASE][0]
        state = DatabaseState(identity, int(written))
    identities = {(schema.lower(), name.lower()): identity for schema, name, identity in answers.get(_OF_TABLES, ())}
    relations: dict[TableName, Relation] = {}
    for database in schemas:
        rows = [(database, *row) for row in answers.get(database, ())]
        relations |= relations_of(rows, identities)
    known = frozenset(_lower(database) for database in schemas if database in answers)
    newest = {
        one: _version(answer) for one, answer in answers.items() if one not in {*schemas, _OF_TABLES, _OF_DATABASE}
    }
    return Catalog(relations, known, state, {one: found for one, found in newest.items() if found}, errors)


def relations_of(
    rows: Iterable[Sequence[str]], identities: Mapping[tuple[str, str], str] | None = None
) -> dict[TableName, Relation]:
    """Group the columns of tables, each with its database, schema, table, type of table, name and type."""
    columns: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for database, schema, name, kind, column, column_type in rows:
        columns.setdefault((database, schema, name, kind), []).append((column, column_type))
    return relations_with(
        [(*table, hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]) for table, listed in columns.items()],
        identities,
    )


def relations_with(
    tables: Iterable[tuple[str, str, str, str, str]], identities: Mapping[tuple[str, str], str] | None = None
) -> dict[TableName, Relation]:
    """Return tables by name, each with its database, schema, name, type and the hash of its columns."""
    found: dict[TableName, Relation] = {}
    for database, schema, name, kind, columns in tables:
        key = (_lower(database), _lower(schema), _lower(name))
        kind_of_all = AMBIGUOUS if key in found else _kind(kind)
        found[key] = Relation(kind_of_all, columns, (identities or {}).get(key[1:], ""))
    return found


def _kind(kind: str) -> str:
    lower = kind.lower()
    return {"base table": TABLE}.get(lower, lower)


def loading_time(source: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return ``loaded_at_field`` and ``loaded_at_query`` of a source, which can also be in its ``config``."""
    config = source.get("config") or {}
    field_name, query = (source.get(name) or config.get(name) for name in ("loaded_at_field", "loaded_at_query"))
    return (field_name or None, query or None)


def _source(source: Mapping[str, Any]) -> list[str | None]:
    criteria = source.get("freshness") or (source.get("config") or {}).get("freshness") or {}
    names = [source.get("database") or None, source.get("schema"), source.get("identifier") or source.get("name")]
    return [*names, *loading_time(source), criteria.get("filter")]


def _version(answer: Sequence[str | None]) -> str:
    """Return the data version of a source; empty if the source does not exist, or may have rows without a time."""
    newest, number = answer or (None, None)
    return f"{newest} {number}" if newest is not None or number == "0" else ""


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def _lower(text: object) -> str:
    return str(text or "").lower()
