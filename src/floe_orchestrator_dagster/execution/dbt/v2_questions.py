"""Questions to the warehouse through dbt v2: columns of tables, and newest rows of sources.

dbt v2 has neither a Python interface nor a command for them. An operation in an empty project asks, with the product's
profile and dbt's own adapter; it prints an answer for each table.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.v2_events import ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation
    from floe_orchestrator_dagster.execution.dbt.v2_run import V2Session

_SECONDS = 60
_COLUMNS = """
  {% set found = [] %}
  {% for column in adapter.get_columns_in_relation(relation) %}
    {% set has_length = not column.is_string() or column.char_size is not none %}
    {% do found.append([column.name, (column.data_type if has_length else column.dtype) | string]) %}
  {% endfor %}
  {% set answer = found %}
"""
_NEWEST = """
  {% set newest = "(" ~ table[4] ~ ")" if table[4] else "(select max(" ~ table[3] ~ ") from " ~ relation
      ~ (" where " ~ table[5] if table[5] else "") ~ ")" %}
  {% set query = "select " ~ newest ~ " as max_loaded_at, " ~ current_timestamp() ~ " as snapshotted_at" %}
  {% set row = run_query(query).rows[0] %}
  {% set answer = [none if row[0] is none else row[0] | string, row[1] | string] %}
"""
_MACRO = """
{%% macro floe_question() %%}
{%% for table in %(tables)s %%}
  {%% set relation = api.Relation.create(database=table[0], schema=table[1], identifier=table[2]) %%}
  %(question)s
  {{ print("%(prefix)s" ~ tojson([loop.index0, answer])) }}
{%% endfor %%}
{%% endmacro %%}
"""


def table_columns(session: V2Session, relations: Mapping[str, NodeRelation]) -> tuple[dict[str, dict[str, str]], str]:
    """Ask for the columns of tables.

    Args:
        session: The invocation that has built them.
        relations: The tables, by unique id.

    Returns:
        The type by name of all columns of each table, by unique id, and why others are not known.
    """
    unique_ids = list(relations)
    tables = [[relation.database or None, relation.schema, relation.alias] for relation in relations.values()]
    answers, error = _answers(session, tables, _COLUMNS)
    found = {unique_ids[row]: {str(name): str(kind) for name, kind in columns} for row, columns in answers}
    return {unique_id: columns for unique_id, columns in found.items() if columns}, error


def newest_rows(
    session: V2Session, sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str | None, str, str]]:
    """Ask for the time of the newest row of sources.

    Yields:
        Unique id, time of the newest row (None without rows), time of the question, and an error instead of both.
    """
    left = list(sources)
    while left:
        tables = [_source(sources[unique_id]) for unique_id in left]
        answers, error = _answers(session, tables, _NEWEST)
        for row, (newest, now) in answers:
            yield left[row], newest, now, ""
        left = left[len(answers) :]
        if left and error:  # an error ends the operation; it is that of the first table without an answer
            yield left.pop(0), None, "", error


def _source(node: Mapping[str, Any]) -> list[str | None]:
    criteria = node.get("freshness") or {}
    names = [node.get("database") or None, node.get("schema"), node.get("identifier") or node.get("name")]
    return [*names, node.get("loaded_at_field"), node.get("loaded_at_query"), criteria.get("filter")]


def _answers(
    session: V2Session, tables: Sequence[Sequence[str | None]], question: str
) -> tuple[list[tuple[int, Any]], str]:
    """Return the answers for the first tables, each with its row, and the error that ended the operation."""
    project = session.profiles / "question"
    (project / "macros").mkdir(parents=True, exist_ok=True)
    name = json.dumps(session.dbt.profile.name)
    (project / "dbt_project.yml").write_text(f'{{name: floe_question, version: "1.0", profile: {name}}}', "utf-8")
    macro = _MACRO % {"tables": _literal(tables), "question": question, "prefix": ANSWER}
    (project / "macros" / "question.sql").write_text(macro, "utf-8")
    variables = {"DBT_PROJECT_DIR": str(project), "DBT_TARGET_PATH": str(project / "target")}
    with session.quick(_SECONDS).run(["run-operation", "floe_question"], variables=variables, shown=_not_shown) as run:
        for _ in run.values():
            pass
        answers = [json.loads(answer) for answer in run.reader.answers]
        error = "" if run.is_successful else "\n".join(run.reader.errors) or f"no answer within {_SECONDS} s"
    return [(int(row), answer) for row, answer in answers], error


def _literal(tables: Sequence[Sequence[str | None]]) -> str:
    """Write lists of texts as Jinja has them."""
    rows = (
        ", ".join("none" if cell is None else json.dumps(cell, ensure_ascii=False) for cell in row) for row in tables
    )
    return f"[{', '.join(f'[{row}]' for row in rows)}]"


def _not_shown(_line: str) -> None:
    """Drop a line."""
