"""Questions to the warehouse through dbt v2: answers, errors, time-outs and lost connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.config.models import DbtConfig
from floe_orchestrator_dagster.execution.dbt.node_result import BuiltTables, NodeRelation, NodeResult
from floe_orchestrator_dagster.execution.dbt.v2_questions import built_tables, newest_rows
from unit.execution.dbt.scripted_v2 import answers, end, error, process, scripted

if TYPE_CHECKING:
    from pathlib import Path

    from unit.execution.dbt.scripted_v2 import Record, ScriptedDbt

SOURCES = {name: {"schema": "main", "name": name, "loaded_at_field": "at"} for name in ("a", "b", "c")}
TABLES = [
    NodeResult(name, name, "model", kind, "success", relation=NodeRelation("shop", "main", name, f"main.{name}"))
    for name, kind in (("a", "table"), ("b", "view"), ("c", "table"))
]
NEWEST = ["2026-01-01 00:00:00", "2026-01-02 00:00:00"]
FOUND = ("2026-01-01 00:00:00", "2026-01-02 00:00:00", "")


@pytest.fixture
def dbt(tmp_path: Path) -> ScriptedDbt:
    return scripted(tmp_path)


def test_a_source_without_an_answer_of_a_successful_operation_has_an_error_and_is_not_asked_again(
    dbt: ScriptedDbt,
) -> None:
    dbt.will_run(process([*answers(NEWEST), end()]))

    missing = (None, "", "no answer from dbt")
    assert list(newest_rows(dbt.session, SOURCES)) == [("a", *FOUND), ("b", *missing), ("c", *missing)]


def test_an_error_of_one_source_or_table_is_not_that_of_the_next(dbt: ScriptedDbt) -> None:
    failed = process([*answers(), error("no such column"), end(2)], status=1)
    tables = process([*answers([["id", "INTEGER"]], [["id", "TEXT"]]), error("no count"), end(2)], status=1)
    counts = process([*answers(7), end()])
    dbt.will_run(failed, process([*answers(NEWEST, NEWEST), end()]), failed, tables, counts)

    assert list(newest_rows(dbt.session, SOURCES)) == [
        ("a", None, "", "no such column"),
        ("b", *FOUND),
        ("c", *FOUND),
    ]
    found, errors = built_tables(dbt.session, TABLES, DbtConfig())
    assert found == BuiltTables({"b": {"id": "INTEGER"}, "c": {"id": "TEXT"}}, {"c": 7})
    assert errors == ["no such column", "no count"]


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (process([error("connection refused"), end(2)], status=1), "connection refused"),
        (process(status=101), "dbt ended with exit status 101"),
        (process(status=-9), "dbt was killed by SIGKILL"),
    ],
)
def test_without_a_connection_no_other_source_is_asked(dbt: ScriptedDbt, ended: Record, message: str) -> None:
    dbt.will_run(ended)

    assert list(newest_rows(dbt.session, SOURCES)) == [(name, None, "", message) for name in SOURCES]
    assert len(dbt.environments) == 1


def test_a_crash_at_one_source_does_not_end_the_check_of_the_next(dbt: ScriptedDbt) -> None:
    dbt.will_run(process(answers(NEWEST), status=-11), process([*answers(NEWEST), end()]))

    crash = (None, "", "dbt was killed by SIGSEGV")
    assert list(newest_rows(dbt.session, SOURCES)) == [("a", *FOUND), ("b", *crash), ("c", *FOUND)]


def test_the_configured_time_limit_is_that_of_all_sources(tmp_path: Path) -> None:
    dbt = scripted(tmp_path, limit=2)
    dbt.will_run(process(answers(NEWEST), seconds=600))

    late = (None, "", "no answer within the time limit of 2 s")
    assert list(newest_rows(dbt.session, SOURCES)) == [("a", *FOUND), ("b", *late), ("c", *late)]


def test_dbt_runs_in_the_products_project_where_paths_of_the_profile_start(dbt: ScriptedDbt) -> None:
    dbt.will_run(process([*answers(NEWEST, NEWEST, NEWEST), end()]))

    list(newest_rows(dbt.session, SOURCES))

    [environment] = dbt.environments
    assert environment["cwd"] == str(dbt.session.dbt.directory.path)
    assert environment["DBT_PROJECT_DIR"] == str(dbt.session.profiles / "question")
