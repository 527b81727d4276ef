"""Queries of the warehouse through dbt v2: columns and rows of tables, and source freshness.

dbt v2 has neither a command for them nor a Python interface. Therefore ``dbt run-operation`` runs a macro
(:mod:`questions`).

Format of ``sources.json``: https://docs.getdbt.com/reference/artifacts/sources-json
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import BuiltTables, NodeError
from floe_orchestrator_dagster.execution.dbt.questions import OPERATION, Answers, asked, read_answers, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.dbt.v2_run import V2Run, V2Session


_SECONDS = 60  # for columns and rows; a step can end without them
_COLUMNS_OF = "columns of "
_RELATION = "{% set relation = api.Relation.create(database=table[0], schema=table[1], identifier=table[2]) %}"
_TABLES = """
  {% if table[3] %}
    {% set answer = run_query("select count(*) from " ~ table[3]).rows[0][0] | int %}
  {% else %}
    {% set found = [] %}
    {% for column in adapter.get_columns_in_relation(relation) %}
      {% set has_length = not column.is_string() or column.char_size is not none %}
      {% do found.append([column.name, (column.data_type if has_length else column.dtype) | string]) %}
    {% endfor %}
    {% set answer = found %}
  {% endif %}
"""
_NEWEST = """
  {% set newest = "(" ~ table[4] ~ ")" if table[4] else "(select max(" ~ table[3] ~ ") from " ~ relation
      ~ (" where " ~ table[5] if table[5] else "") ~ ")" %}
  {% set query = "select " ~ newest ~ " as max_loaded_at, " ~ current_timestamp() ~ " as snapshotted_at" %}
  {% set row = run_query(query).rows[0] %}
  {% set answer = [none if row[0] is none else row[0] | string, row[1] | string] %}
