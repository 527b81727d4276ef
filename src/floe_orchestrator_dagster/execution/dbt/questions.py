"""Queries of the warehouse through dbt, as a macro of ``dbt run-operation``.

The macro is in a project without models, with the product's profile. It prints a first answer once it is connected,
then one per table. An error ends the command, and another command continues with the next table.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

ANSWER = "floe-answer "
"""Start of a line that the macro prints as an answer."""
OPERATION = ("run-operation", "floe_question")
"""dbt's command that runs the macro."""
_PROJECT = "question"
_MACRO = """
{%% macro floe_question() %%}
{%% do run_query("select 1") %%}
{{ print("%(prefix)s" ~ tojson([-1, none])) }}
{%% for table in %(tables)s %%}
  %(question)s
  {{ print("%(prefix)s" ~ tojson([loop.index0, answer])) }}
{%% endfor %%}
{%% endmacro %%}
"""


@dataclass(frozen=True)
class Answers:
    """The answers of one ``dbt run-operation``.

    Attributes:
        found: The answers for the first tables, in their order.
        error: The error that ended the command: that of the first table without an answer.
        is_last: Whether the same error is expected for all other tables.
    """

    found: list[Any]
    error: str
    is_last: bool


def asked(
    command: Callable[[Sequence[Sequence[str | None]], int | None], Answers],
    tables: Mapping[str, Sequence[str | None]],
    limit: int | None,
) -> Iterator[tuple[str, Any, str]]:
    """Run a query for each table.

    Args:
        command: Runs the queries for tables, within a number of seconds.
        tables: The arguments of each query, by unique id.
        limit: Time limit for all queries in seconds; None for no limit.

    Yields:
        Unique id, answer, and an error instead of the answer.
    """
    left, end = list(tables), None if limit is None else time.monotonic() + limit
    while left:
        seconds = None if end is None else max(1, math.ceil(end - time.monotonic()))
        answers = command([tables[unique_id] for unique_id in left], seconds)
        yield from ((unique_id, answer, "") for unique_id, answer in zip(left, answers.found, strict=False))
        left = left[len(answers.found) :]
        failed = len(left) if answers.is_last else 1
        yield from ((unique_id, None, answers.error) for unique_id in left[:failed])
        left = left[failed:]


def read_answers(lines: Sequence[str], error: str, *, has_ended: bool) -> Answers:
    """Read the answers that a command has printed.

    Args:
        lines: The answers as text.
        error: The error that ended the command.
        has_ended: Whether no other table can have an answer, because of the time limit or a success.
    """
    connected, *found = [json.loads(line) for line in lines] or [None]
    return Answers([answer for _, answer in found], error, has_ended or connected is None)


def write_project(directory: Path, profile: str, tables: Sequence[Sequence[str | None]], question: str) -> Path:
    """Write the project with the macro; returns its directory.

    Args:
        directory: The directory of the project's directory.
        profile: Name of the profile.
        tables: The arguments of each query, in ``table``.
        question: Code in Jinja that sets ``answer``.
    """
    project = directory / _PROJECT
    (project / "macros").mkdir(parents=True, exist_ok=True)
    settings = f'{{name: floe_question, version: "1.0", profile: {json.dumps(profile)}}}'
    (project / "dbt_project.yml").write_text(settings, "utf-8")
    macro = _MACRO % {"tables": _literal(tables), "question": question, "prefix": ANSWER}
    (project / "macros" / "question.sql").write_text(macro, "utf-8")
    return project


def _literal(tables: Sequence[Sequence[str | None]]) -> str:
    """Return lists of strings as a literal in Jinja."""
    rows = (
        ", ".join("none" if cell is None else json.dumps(cell, ensure_ascii=False) for cell in row) for row in tables
    )
    return f"[{', '.join(f'[{row}]' for row in rows)}]"
