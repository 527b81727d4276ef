"""Column lineage of queries that are long, deep or grow when they are expanded."""

# ruff: noqa: S608  # queries are parsed, never run

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.lineage.columns.built_relations import BuiltRelations, column_lineage
from floe_orchestrator_dagster.lineage.columns.qualification import Query, Relation
from floe_orchestrator_dagster.lineage.columns.query_lineage import expanded_size
from floe_orchestrator_dagster.product.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage

COLUMNS = tuple(f"column_{number}" for number in range(30))
TABLE = Relation("model.shop.a", '"db"."s"."a"', COLUMNS)
# sqlglot replaces each name with its expression, so that the query has 2 ** 40 names afterwards.
DOUBLING = ", ".join(f"e{row} + e{row} as e{row + 1}" for row in range(40))
FIX = "Split the model, or set dbt.columns to false. The lineage between tables is not affected."
EXPLOSIVE = f'select column_0 as e0, {DOUBLING} from "db"."s"."a"'


def origins(lineage: ColumnLineage | None) -> Mapping[str, Sequence[tuple[str, str]]]:
    assert lineage is not None
    return lineage.direct


@pytest.mark.parametrize("ctes", [149, 600])
def test_chains_of_ctes_may_be_long(ctes: int) -> None:
    last = [f"c{row} as (select column_0, column_1 + 1 as column_1 from c{row - 1})" for row in range(1, ctes)]
    sql = f'with c0 as (select * from "db"."s"."a"), {", ".join(last)} select * from c{ctes - 1}'

    lineage = column_lineage(sql, "duckdb", [TABLE])

    assert origins(lineage) == {name: [("model.shop.a", name)] for name in COLUMNS[:2]}


def test_chains_of_stars_may_be_long() -> None:
    last = [f"c{row} as (select * from c{row - 1})" for row in range(1, 200)]
    sql = f'with c0 as (select * from "db"."s"."a"), {", ".join(last)} select * from c199'

    lineage = column_lineage(sql, "duckdb", [TABLE])

    assert origins(lineage) == {name: [("model.shop.a", name)] for name in COLUMNS}


def test_unions_may_have_many_long_branches() -> None:
    tables = [Relation(f"model.shop.m{row:03}", f'"db"."s"."m{row}"', COLUMNS) for row in range(60)]
    selected = ", ".join(f"upper({name}) as {name}" for name in COLUMNS)
    sql = " union all ".join(f"select {selected} from {table.relation_name}" for table in tables)

    lineage = column_lineage(sql, "duckdb", tables)

    assert len(sql) > 50_000
    assert origins(lineage) == {name: [(table.unique_id, name) for table in tables] for name in COLUMNS}


def test_expressions_may_be_deep() -> None:
    sql = f'select {" + ".join(["column_0", *COLUMNS[1:2] * 2000])} as total from "db"."s"."a"'

    lineage = column_lineage(sql, "duckdb", [TABLE])

    assert origins(lineage) == {"total": [("model.shop.a", "column_0"), ("model.shop.a", "column_1")]}


def test_a_query_that_grows_too_large_has_no_lineage_and_the_log_names_its_node(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        lineage = column_lineage(EXPLOSIVE, "duckdb", [TABLE], node="model.shop.explosive", cpu_seconds=1)

    assert lineage is None
    limits = "more than 1 s of CPU or 1 GiB of memory"
    expected = f"model.shop.explosive has no column lineage: the analysis of its SQL takes {limits}. {FIX}"
    assert caplog.messages == [expected]


def test_a_query_that_takes_too_long_has_no_lineage_and_the_log_names_its_node(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables = [Relation(f"model.shop.m{row:03}", f'"db"."s"."m{row}"', COLUMNS) for row in range(400)]
    selected = ", ".join(f"upper({name}) as {name}" for name in COLUMNS)
    sql = " union all ".join(f"select {selected} from {table.relation_name}" for table in tables)

    lineage = column_lineage(sql, "duckdb", tables, node="model.shop.long", cpu_seconds=1)

    assert lineage is None
    [message] = caplog.messages
    assert message.startswith(
        "model.shop.long has no column lineage: the analysis of its SQL takes more than 1 s of CPU"
    )


def test_the_process_imports_no_module_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sqlglot.py").write_text("raise RuntimeError", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    sql = f'select column_0, {" + ".join(COLUMNS[1:2] * 2000)} as total from "db"."s"."a"'

    lineage = column_lineage(sql, "duckdb", [TABLE])

    assert origins(lineage)["column_0"] == [("model.shop.a", "column_0")]


def test_a_process_that_fails_is_a_warning_with_the_node(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))

    lineage = column_lineage(" " * 30_000 + 'select column_0 from "db"."s"."a"', "duckdb", [TABLE], node="model.shop.b")

    assert lineage is None
    [message] = caplog.messages
    assert message.startswith("model.shop.b has no column lineage: the process that analyzes its SQL failed (")


def test_the_log_names_a_built_node_with_too_much_sql(caplog: pytest.LogCaptureFixture) -> None:
    built = "model.shop.huge"
    manifest = Manifest(Path(), {"nodes": {built: {"config": {}}}, "sources": {}, "parent_map": {}})
    sql = f"select '{'x' * 500_001}' as text"
    result = NodeResult(built, "huge", "model", "table", "success", compiled_code=sql)

    with caplog.at_level(logging.WARNING):
        lineage = BuiltRelations(manifest, "duckdb").column_lineage(result)

    assert lineage is None
    assert caplog.messages == [f"{built} has no column lineage: its SQL has more than 500000 characters. {FIX}"]


@pytest.mark.parametrize(
    ("sql", "least", "most"),
    [
        ('select column_0 from "db"."s"."a"', 1, 10),
        ('select * from "db"."s"."a"', 30, 40),
        ('with c as (select * from "db"."s"."a") select l.*, r.* from C l cross join c r', 150, 200),
        ('select column_0 as e, e + e as f, f + f as g from "db"."s"."a" where g > 1', 20, 100),
        ('select * from "db"."s"."a" union all select * from "db"."s"."a"', 60, 80),
        (EXPLOSIVE, 2**40, 2**50),
    ],
    ids=["columns", "star", "stars of a CTE", "aliases", "union", "explosive"],
)
def test_the_size_of_a_query_is_estimated_before_it_is_expanded(sql: str, least: int, most: int) -> None:
    query = Query(sql, "duckdb", [TABLE])

    assert least <= expanded_size(query.folded(), {"relation_0": len(COLUMNS)}) <= most