"""
_PERIOD_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
# The time from which dbt-core computes the age of a table without rows.
_NEVER = "0001-01-01T00:00:00+00:00"
_NO_FIELD = (
    "It has no loaded_at_field, and dbt v2 does not read the warehouse's metadata here. Set loaded_at_field or "
    "loaded_at_query, or dbt.engine: core."
)


def built_tables(
    session: V2Session, built: Sequence[NodeResult], config: DbtConfig
) -> tuple[BuiltTables, Sequence[str]]:
    """Query the configured facts of tables: columns, numbers of rows.

    All columns come first, so that a slow or failing count does not cost any.

    Args:
        session: The invocation that has built them.
        built: The results of the tables.
        config: Settings of dbt's runs.

    Returns:
        The columns and rows, and the error of each query that failed.
    """
    names = {
        result.unique_id: [result.relation.database or None, result.relation.schema, result.relation.alias]
        for result in built
    }
    materializations = config.counted_materializations
    counted = [one for one in built if one.materialized in materializations and one.relation.name]
    queries: dict[str, Sequence[str | None]] = {}
    if config.columns:
        queries.update({f"{_COLUMNS_OF}{unique_id}": [*parts, None] for unique_id, parts in names.items()})
    queries.update({one.unique_id: [*names[one.unique_id], one.relation.name] for one in counted})
    columns: dict[str, dict[str, str]] = {}
    rows: dict[str, int] = {}
    errors: list[str] = []
    for asked_for, answer, error in _asked(session.limited(_SECONDS), queries, _TABLES):
        if error:
            errors.append(error)
        elif not asked_for.startswith(_COLUMNS_OF):
            rows[asked_for] = int(answer)
        elif answer:
            columns[asked_for.removeprefix(_COLUMNS_OF)] = {str(name): str(kind) for name, kind in answer}
    return BuiltTables(columns, rows), errors


def newest_rows(
    session: V2Session, sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str | None, str, str]]:
    """Query the time of the newest row of sources, within the session's time limit.

    Yields:
        Unique id, time of the newest row (None without rows), time of the query, and an error instead of both.
    """
    tables = {unique_id: _source(node) for unique_id, node in sources.items()}
    for unique_id, answer, error in _asked(session, tables, _NEWEST):
        newest, now = (None, "") if error else answer
        yield unique_id, newest, now, error


def _asked(
    session: V2Session, tables: Mapping[str, Sequence[str | None]], question: str
) -> Iterator[tuple[str, Any, str]]:
    return asked(partial(answers, session, _RELATION + question), tables, session.limit)


def _source(node: Mapping[str, Any]) -> list[str | None]:
    criteria = node.get("freshness") or {}
    names = [node.get("database") or None, node.get("schema"), node.get("identifier") or node.get("name")]
    return [*names, node.get("loaded_at_field"), node.get("loaded_at_query"), criteria.get("filter")]


def answers(session: V2Session, question: str, tables: Sequence[Sequence[str | None]], seconds: int | None) -> Answers:
    """Query tables in one ``dbt run-operation``, whose project is in the private directory of the profile.

    dbt runs in the directory of the product's project, so that relative paths and ``.env`` of the profile are found.
    """
    project = write_project(session.profiles, session.dbt.profile.name, tables, question)
    variables = {"DBT_PROJECT_DIR": str(project), "DBT_TARGET_PATH": str(project / "target")}
    with session.limited(seconds).run([*OPERATION], variables=variables, shown=_not_shown) as run:
        for _ in run.values():
            pass
        has_ended = run.timed_out or run.is_successful
        return read_answers(run.reader.answers, _error(run, session.limit), has_ended=has_ended)


def _error(run: V2Run, limit: int | None) -> str:
    """Describe why the command has no answer for the next table."""
    if run.timed_out:
        return f"no answer within the time limit of {limit} s"
    if run.reader.errors:
        return "\n".join(run.reader.errors)
    return "no answer from dbt" if run.is_successful else run.how_ended()


def _not_shown(_line: str) -> None:
    """Drop a line."""


def check_sources(session: V2Session, sources: Mapping[str, Mapping[str, Any]], path: Path) -> Iterator[NodeError]:
    """Query the newest row of each source, and write ``sources.json`` as dbt-core does.

    Args:
        session: The invocation.
        sources: The sources in the manifest of this run, by unique id.
        path: The file of the results.

    Yields:
        The error of each source that could not be queried. Such a source has no result.
    """
    results = []
    asked = {one: node for one, node in sources.items() if node.get("loaded_at_field") or node.get("loaded_at_query")}
    for unique_id in sources.keys() - asked.keys():
        yield NodeError(unique_id, _NO_FIELD)
    for unique_id, newest, now, error in newest_rows(session, asked):
        loaded, looked = _instant(newest or _NEVER), _instant(now)
        if loaded is None or looked is None:
            yield NodeError(unique_id, error or f"{newest!r} is not a timestamp: correct loaded_at_field")
        else:
            results.append(_result(unique_id, loaded, looked, sources[unique_id].get("freshness") or {}))
    path.write_text(json.dumps({"results": results}), encoding="utf-8")


def _result(unique_id: str, loaded: datetime, looked: datetime, criteria: Mapping[str, Any]) -> dict[str, Any]:
    age = (looked - loaded).total_seconds()
    return {
        "unique_id": unique_id,
        "status": _status(age, criteria),
        "max_loaded_at": loaded.isoformat(),
        "snapshotted_at": looked.isoformat(),
        "max_loaded_at_time_ago_in_s": age,
        "criteria": dict(criteria),
        "timing": [],
    }


def _instant(text: str) -> datetime | None:
    """Parse a time; None for other text. As with dbt-core, a time without a timezone is in UTC."""
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _status(age: float, criteria: Mapping[str, Any]) -> str:
    for name, status in (("error_after", "error"), ("warn_after", "warn")):
        limit = criteria.get(name) or {}
        if limit.get("count") is not None and age > limit["count"] * _PERIOD_SECONDS[limit.get("period") or "day"]:
            return status
    return "pass"
