"""Statements and queries that a pull request's build sends to the warehouse through dbt, on any engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, PullRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.execution.dbt.engine import SourceEngine

    Question = Sequence[str | None]

_TABLE, _VIEW, _STATS = "table", "view", "stats"
# Outside of a transaction of dbt, PostgreSQL's driver starts one and DuckDB does not.
_QUESTION = """
  {% set kind = table[0] %}
  {% set answer = [] %}
  {% if kind == "run" %}
    {% do run_query(table[1]) %}
    {% if target.type != "duckdb" %}{% do run_query("commit") %}{% endif %}
  {% else %}
    {% set relation = adapter.get_relation(database=table[1], schema=table[2], identifier=table[3]) %}
    {% if relation and kind == "stats" %}
      {% set columns = [] %}
      {% for column in adapter.get_columns_in_relation(relation) %}
        {% set has_length = not column.is_string() or column.char_size is not none %}
        {% do columns.append([column.name, (column.data_type if has_length else column.dtype) | string]) %}
      {% endfor %}
      {% do answer.append(columns) %}
      {% do answer.append(run_query("select count(*) from " ~ relation).rows[0][0] | int) %}
    {% elif relation and (kind == "view" or not relation.is_view) %}
      {% set copy = api.Relation.create(database=table[4], schema=table[5], identifier=table[6]) %}
      {% if target.type == "duckdb" %}{% do adapter.create_schema(copy) %}{% endif %}
      {% do run_query("create " ~ kind ~ " " ~ copy ~ " as select * from " ~ relation) %}
      {% if target.type != "duckdb" %}{% do run_query("commit") %}{% endif %}
      {% do answer.append("created") %}
    {% endif %}
  {% endif %}
"""


@dataclass(frozen=True)
class TableName:
    """Database, schema and name of a table, as dbt's manifest has them."""

    database: str
    schema: str
    name: str

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> TableName:
        """Return the table of a node or source of dbt's manifest."""
        name = node.get("alias") or node.get("identifier") or node["name"]
        return cls(str(node.get("database") or ""), str(node.get("schema") or ""), str(name))

    @property
    def parts(self) -> tuple[str | None, str, str]:
        """The parts as arguments of a question."""
        return (self.database or None, self.schema, self.name)

    @property
    def folded(self) -> tuple[str, str, str]:
        """The parts in lower case, to compare names of databases that do not distinguish them."""
        return (self.database.lower(), self.schema.lower(), self.name.lower())


@dataclass(frozen=True)
class TableStats:
    """Columns and number of rows of a table or view.

    Attributes:
        columns: Type by name, in the order of the table.
        rows: Number of rows.
    """

    columns: Mapping[str, str]
    rows: int


@dataclass(frozen=True)
class Copies:
    """Tables and views to create with the rows of existing tables.

    Attributes:
        tables: The existing and the new table, by unique id.
        views: The existing table and the new view, by unique id.
    """

    tables: Mapping[str, tuple[TableName, TableName]]
    views: Mapping[str, tuple[TableName, TableName]]


@dataclass(frozen=True)
class Warehouse:
    """A warehouse, queried with the profile of an engine."""

    engine: SourceEngine

    def run(self, statements: Sequence[str], fix: str) -> None:
        """Run statements, each in a separate transaction, also after one that failed.

        Args:
            statements: The statements.
            fix: How to correct a failure.

        Raises:
            PullRequestError: Some failed.
        """
        answers = self._answers({str(row): ["run", statement] for row, statement in enumerate(statements)})
        if problems := [Problem("", error, fix) for _, error in answers.values() if error]:
            raise PullRequestError("warehouse", problems)

    def create(self, copies: Copies) -> dict[str, str]:
        """Create tables and views.

        Returns:
            Why some were not created, by unique id.
        """
        questions: dict[str, Question] = {}
        for kind, pairs in ((_TABLE, copies.tables), (_VIEW, copies.views)):
            questions |= {f"{kind} {one}": [kind, *old.parts, *new.parts] for one, (old, new) in pairs.items()}
        answers = self._answers(questions)
        failed = {}
        for kind, pairs, absent in (
            (_TABLE, copies.tables, "it does not exist or is a view"),
            (_VIEW, copies.views, "it does not exist"),
        ):
            for one in pairs:
                answer, error = answers[f"{kind} {one}"]
                if not answer:
                    failed[one] = error or absent
        return failed

    def stats(self, tables: Iterable[TableName]) -> dict[TableName, TableStats]:
        """Query columns and rows of the tables that exist and can be read."""
        named = {str(row): table for row, table in enumerate(dict.fromkeys(tables))}
        answers = self._answers({row: [_STATS, *table.parts] for row, table in named.items()})
        return {
            named[row]: TableStats({str(name): str(kind) for name, kind in answer[0]}, int(answer[1]))
            for row, (answer, _) in answers.items()
            if answer
        }

    def _answers(self, questions: Mapping[str, Question]) -> dict[str, tuple[Any, str]]:
        if not questions:
            return {}
        return {one: (answer, error) for one, answer, error in self.engine.answers(_QUESTION, questions)}


def literal(text: str) -> str:
    """Return a text as a literal in SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a name as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'
